"""Reading and changing `org_ai_budgets/{org_id|default}`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import Decimal

from core.domain.clinic import BudgetPolicy
from core.domain.errors import InvalidInputError
from core.domain.money import to_micro_baht
from core.ports.clock import Clock
from core.ports.documents import DocumentStore, Key
from core.usecases.clinics.documents import (
    BUDGETS,
    DEFAULT,
    MODELS,
    ORGS,
    budget_document,
    budget_from,
    model_from,
)
from core.usecases.clinics.price_list import PriceList
from core.usecases.operate.change_clinic import ChangeClinic
from core.usecases.operate.clinic_state import ClinicState
from core.usecases.operate.stored_clinics import NoSuchClinicError


@dataclass(frozen=True, slots=True)
class Changes:
    """What an operator wants changed; None leaves a field as it is. `fallback_model` "none" takes it away."""

    daily_budget_baht: Decimal | None = None
    hard_stop_enabled: bool | None = None
    model_downgrade_enabled: bool | None = None
    downgrade_threshold: Decimal | None = None
    fallback_model: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The policy that holds for `org_id`; `own` are the fields that it has set for itself."""

    org_id: str
    policy: BudgetPolicy
    own: tuple[str, ...]


async def find_policy(documents: DocumentStore, org_id: str) -> Found:
    """Raises InvalidInputError if there is no such clinic, or if a document can't be read."""
    own, default, clinic = await documents.get_many(
        [Key(BUDGETS, org_id), Key(BUDGETS, DEFAULT), Key(ORGS, org_id)]
    )
    if clinic is None and org_id != DEFAULT:
        raise NoSuchClinicError(org_id)
    set_here = own.data if own else {}
    policy = budget_from(f"{BUDGETS}/{org_id}", {**(default.data if default else {}), **set_here})
    return Found(org_id, policy, tuple(f.name for f in fields(BudgetPolicy) if f.name in set_here))


async def change_policy(
    documents: DocumentStore, clock: Clock, by: str, org_id: str, changes: Changes
) -> Found:
    """Check everything, then write what changes: the rest goes on to follow the default. `by`: the operator.

    Raises InvalidInputError naming option and remedy.
    """
    found = await find_policy(documents, org_id)
    named = {f.name: getattr(changes, f.name) for f in fields(changes)}
    wanted = {name: value for name, value in named.items() if value is not None}
    if changes.fallback_model == "none":
        wanted["fallback_model"] = None
    elif changes.fallback_model:
        await _check_fallback(documents, clock, org_id, changes.fallback_model)
    policy = replace(found.policy, **wanted)
    _check(policy)
    document = budget_document(policy)
    budget_from(f"{BUDGETS}/{org_id}", document)  # what can be written but not be read would stop the clinic
    data = {name: value for name, value in document.items() if name in wanted}

    def changed(state: ClinicState) -> ClinicState:
        return replace(state, budget={**(state.budget or {}), **data})

    await ChangeClinic(documents, clock, by)(org_id, "budgets set", changed)
    return Found(org_id, policy, tuple(f.name for f in fields(policy) if f.name in {*found.own, *wanted}))


async def _check_fallback(documents: DocumentStore, clock: Clock, org_id: str, model: str) -> None:
    """It has a price, and may answer as long as the clinic's answers may be."""
    prices = await PriceList(documents, clock).current()
    prices.price_at(model, clock.now_ms())
    found = await documents.get_many([Key(MODELS, DEFAULT), Key(MODELS, org_id)])
    set_here = {name: value for document in found if document for name, value in document.data.items()}
    max_tokens = model_from(f"{MODELS}/{org_id}", set_here).max_tokens
    if most := prices.too_long_for(model, max_tokens):
        raise InvalidInputError(
            f"--fallback {model}: answers at most {most:,} tokens, max_tokens is {max_tokens:,}: "
            "choose another, or set max_tokens in the clinics file"
        )


def _check(policy: BudgetPolicy) -> None:
    if not 0 <= policy.daily_budget_baht <= 100_000_000:
        raise InvalidInputError(f"--daily {policy.daily_budget_baht}: expected baht from 0 to 100000000")
    to_micro_baht(policy.daily_budget_baht)
    if not 0 <= policy.downgrade_threshold <= 1:
        raise InvalidInputError(
            f"--threshold {policy.downgrade_threshold}: expected a share from 0 to 1 such as 0.8"
        )
