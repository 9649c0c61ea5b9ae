"""Which clinics use which models, until when; and moving them from one model to another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date

from core.domain.clinic import BudgetPolicy, Clinic, ModelConfig
from core.domain.errors import InvalidInputError
from core.domain.prices import Prices
from core.ports.clock import Clock
from core.ports.documents import DocumentStore
from core.usecases.clinics.documents import DEFAULT, Data, clinic_from
from core.usecases.clinics.price_list import PriceList
from core.usecases.clinics.schema import BUDGET, MODEL, Model, Schema
from core.usecases.operate.change_clinic import ChangeClinic, Changed
from core.usecases.operate.clinic_state import ClinicState
from core.usecases.operate.stored_clinics import StoredClinics, read_stored


def models_of(clinic: Clinic) -> dict[str, str]:
    """What holds for the clinic, by the field that names it."""
    of = {"model": (clinic.model, MODEL), "budget": (clinic.budget, BUDGET)}
    named = {f"{p}.{n}": getattr(value, n) for p, (value, schema) in of.items() for n in _names(schema)}
    return {field: model for field, model in named.items() if model}


def _names(schema: Schema) -> list[str]:
    return [name for name, kind in schema.items() if isinstance(kind, Model)]


@dataclass(frozen=True, slots=True)
class ModelUse:
    """`clinics`: by the field that names the model. `ends`: its announced last day, None if there is none."""

    model: str
    clinics: Mapping[str, tuple[str, ...]]
    ends: date | None
    is_priced: bool

    @property
    def org_ids(self) -> list[str]:
        return sorted({org_id for org_ids in self.clinics.values() for org_id in org_ids})


def models_in_use(clinics: Iterable[Clinic], prices: Prices, now_ms: int) -> list[ModelUse]:
    """By name."""
    used: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for clinic in clinics:
        for field, model in models_of(clinic).items():
            used[model][field].append(clinic.org_id)
    found = []
    for model, by_field in sorted(used.items()):
        is_priced = prices.is_priced(model, now_ms)
        ends = prices.capabilities(model).shutdown if is_priced else None
        found.append(ModelUse(model, {f: tuple(ids) for f, ids in by_field.items()}, ends, is_priced))
    return found


def check_models(clinic: Clinic, prices: Prices, now_ms: int) -> None:
    """Raises InvalidInputError if one of a clinic's models can't be called and charged: no price, past its
    last day, or shorter answers than the clinic's may be."""
    for model in dict.fromkeys(models_of(clinic).values()):
        prices.price_at(model, now_ms)
        if (last := prices.shuts_down_within(model, now_ms, days=-1)) is not None:
            raise InvalidInputError(f"{clinic.org_id}: {model} was shut down on {last.isoformat()}")
        if most := prices.too_long_for(model, clinic.model.max_tokens):
            raise InvalidInputError(
                f"{clinic.org_id}: {model} answers at most {most:,} tokens, max_tokens is "
                f"{clinic.model.max_tokens:,}"
            )


class MoveModel:
    """`by`: the operator."""

    def __init__(self, documents: DocumentStore, clock: Clock, by: str) -> None:
        self._documents = documents
        self._clock = clock
        self._change = ChangeClinic(documents, clock, by)

    async def __call__(self, old: str, new: str, *, dry_run: bool = False) -> list[Changed]:
        """What names `old` names `new` from now on: the defaults, which most clinics follow, and each clinic
        that names it itself. All is checked before anything is written; the same again goes on where an
        error ended it.

        Raises InvalidInputError if `new` can't serve all of them, UnavailableError, ConflictError.
        """
        stored = await read_stored(self._documents)
        prices, now_ms = await PriceList(self._documents, self._clock).current(), self._clock.now_ms()
        default = _moved(DEFAULT, _state(stored, DEFAULT), old, new)
        moving = [DEFAULT] if default != _state(stored, DEFAULT) else []
        for org_id in sorted(stored.orgs):
            state = _state(stored, org_id)
            after = _moved(org_id, state, old, new)
            clinic = clinic_from(
                org_id, after.org or {}, after.model, default.model, after.budget, default.budget
            )
            if new in models_of(clinic).values() and old in models_of(stored.clinic(org_id)).values():
                check_models(clinic, prices, now_ms)
            if after != state:
                moving.append(org_id)
        if moving:
            prices.price_at(new, now_ms)
        return [await self._move(org_id, old, new, dry_run=dry_run) for org_id in moving]

    async def _move(self, org_id: str, old: str, new: str, *, dry_run: bool) -> Changed:
        def moved(state: ClinicState) -> ClinicState:
            return _moved(org_id, state, old, new)

        return await self._change(org_id, f"move-model {old} {new}", moved, dry_run=dry_run)


def _state(stored: StoredClinics, org_id: str) -> ClinicState:
    org = stored.orgs[org_id].data if org_id in stored.orgs else None
    return ClinicState.of(org_id, org, stored.model(org_id), stored.budget(org_id))


def _moved(org_id: str, state: ClinicState, old: str, new: str) -> ClinicState:
    """The defaults name also what they leave to the release."""
    built_in = (ModelConfig(), BudgetPolicy()) if org_id == DEFAULT else (None, None)
    return replace(
        state,
        model=_renamed(state.model, MODEL, built_in[0], old, new),
        budget=_renamed(state.budget, BUDGET, built_in[1], old, new),
    )


def _renamed(data: Data | None, schema: Schema, built_in: object, old: str, new: str) -> Data | None:
    known = data or {}
    named = {name: known.get(name, getattr(built_in, name, None)) for name in _names(schema)}
    changed = {name: new for name, model in named.items() if model == old}
    return {**known, **changed} if changed else data
