"""Bring what is stored about clinics in line with what is wanted: plan first, then write only differences.

A clinic's secret is written before its documents, and its documents in one commit, so that a clinic is never
visible in part. Every write holds only for the state that the plan saw.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.domain.clinic import BudgetPolicy, Clinic, ModelConfig, secret_name
from core.domain.clinic_document import (
    BUDGETS,
    CHANNELS,
    DEFAULT,
    MODELS,
    ORGS,
    Data,
    budget_document,
    channel_document,
    model_document,
    org_document,
)
from core.domain.errors import FairlaneError, InvalidInputError
from core.ports.documents import (
    DELETE_FIELD,
    ConflictError,
    Create,
    Delete,
    Document,
    DocumentStore,
    Key,
    Merge,
    Write,
)
from core.ports.line import ChannelCredentials
from core.ports.secrets import SecretStore
from core.usecases.stored_clinics import ById, StoredClinics, read_stored

CONCURRENT = 16
_MODEL_FIELDS = frozenset(model_document(ModelConfig()))
_BUDGET_FIELDS = frozenset(budget_document(BudgetPolicy()))


@dataclass(frozen=True, slots=True)
class WantedClinic:
    """`model` and `budget` are documents of only what the clinic sets for itself; the rest follows the
    documents `default`. None: all of it does."""

    clinic: Clinic
    credentials: ChannelCredentials
    model: Data | None = None
    budget: Data | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """`model` and `budget` are the documents `default`; None leaves them as they are."""

    clinics: tuple[WantedClinic, ...]
    model: Data | None = None
    budget: Data | None = None


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field that differs, None where there is none. The secret's values are never shown."""

    field: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Change:
    """What one clinic (or `default`) needs. `credentials`: set if the secret must be written."""

    org_id: str
    is_new: bool
    fields: tuple[FieldChange, ...]
    writes: tuple[Write, ...]
    credentials: ChannelCredentials | None = None

    @property
    def status(self) -> str:
        if not self.writes and self.credentials is None:
            return "unchanged"
        return "new" if self.is_new else "changed"


@dataclass(frozen=True, slots=True)
class Plan:
    """`left_alone`: clinics that are stored but not wanted: they stay as they are."""

    changes: tuple[Change, ...]
    left_alone: tuple[str, ...]


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
    def __init__(self, documents: DocumentStore, secrets: SecretStore) -> None:
        self._documents = documents
        self._secrets = secrets

    async def plan(self, wanted: Wanted) -> Plan:
        """Compare, write nothing. Raises TakenError, UnavailableError."""
        stored = await read_stored(self._documents)
        ours = {each.clinic.org_id for each in wanted.clinics}
        if taken := list(_taken(wanted.clinics, stored, ours)):
            raise TakenError(taken)
        gate = asyncio.Semaphore(CONCURRENT)

        async def is_secret_stored(each: WantedClinic) -> bool:
            async with gate:
                return await self._secrets.get(each.clinic.secret_name) == _secret(each.credentials)

        known = await asyncio.gather(*(is_secret_stored(each) for each in wanted.clinics))
        channels = {each.clinic.bot_user_id for each in wanted.clinics}
        changes = [
            _change(each, stored, channels, is_stored)
            for each, is_stored in zip(wanted.clinics, known, strict=True)
        ]
        if wanted.model is not None or wanted.budget is not None:
            changes.insert(0, _default_change(wanted, stored))
        return Plan(tuple(changes), tuple(sorted(set(stored.orgs) - ours)))

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


def _change(each: WantedClinic, stored: StoredClinics, wanted: Collection[str], has_secret: bool) -> Change:
    """`wanted`: the bot_user_ids of all wanted clinics, since one may move from a clinic to another."""
    clinic, org_id = each.clinic, each.clinic.org_id
    writes = [
        _write(Key(ORGS, org_id), stored.orgs, org_document(clinic)),
        _write(Key(CHANNELS, clinic.bot_user_id), stored.channels, channel_document(org_id)),
        _write(Key(MODELS, org_id), stored.models, each.model, _MODEL_FIELDS),
        _write(Key(BUDGETS, org_id), stored.budgets, each.budget, _BUDGET_FIELDS),
        *(
            Delete(document.key, if_version=document.version)
            for document in stored.channels.values()
            if document.data.get("org_id") == org_id and document.key.id not in wanted
        ),
    ]
    before = _shown(*(_data(by_id, org_id) for by_id in (stored.orgs, stored.models, stored.budgets)))
    fields = _differences(before, _shown(org_document(clinic), each.model, each.budget))
    if not has_secret:
        fields.append(FieldChange("line.channel_secret", None, "(secret)"))
    return Change(
        org_id,
        org_id not in stored.orgs,
        tuple(fields),
        tuple(write for write in writes if write is not None),
        None if has_secret else each.credentials,
    )


def _default_change(wanted: Wanted, stored: StoredClinics) -> Change:
    keep_model, keep_budget = _data(stored.models, DEFAULT), _data(stored.budgets, DEFAULT)
    model = wanted.model if wanted.model is not None else keep_model
    budget = wanted.budget if wanted.budget is not None else keep_budget
    writes = [
        _write(Key(MODELS, DEFAULT), stored.models, model, _MODEL_FIELDS),
        _write(Key(BUDGETS, DEFAULT), stored.budgets, budget, _BUDGET_FIELDS),
    ]
    fields = _differences(_shown(None, keep_model, keep_budget), _shown(None, model, budget))
    is_new = keep_model is None and keep_budget is None
    return Change(DEFAULT, is_new, tuple(fields), tuple(write for write in writes if write is not None))


def _write(key: Key, stored: ById, wanted: Data | None, owned: Collection[str] = ()) -> Write | None:
    """What makes a document as wanted, None if nothing does. Of its fields, those in `owned` that are not
    wanted are removed; others are somebody else's and stay."""
    document: Document | None = stored.get(key.id)
    if document is None:
        return None if wanted is None else Create(key, wanted)
    if wanted is None:
        return Delete(key, if_version=document.version)
    data = _merge(document.data, wanted, owned)
    return Merge(key, data, if_version=document.version) if data else None


def _merge(old: Data, new: Data, owned: Collection[str]) -> dict[str, Any]:
    data: dict[str, Any] = {name: DELETE_FIELD for name in old if name in owned and name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, Mapping):
            before = before if isinstance(before, Mapping) else {}
            if nested := _merge(before, value, before.keys()):
                data[name] = nested
        elif name not in old or before != value:
            data[name] = value
    return data


def _data(documents: ById, name: str) -> Data | None:
    return documents[name].data if name in documents else None


def _shown(org: Data | None, model: Data | None, budget: Data | None) -> dict[str, Any]:
    """A clinic's fields under the names that they have in the clinics file."""
    shown: dict[str, Any] = {}
    for name, value in (org or {}).items():
        if isinstance(value, Mapping):
            shown |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            shown[f"line.{name}" if name in {"bot_user_id", "channel_id"} else name] = value
    for place, document in (("model", model), ("budget", budget)):
        shown |= {f"{place}.{name}": value for name, value in (document or {}).items()}
    return shown


def _differences(before: Data, after: Data) -> list[FieldChange]:
    names = sorted({*before, *after})
    changes = [FieldChange(name, before.get(name), after.get(name)) for name in names]
    return [change for change in changes if change.old != change.new]
