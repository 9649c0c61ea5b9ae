"""The document store in Firestore (native mode), through Google's asynchronous client.

FIRESTORE_EMULATOR_HOST is honoured by the client itself. Versions are update times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from google.api_core.exceptions import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    GoogleAPICallError,
    InvalidArgument,
    NotFound,
    RetryError,
    ServiceUnavailable,
)
from google.api_core.retry import AsyncRetry
from google.auth.exceptions import GoogleAuthError
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.field_path import FieldPath

from core.adapters import google_credentials
from core.domain.errors import DocumentsUnavailableError, InvalidInputError
from core.ports.documents import (
    DELETE_FIELD,
    ConflictError,
    Create,
    Delete,
    Document,
    Increment,
    Key,
    Merge,
    Version,
    Where,
    Write,
)

T = TypeVar("T")
Snapshot = Any  # the client's own type is generic in a way that only it knows

_CONFLICTS = (AlreadyExists, FailedPrecondition, NotFound, Aborted)
"""Of a commit; after the last, contention, it may have been made. The same answers to a read mean an outage:
no such database, or no index."""
_PAUSES_S = (0.1, 0.5, 0.8)
"""Between the tries of a call that a lost connection ended. gRPC opens another at once, and if that fails too
the next one after about a second."""


class FirestoreDocuments:
    """`timeout_s` bounds each call in all. The client is made on first use: gRPC does not survive the
    server's fork."""

    def __init__(self, project: str, database: str = "(default)", *, timeout_s: float = 5.0) -> None:
        self._project = project
        self._database = database
        self._timeout_s = timeout_s
        self._made: firestore.AsyncClient | None = None

    async def get_many(self, keys: Sequence[Key]) -> list[Document | None]:
        """See the port."""
        references = [self._reference(key) for key in keys]

        async def read() -> dict[str, Snapshot]:
            snapshots = self._client.get_all(references, retry=None)
            return {snapshot.reference.path: snapshot async for snapshot in snapshots}

        found = await self._call(read, again=lambda _: True)
        return [
            _document(key, found[reference.path]) if found[reference.path].exists else None
            for key, reference in zip(keys, references, strict=True)
        ]

    async def commit(self, writes: Sequence[Write]) -> list[Version]:
        """See the port. Never a transaction: a contended one sleeps a second between its tries."""
        batch = self._client.batch()
        try:
            for write in writes:
                self._add(batch, write)
        except (TypeError, ValueError) as exc:  # the client's own, before anything is sent
            raise InvalidInputError(f"Firestore: {exc}") from exc

        async def send() -> Sequence[Any]:
            try:
                return await batch.commit(retry=None)
            except _CONFLICTS as exc:
                raise ConflictError(f"Firestore: {exc.message}") from exc

        results = await self._call(send, again=_was_never_sent)
        return [
            None if isinstance(write, Delete) else result.update_time
            for write, result in zip(writes, results, strict=True)
        ]

    async def query(
        self,
        collection: str,
        where: Sequence[Where] = (),
        *,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
    ) -> list[Document]:
        """See the port."""
        query: Any = self._client.collection(collection)
        for condition in where:
            query = query.where(filter=FieldFilter(condition.field, condition.op, condition.value))
        if order_by:
            direction = firestore.Query.DESCENDING if descending else firestore.Query.ASCENDING
            query = query.order_by(order_by, direction=direction)
        if limit is not None:
            query = query.limit(limit)

        async def read() -> list[Document]:
            return [
                _document(Key(collection, snapshot.id), snapshot)
                async for snapshot in query.stream(retry=AsyncRetry(timeout=self._timeout_s))
            ]

        # A listing may be long; the client itself goes on with one where a lost connection ended it.
        return await self._call(read, again=lambda _: False, timeout_s=60.0)

    async def close(self) -> None:
        if self._made is not None:
            self._made.close()
            self._made = None

    @property
    def _client(self) -> firestore.AsyncClient:
        if self._made is None:
            try:
                self._made = firestore.AsyncClient(project=self._project, database=self._database)
            except GoogleAuthError as exc:
                raise DocumentsUnavailableError(f"Firestore: {google_credentials.missing(exc)}") from exc
        return self._made

    def _reference(self, key: Key) -> firestore.AsyncDocumentReference:
        return self._client.collection(key.collection).document(key.id)

    def _add(self, batch: firestore.AsyncWriteBatch, write: Write) -> None:
        reference = self._reference(write.key)
        match write:
            case Create():
                batch.create(reference, _vendor(write.data))
            case Delete():
                batch.delete(reference, option=self._if(write.if_version))
            case Merge(if_version=None, if_exists=False):
                batch.set(reference, _vendor(write.data), merge=True)
            case Merge():
                # An update is not a merge: fields are named by path, or a map would be replaced whole.
                paths = {path.to_api_repr(): value for path, value in _paths(FieldPath(), write.data)}
                if not paths:
                    raise InvalidInputError(f"Firestore: an update of {write.key.id} with nothing")
                batch.update(reference, paths, option=self._if(write.if_version))

    def _if(self, version: Version | None) -> Any:
        return None if version is None else self._client.write_option(last_update_time=version)

    async def _call(
        self,
        call: Callable[[], Awaitable[T]],
        *,
        again: Callable[[ServiceUnavailable], bool],
        timeout_s: float | None = None,
    ) -> T:
        """`again`: whether the call may be repeated after this failure."""
        try:
            async with asyncio.timeout(timeout_s or self._timeout_s):
                for pause_s in _PAUSES_S:
                    try:
                        return await call()
                    except ServiceUnavailable as exc:
                        if not again(exc):
                            raise
                    await asyncio.sleep(pause_s)
                return await call()
        except InvalidArgument as exc:
            raise InvalidInputError(f"Firestore: {exc.message}") from exc
        except (GoogleAPICallError, RetryError, GoogleAuthError, TimeoutError) as exc:
            raise DocumentsUnavailableError(f"Firestore: {type(exc).__name__}: {exc}") from exc


def _was_never_sent(failure: ServiceUnavailable) -> bool:
    """A commit whose answer was lost may have happened: only gRPC's word that there was no connection at all
    makes repeating it safe."""
    return str(failure.message).startswith("failed to connect")


def _document(key: Key, snapshot: Snapshot) -> Document:
    return Document(key, snapshot.to_dict() or {}, snapshot.update_time)


def _vendor(value: Any) -> Any:
    """Our special values as Firestore's."""
    if value is DELETE_FIELD:
        return firestore.DELETE_FIELD
    if isinstance(value, Increment):
        return firestore.Increment(value.amount)
    if isinstance(value, Mapping):
        return {name: _vendor(inner) for name, inner in value.items()}
    return value


def _paths(prefix: FieldPath, data: Mapping[str, Any]) -> Iterator[tuple[FieldPath, Any]]:
    for name, value in data.items():
        path = FieldPath(*prefix.parts, name)
        if isinstance(value, Mapping) and value:
            yield from _paths(path, value)
        else:
            yield path, _vendor(value)
