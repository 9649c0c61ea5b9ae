"""One operator's change of one clinic: its documents and the version, in one commit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from core.ports import log
from core.ports.clock import Clock
from core.ports.documents import ConflictError, Document, DocumentStore, Key, Write
from core.usecases.clinics.documents import BUDGETS, DEFAULT, MODELS, ORGS, Data
from core.usecases.clinics.schema import BUDGET, MODEL
from core.usecases.operate.clinic_changes import write_of
from core.usecases.operate.clinic_state import ClinicState, FieldChange, differences
from core.usecases.operate.clinic_versions import (
    Author,
    latest_versions,
    next_versions,
    number_of,
    with_versions,
)
from core.usecases.operate.stored_clinics import NoSuchClinicError

MAX_TRIES = 20

Decide = Callable[[ClinicState], ClinicState]
"""What the clinic is to be, from what it is. Called again where others change the clinic meanwhile."""


@dataclass(frozen=True, slots=True)
class Changed:
    """`version`: the number of the new version, None if nothing changed."""

    org_id: str
    before: ClinicState
    after: ClinicState
    version: int | None = None

    @property
    def fields(self) -> list[FieldChange]:
        return differences(self.before, self.after)


@dataclass(frozen=True, slots=True)
class _Seen:
    org: Document | None
    model: Document | None
    budget: Document | None

    def state(self, org_id: str) -> ClinicState:
        return ClinicState.of(org_id, *(found.data if found else None for found in self._all))

    @property
    def _all(self) -> tuple[Document | None, ...]:
        return self.org, self.model, self.budget

    def writes(self, org_id: str, before: ClinicState, after: ClinicState) -> list[Write]:
        """Of `orgs/{org_id}` only what changes: what it does not name stays with the defaults."""
        parts: list[tuple[Key, Document | None, Data | None, Collection[str]]] = [
            (Key(MODELS, org_id), self.model, after.model, MODEL),
            (Key(BUDGETS, org_id), self.budget, after.budget, BUDGET),
        ]
        if after.org is not None:
            old = before.org or {}
            org = {name: value for name, value in after.org.items() if name not in old or old[name] != value}
            parts.append((Key(ORGS, org_id), self.org, org, ()))
        writes = (write_of(*part) for part in parts)
        return [write for write in writes if write is not None]


class ChangeClinic:
    """`by`: the operator."""

    def __init__(self, documents: DocumentStore, clock: Clock, by: str) -> None:
        self._documents = documents
        self._clock = clock
        self._by = by

    async def __call__(
        self, org_id: str, what: str, decide: Decide, *, also: Sequence[Write] = (), dry_run: bool = False
    ) -> Changed:
        """`also` is written in the same commit, and where nothing changes, too. `org_id` may be `default`.

        Raises NoSuchClinicError, what `decide` raises, ConflictError if the clinic changes each time,
        UnavailableError.
        """
        for _ in range(MAX_TRIES):
            seen = _Seen(*await self._documents.get_many([Key(c, org_id) for c in (ORGS, MODELS, BUDGETS)]))
            if seen.org is None and org_id != DEFAULT:
                raise NoSuchClinicError(org_id)
            before = seen.state(org_id)
            after = decide(before)
            if dry_run or (after == before and not also):
                return Changed(org_id, before, after)
            author = Author(self._by, what, self._clock.now_ms())
            latest = (await latest_versions(self._documents, {org_id: number_of(seen.org)}))[org_id]
            added = next_versions(latest, org_id, before, after, author)
            writes = with_versions(seen.writes(org_id, before, after), org_id, seen.org, added)
            try:
                await self._documents.commit([*writes, *also])
            except ConflictError:
                continue
            if added:
                log.warning("clinic.changed", org=org_id, version=added[-1].n, what=what, by=self._by)
            return Changed(org_id, before, after, added[-1].n if added else None)
        raise ConflictError(f"the clinic {org_id} keeps changing: try again")
