"""The document store: read many, commit atomically under preconditions, query simply.

Implementations: `firestore_documents`, `sqlite_documents`; one contract suite runs on both.
Values are None, bool, int, float, str, datetime (aware), lists and dicts of these with str keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from core.domain.errors import FairlaneError

Version = object
"""Opaque: what a store calls the state of one document. Compare only by handing it back."""


class ConflictError(FairlaneError):
    """A precondition did not hold, or others write the same documents at this moment: read again and decide
    anew. A contended commit may have been made all the same; what was read then shows it."""


@dataclass(frozen=True, slots=True)
class Key:
    collection: str
    id: str


@dataclass(frozen=True, slots=True)
class Document:
    key: Key
    data: Mapping[str, Any]
    version: Version


@dataclass(frozen=True, slots=True)
class Increment:
    """As a value anywhere in a Create or Merge: adds to the number there, 0 if there is none."""

    amount: int


class _DeleteField:
    def __repr__(self) -> str:
        return "DELETE_FIELD"


DELETE_FIELD: Final = _DeleteField()
"""As a value in a Merge: removes that field."""


@dataclass(frozen=True, slots=True)
class Create:
    """Write a new document; conflict if it exists."""

    key: Key
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Merge:
    """Merge into a document, nested dicts field by field, everything else replaced.

    Without a precondition it creates what is missing. `if_version`: conflict unless the document is still
    at that version. `if_exists`: conflict if it is missing. With one, an empty `data` is refused.
    """

    key: Key
    data: Mapping[str, Any]
    if_version: Version | None = None
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a document; without a precondition, one that is missing already is fine."""

    key: Key
    if_version: Version | None = None


Write = Create | Merge | Delete


@dataclass(frozen=True, slots=True)
class Where:
    """`array_contains`: the field is a list with this value in it."""

    field: str
    op: Literal["==", "<", "<=", ">", ">=", "array_contains"]
    value: Any


class DocumentStore(Protocol):
    """All methods raise DocumentsUnavailableError when the store does not answer in time."""

    async def get_many(self, keys: Sequence[Key]) -> list[Document | None]:
        """In the order of `keys`, None where there is no document. One round trip.

        Expired documents (`expire_at` in the past) are still returned: stores sweep late.
        """
        ...

    async def commit(self, writes: Sequence[Write]) -> list[Version]:
        """All or nothing; the documents' new versions in the order of `writes` (None for a delete).

        Raises ConflictError if a precondition does not hold, InvalidInputError for what no document can hold.
        When DocumentsUnavailableError is raised, the commit may or may not have happened.
        """
        ...

    async def query(
        self,
        collection: str,
        where: Sequence[Where] = (),
        *,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
    ) -> list[Document]:
        """Documents of one collection. With `order_by`, those without the field are left out.

        Inequalities may stand on one field only, the one ordered by if any (Firestore's rule).
        """
        ...

    async def close(self) -> None: ...
