"""Whether an operator's commit was made, also where the store says an error of one that it made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.domain.errors import DocumentsUnavailableError
from core.ports import log
from core.ports.documents import (
    DELETE_FIELD,
    ConflictError,
    Delete,
    Document,
    DocumentStore,
    Increment,
    Key,
    Version,
    Where,
    Write,
)


class KnownCommits:
    """A document store. A commit that ends in an error is looked for: where the documents are as it would
    have left them, it was made, or somebody else has made the same of them. Else a command would say that it
    was somebody else's change, or that nothing was left to change.

    A turn knows its commits by an id of its own (core.usecases.journal); what operators write is told apart
    by the moment that stands in it."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    async def get_many(self, keys: Sequence[Key]) -> list[Document | None]:
        return await self._documents.get_many(keys)

    async def query(self, collection: str, where: Sequence[Where] = (), **how: Any) -> list[Document]:
        return await self._documents.query(collection, where, **how)

    async def commit(self, writes: Sequence[Write]) -> list[Version]:
        """See the port."""
        try:
            return await self._documents.commit(writes)
        except (ConflictError, DocumentsUnavailableError) as exc:
            try:
                found = await self._documents.get_many([write.key for write in writes])
            except DocumentsUnavailableError:
                raise exc from None
            if not all(map(_is_as_left_by, found, writes)):
                raise
            log.warning("documents.commit_found", detail=str(exc), documents=len(writes))
            return [document.version if document else None for document in found]

    async def close(self) -> None:
        await self._documents.close()


def _is_as_left_by(document: Document | None, write: Write) -> bool:
    if isinstance(write, Delete):
        return document is None
    return document is not None and _holds(document.data, write.data)


def _holds(there: Mapping[str, Any], written: Mapping[str, Any]) -> bool:
    return all(_agrees(name, there, value) for name, value in written.items())


def _agrees(name: str, there: Mapping[str, Any], value: Any) -> bool:
    if value is DELETE_FIELD:
        return name not in there
    if isinstance(value, Increment):  # the rest of its commit tells
        return name in there
    if isinstance(value, Mapping):
        return isinstance(there.get(name), Mapping) and _holds(there[name], value)
    if isinstance(value, list | tuple):
        return name in there and list(there[name] or ()) == list(value)
    return name in there and bool(there[name] == value)
