"""What makes a clinic's documents as wanted: only differences, and only from the state that was seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from core.domain.clinic import Clinic
from core.ports.documents import DELETE_FIELD, Create, Delete, Document, Key, Merge, Write
from core.ports.line import ChannelCredentials
from core.usecases.clinics.documents import (
    BUDGETS,
    CHANNELS,
    DEFAULT,
    MODELS,
    ORGS,
    Data,
    channel_document,
    org_document,
)
from core.usecases.clinics.schema import BUDGET, MODEL
from core.usecases.operate.clinic_state import ClinicState, FieldChange, differences
from core.usecases.operate.stored_clinics import ById, StoredClinics


@dataclass(frozen=True, slots=True)
class WantedClinic:
    """`model` and `budget` are documents of only what the clinic sets for itself; the rest follows the
    documents `default`. None: all of it does. `keeps_mode`: the file does not name the clinic's mode."""

    clinic: Clinic
    credentials: ChannelCredentials
    model: Data | None = None
    budget: Data | None = None
    keeps_mode: bool = False

    def org_document(self, stored: Document | None) -> dict[str, Any]:
        """With the stored mode, where an operator's switch is to outlast what says nothing of it."""
        document = org_document(self.clinic)
        kept = stored.data.get("mode") if stored and self.keeps_mode else None
        return document if kept is None else document | {"mode": kept}


@dataclass(frozen=True, slots=True)
class Wanted:
    """`model` and `budget` are the documents `default`; None leaves them as they are."""

    clinics: tuple[WantedClinic, ...]
    model: Data | None = None
    budget: Data | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What one clinic (or `default`) needs, from the state `before` to the one `after`. `credentials`: set if
    the secret must be written. `version`: the number that it becomes, None if the clinic stays what it is."""

    org_id: str
    is_new: bool
    fields: tuple[FieldChange, ...]
    writes: tuple[Write, ...]
    before: ClinicState
    after: ClinicState
    credentials: ChannelCredentials | None = None
    version: int | None = None

    @property
    def status(self) -> str:
        if not self.writes and self.credentials is None:
            return "unchanged"
        return "new" if self.is_new else "changed"


def change_of(each: WantedClinic, stored: StoredClinics, wanted: Collection[str], has_secret: bool) -> Change:
    """`wanted`: the bot_user_ids of all wanted clinics, since one may move from a clinic to another."""
    clinic, org_id = each.clinic, each.clinic.org_id
    org = each.org_document(stored.orgs.get(org_id))
    writes = [
        _write(Key(ORGS, org_id), stored.orgs, org),
        _write(Key(CHANNELS, clinic.bot_user_id), stored.channels, channel_document(org_id)),
        _write(Key(MODELS, org_id), stored.models, each.model, MODEL),
        _write(Key(BUDGETS, org_id), stored.budgets, each.budget, BUDGET),
        *(
            Delete(document.key, if_version=document.version)
            for document in stored.channels.values()
            if document.data.get("org_id") == org_id and document.key.id not in wanted
        ),
    ]
    documents = [_data(by_id, org_id) for by_id in (stored.orgs, stored.models, stored.budgets)]
    fields = differences(ClinicState(*documents), ClinicState(org, each.model, each.budget))
    if not has_secret:
        fields.append(FieldChange("line.channel_secret", None, "(secret)"))
    return Change(
        org_id,
        org_id not in stored.orgs,
        tuple(fields),
        tuple(write for write in writes if write is not None),
        ClinicState.of(org_id, *documents),
        ClinicState.of(org_id, org, each.model, each.budget),
        None if has_secret else each.credentials,
    )


def change_of_defaults(wanted: Wanted, stored: StoredClinics) -> Change:
    keep_model, keep_budget = _data(stored.models, DEFAULT), _data(stored.budgets, DEFAULT)
    model = wanted.model if wanted.model is not None else keep_model
    budget = wanted.budget if wanted.budget is not None else keep_budget
    writes = [
        _write(Key(MODELS, DEFAULT), stored.models, model, MODEL),
        _write(Key(BUDGETS, DEFAULT), stored.budgets, budget, BUDGET),
    ]
    before, after = (
        ClinicState.of(DEFAULT, None, *each) for each in ((keep_model, keep_budget), (model, budget))
    )
    fields = differences(ClinicState(None, keep_model, keep_budget), ClinicState(None, model, budget))
    needed = tuple(write for write in writes if write is not None)
    return Change(DEFAULT, not before.is_there, tuple(fields), needed, before, after)


def _write(key: Key, stored: ById, wanted: Data | None, owned: Collection[str] = ()) -> Write | None:
    return write_of(key, stored.get(key.id), wanted, owned)


def write_of(
    key: Key, document: Document | None, wanted: Data | None, owned: Collection[str]
) -> Write | None:
    """What makes a document as wanted, None if nothing does. Of its fields, those in `owned` that are not
    wanted are removed; others are somebody else's and stay."""
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
