"""The document store in Firestore (native mode), over the client's own channel.

FIRESTORE_EMULATOR_HOST is honoured, as by the client. Versions are update times.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import grpc.aio
from google.api_core.gapic_v1.routing_header import to_grpc_metadata
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1.services.firestore.transports import (
    FirestoreGrpcAsyncIOTransport as _Transport,
)
from google.cloud.firestore_v1.types import BatchGetDocumentsResponse, CommitResponse, RunQueryResponse

from core.adapters import google_credentials
from core.adapters.firestore_messages import Messages, document_of
from core.domain.errors import DocumentsUnavailableError, InvalidInputError
from core.ports.documents import ConflictError, Delete, Document, Key, Version, Where, Write

T = TypeVar("T")

_CONFLICTS = frozenset(
    {
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ABORTED,
    }
)
"""Of a commit; after the last, contention, it may have been made. The same answers to a read mean an outage:
no such database, or no index."""
_PAUSES_S = (0.1, 0.5, 0.8)
"""Between the tries of a call that a lost connection ended. gRPC opens another at once, and if that fails too
the next one after about a second."""
_LISTING_S = 60.0
_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
]
"""As the client sets it."""


class FirestoreDocuments:
    """`timeout_s` bounds each call in all. The channel is opened on first use: gRPC does not survive the
    server's fork."""

    def __init__(self, project: str, database: str = "(default)", *, timeout_s: float = 5.0) -> None:
        self._project = project
        self._timeout_s = timeout_s
        self._database = f"projects/{project}/databases/{database}"
        self._messages = Messages(self._database)
        self._made: _Calls | None = None

    async def get_many(self, keys: Sequence[Key]) -> list[Document | None]:
        """See the port."""
        if not keys:
            return []
        try:
            names = [self._messages.name(key) for key in keys]
            request = self._messages.reading(names)
        except (TypeError, ValueError) as exc:
            raise InvalidInputError(f"Firestore: {exc}") from exc

        async def read() -> dict[str, Document]:
            answers = self._calls.read(request)
            return {a.found.name: document_of(a.found) async for a in answers if a.HasField("found")}

        found = await self._call(read, again=lambda _: True)
        return [found.get(name) for name in names]

    async def commit(self, writes: Sequence[Write]) -> list[Version]:
        """See the port. Never a transaction: a contended one sleeps a second between its tries."""
        try:
            request = self._messages.committing(writes)
        except (TypeError, ValueError) as exc:  # protobuf's, too, before anything is sent
            raise InvalidInputError(f"Firestore: {exc}") from exc

        async def send() -> Any:
            try:
                return await self._calls.commit(request)
            except grpc.aio.AioRpcError as exc:
                if exc.code() in _CONFLICTS:
                    raise ConflictError(f"Firestore: {exc.details()}") from exc
                raise

        answer = await self._call(send, again=_was_never_sent)
        return [
            None if isinstance(write, Delete) else result.update_time
            for write, result in zip(writes, answer.write_results, strict=True)
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
        request = self._messages.querying(collection, where, order_by, descending=descending, limit=limit)

        async def read() -> list[Document]:
            answers = self._calls.query(request)
            return [document_of(a.document) async for a in answers if a.HasField("document")]

        # A listing may be long.
        return await self._call(read, again=lambda _: True, timeout_s=max(_LISTING_S, self._timeout_s))

    async def close(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            await made.channel.close()

    @property
    def _calls(self) -> _Calls:
        if self._made is None:
            try:
                self._made = _Calls(self._database)
            except GoogleAuthError as exc:
                raise DocumentsUnavailableError(f"Firestore: {google_credentials.missing(exc)}") from exc
        return self._made

    async def _call(
        self,
        call: Callable[[], Awaitable[T]],
        *,
        again: Callable[[grpc.aio.AioRpcError], bool],
        timeout_s: float | None = None,
    ) -> T:
        """`again`: whether the call may be repeated after this failure, a server that is unavailable."""
        try:
            async with asyncio.timeout(timeout_s or self._timeout_s):
                for pause_s in _PAUSES_S:
                    try:
                        return await call()
                    except grpc.aio.AioRpcError as exc:
                        if exc.code() is not grpc.StatusCode.UNAVAILABLE or not again(exc):
                            raise
                    await asyncio.sleep(pause_s)
                return await call()
        except grpc.aio.AioRpcError as exc:
            if exc.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise InvalidInputError(f"Firestore: {exc.details()}") from exc
            raise DocumentsUnavailableError(f"Firestore: {exc.code().name}: {exc.details()}") from exc
        except (GoogleAuthError, TimeoutError) as exc:
            raise DocumentsUnavailableError(f"Firestore: {type(exc).__name__}: {exc}") from exc


class _Calls:
    """Firestore's methods on a channel of the client's, without what the client wraps around them: retries,
    its own time-out, headers built anew, a task and a log record for each call."""

    def __init__(self, database: str) -> None:
        """Raises GoogleAuthError where there are no credentials."""
        metadata = [("google-cloud-resource-prefix", database), to_grpc_metadata((("database", database),))]
        if emulator := os.environ.get("FIRESTORE_EMULATOR_HOST"):
            self.channel = grpc.aio.insecure_channel(emulator, options=_CHANNEL)
            metadata.append(("authorization", "Bearer owner"))
        else:
            self.channel = _Transport.create_channel(_Transport.DEFAULT_HOST, options=_CHANNEL)

        def bound(kind: str, method: str, answer: Any) -> Any:
            path, read = f"/google.firestore.v1.Firestore/{method}", answer.pb().FromString
            return partial(getattr(self.channel, kind)(path, _serialized, read), metadata=metadata)

        self.read = bound("unary_stream", "BatchGetDocuments", BatchGetDocumentsResponse)
        self.query = bound("unary_stream", "RunQuery", RunQueryResponse)
        self.commit = bound("unary_unary", "Commit", CommitResponse)


def _serialized(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _was_never_sent(failure: grpc.aio.AioRpcError) -> bool:
    """A commit whose answer was lost may have happened: only gRPC's word that there was no connection at all
    makes repeating it safe."""
    return str(failure.details()).startswith("failed to connect")
