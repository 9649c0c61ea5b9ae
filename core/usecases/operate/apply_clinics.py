"""Bring what is stored about clinics in line with what is wanted: plan first, then write only differences.

A clinic's secret is written before its documents, and its documents with their version in one commit, so that
a clinic is never visible in part. Every write holds only for the state that the plan saw.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from core.domain.clinic import Clinic, secret_name
from core.domain.errors import FairlaneError, InvalidInputError
from core.ports.clock import Clock
from core.ports.documents import ConflictError, DocumentStore
from core.ports.line import ChannelCredentials
from core.ports.secrets import SecretStore
from core.usecases.clinics.documents import DEFAULT, clinic_from, org_document
from core.usecases.operate.clinic_changes import Change, Wanted, WantedClinic, change_of, change_of_defaults
from core.usecases.operate.clinic_versions import (
    Author,
    latest_versions,
    next_versions,
    number_of,
    with_versions,
)
from core.usecases.operate.stored_clinics import StoredClinics, read_stored

CONCURRENT = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """`left_alone`: clinics that are stored but not wanted: they stay as they are. `as_read`: as turns will
    read them, the wanted clinics, one that says nothing (`default`), and those left alone that new defaults
    change."""

    changes: tuple[Change, ...]
    left_alone: tuple[str, ...]
    as_read: tuple[Clinic, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """A wanted clinic's `field` belongs to `owner`, a stored clinic that is not among the wanted."""

    org_id: str
    field: str
    owner: str


class TakenError(InvalidInputError):
    def __init__(self, taken: Sequence[Taken]) -> None:
        super().__init__("; ".join(f"{t.org_id}: {t.field} belongs to {t.owner}" for t in taken))
        self.taken = taken


class IncompleteError(FairlaneError):
    """Some clinics were not written, the others were; the same again goes on where this ended."""


class ApplyClinics:
    """`by`: the operator."""

    def __init__(self, documents: DocumentStore, secrets: SecretStore, clock: Clock, by: str) -> None:
        self._documents = documents
        self._secrets = secrets
        self._clock = clock
        self._by = by

    async def plan(self, wanted: Wanted) -> Plan:
        """Compare, write nothing. Raises TakenError, UnavailableError; InvalidInputError naming the field for
        what could be written but not be read: a clinic with it would answer nobody."""
        stored = await read_stored(self._documents)
        ours = {each.clinic.org_id for each in wanted.clinics}
        if taken := list(_taken(wanted.clinics, stored, ours)):
            raise TakenError(taken)
        read = tuple(as_read(wanted, stored, ours))
        gate = asyncio.Semaphore(CONCURRENT)

        async def is_secret_stored(each: WantedClinic) -> bool:
            async with gate:
                try:
                    return await self._secrets.get(each.clinic.secret_name) == _secret(each.credentials)
                except InvalidInputError:  # whatever it is, it is not this
                    return False

        known = await asyncio.gather(*(is_secret_stored(each) for each in wanted.clinics))
        channels = {each.clinic.bot_user_id for each in wanted.clinics}
        changes = [
            change_of(each, stored, channels, is_stored)
            for each, is_stored in zip(wanted.clinics, known, strict=True)
        ]
        if wanted.model is not None or wanted.budget is not None:
            changes.insert(0, change_of_defaults(wanted, stored))
        versioned = await self._versioned(changes, stored)
        return Plan(versioned, tuple(sorted(set(stored.orgs) - ours)), read)

    async def _versioned(self, changes: Sequence[Change], stored: StoredClinics) -> tuple[Change, ...]:
        """Each with the version that it makes."""
        author = Author(self._by, "apply", self._clock.now_ms())
        needed = [change.org_id for change in changes if change.status != "unchanged"]
        latest = await latest_versions(self._documents, {o: number_of(stored.orgs.get(o)) for o in needed})

        def versioned(change: Change) -> Change:
            org_id, has_new_secret = change.org_id, change.credentials is not None
            added = next_versions(
                latest.get(org_id),
                org_id,
                change.before,
                change.after,
                author,
                has_new_secret=has_new_secret,
            )
            writes = with_versions(change.writes, org_id, stored.orgs.get(org_id), added)
            return replace(change, writes=writes, version=added[-1].n if added else None)

        return tuple(map(versioned, changes))

    async def apply(self, plan: Plan, on_done: Callable[[Change], None] = lambda _: None) -> None:
        """Write the plan, the defaults first. Raises IncompleteError after all has been tried."""
        gate = asyncio.Semaphore(CONCURRENT)

        async def write(change: Change) -> str | None:
            async with gate:
                try:
                    if change.credentials is not None:
                        name = secret_name(change.org_id)
                        await self._secrets.put(name, _secret(change.credentials))
                    if change.writes:
                        await self._documents.commit(change.writes)
                except ConflictError:
                    return f"{change.org_id}: was changed by someone else meanwhile"
                except FairlaneError as exc:
                    return f"{change.org_id}: {exc}"
            on_done(change)
            return None

        defaults = [change for change in plan.changes if change.org_id == DEFAULT]
        others = [change for change in plan.changes if change.org_id != DEFAULT]
        failed: list[str] = []
        for group in (defaults, others):
            if not failed:
                failed += filter(None, await asyncio.gather(*(write(change) for change in group)))
        if failed:
            raise IncompleteError(
                f"{len(failed)} of {len(plan.changes)} were not applied: run the same command again\n"
                + "\n".join(failed)
            )


def _secret(credentials: ChannelCredentials) -> dict[str, str]:
    return {"channel_id": credentials.channel_id, "channel_secret": credentials.channel_secret}


def as_read(wanted: Wanted, stored: StoredClinics, ours: Collection[str]) -> Iterator[Clinic]:
    """See Plan. `ours`: the wanted clinics."""
    model = wanted.model if wanted.model is not None else stored.model(DEFAULT)
    budget = wanted.budget if wanted.budget is not None else stored.budget(DEFAULT)
    if wanted.model is not None or wanted.budget is not None:
        yield clinic_from(DEFAULT, {}, model, None, budget, None)
    for each in wanted.clinics:
        org_id, document = each.clinic.org_id, org_document(each.clinic)
        yield clinic_from(org_id, document, each.model, model, each.budget, budget)
    for org_id in sorted(set(stored.orgs) - set(ours)):
        own = stored.model(org_id), stored.budget(org_id)
        with suppress(InvalidInputError):  # what can't be read before is nothing that the plan breaks
            before = stored.clinic(org_id)
            after = clinic_from(org_id, stored.orgs[org_id].data, own[0], model, own[1], budget)
            if after != before:
                yield after


def _taken(wanted: Iterable[WantedClinic], stored: StoredClinics, ours: Collection[str]) -> Iterator[Taken]:
    others = {org_id: doc.data for org_id, doc in stored.orgs.items() if org_id not in ours}
    by_channel = {str(data.get("channel_id")): org_id for org_id, data in others.items()}
    for each in wanted:
        clinic = each.clinic
        channel = stored.channels.get(clinic.bot_user_id)
        owner = str(channel.data.get("org_id")) if channel else None
        if owner in others:
            yield Taken(clinic.org_id, "line.bot_user_id", str(owner))
        if clinic.channel_id in by_channel:
            yield Taken(clinic.org_id, "line.channel_id", by_channel[clinic.channel_id])
