"""A clinic's versions: one for each change, whatever command made it.

This module is the one place that knows the document `org_versions/{org_id}:{n}`:

    org_id, n            1, 2, 3 …; `orgs/{org_id}.version` names the latest: a turn reads it with its clinic
    at_ms, by, what      when, by whom (core.ops.operator), by which command
    fields               the names of what changed
    org, model, budget   the documents from then on (core.usecases.operate.clinic_state), null for none

A version is written in the commit of its change, and is new there: of two changes at once, one is made. What
was stored before there were versions, or was edited past the commands, becomes a version of its own, FOUND,
by nobody, with the next change. Versions are kept for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core.domain.errors import InvalidInputError
from core.ports.documents import Create, Document, DocumentStore, Key, Merge, Where, Write
from core.usecases.clinics.documents import ORGS
from core.usecases.operate.clinic_state import ClinicState, FieldChange, differences

COLLECTION = "org_versions"
FOUND = "found as stored"
REMOVED = "remove"
_AT_ONCE = 16


class NoSuchVersionError(InvalidInputError):
    def __init__(self, org_id: str, n: int) -> None:
        super().__init__(
            f"N {n}: {org_id} has no such version; `fairlane clinics history {org_id}` lists them"
        )


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes a clinic, by which command, when (Unix ms)."""

    by: str
    what: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ClinicVersion:
    org_id: str
    n: int
    author: Author
    fields: tuple[str, ...] = ()
    state: ClinicState = field(default_factory=ClinicState)

    @property
    def key(self) -> Key:
        return version_key(self.org_id, self.n)

    def encode(self) -> dict[str, Any]:
        return {
            "org_id": self.org_id,
            "n": self.n,
            "at_ms": self.author.at_ms,
            "by": self.author.by,
            "what": self.author.what,
            "fields": list(self.fields),
            **self.state.encode(),
        }

    @classmethod
    def decode(cls, data: Mapping[str, Any]) -> ClinicVersion:
        org_id = str(data["org_id"])
        author = Author(str(data.get("by") or ""), str(data.get("what") or ""), int(data.get("at_ms") or 0))
        fields, state = tuple(data.get("fields") or ()), ClinicState.decode(org_id, data)
        return cls(org_id, int(data["n"]), author, fields, state)


def version_key(org_id: str, n: int) -> Key:
    return Key(COLLECTION, f"{org_id}:{n}")


def number_of(org: Document | None) -> int:
    """Of the latest version; 0 if `orgs/{org_id}` names none."""
    stored = org.data.get("version") if org else None
    return stored if isinstance(stored, int) else 0


def next_versions(
    latest: ClinicVersion | None,
    org_id: str,
    before: ClinicState,
    after: ClinicState,
    author: Author,
    *,
    has_new_secret: bool = False,
) -> list[ClinicVersion]:
    """What is to be added: nothing where nothing changes."""
    changes = differences(before, after)
    if has_new_secret and before.is_there:
        changes.append(FieldChange("line.channel_secret", None, None))
    if not (changes or has_new_secret or before.is_there != after.is_there):
        return []
    n, known = (latest.n, latest.state) if latest else (0, ClinicState())
    added = []
    if before.is_there and known != before:
        found = replace(author, by="", what=FOUND)
        added.append(ClinicVersion(org_id, n + 1, found, _names(known, differences(known, before)), before))
    added.append(ClinicVersion(org_id, n + len(added) + 1, author, _names(before, changes), after))
    return added


def _names(before: ClinicState, changes: Iterable[FieldChange]) -> tuple[str, ...]:
    """Of what changed; of what was not there before, nothing in particular."""
    return tuple(change.field for change in changes) if before.is_there else ()


def with_versions(
    writes: Sequence[Write], org_id: str, org: Document | None, added: Sequence[ClinicVersion]
) -> tuple[Write, ...]:
    """A change's writes together with its versions. `org`: the clinic's document as it was seen."""
    if not added:
        return tuple(writes)
    number, key = {"version": added[-1].n}, Key(ORGS, org_id)
    numbered = [
        replace(write, data={**write.data, **number})
        if write.key == key and isinstance(write, Create | Merge)
        else write
        for write in writes
    ]
    if org is not None and all(write.key != key for write in writes):
        numbered.append(Merge(key, number, if_version=org.version))
    return (*numbered, *(Create(version.key, version.encode()) for version in added))


async def latest_versions(
    documents: DocumentStore, numbers: Mapping[str, int]
) -> dict[str, ClinicVersion | None]:
    """By org_id. `numbers`: what their documents name as their latest, 0 if nothing."""
    named = [version_key(org_id, n) for org_id, n in numbers.items() if n]
    read = await documents.get_many(named) if named else []
    found = {document.key: ClinicVersion.decode(document.data) for document in read if document}
    gate = asyncio.Semaphore(_AT_ONCE)

    async def latest(org_id: str, n: int) -> tuple[str, ClinicVersion | None]:
        if (version := found.get(version_key(org_id, n))) is not None:
            return org_id, version
        async with gate:  # a new clinic, one from before, one that was removed: whatever there is of it
            versions = await versions_of(documents, org_id)
        return org_id, versions[0] if versions else None

    return dict(await asyncio.gather(*(latest(org_id, n) for org_id, n in numbers.items())))


async def versions_of(documents: DocumentStore, org_id: str) -> list[ClinicVersion]:
    """All, the newest first."""
    found = await documents.query(COLLECTION, [Where("org_id", "==", org_id)])
    versions = [ClinicVersion.decode(document.data) for document in found]
    return sorted(versions, key=lambda version: -version.n)


async def find_version(documents: DocumentStore, org_id: str, n: int) -> ClinicVersion:
    """Raises NoSuchVersionError."""
    (document,) = await documents.get_many([version_key(org_id, n)])
    if document is None:
        raise NoSuchVersionError(org_id, n)
    return ClinicVersion.decode(document.data)
