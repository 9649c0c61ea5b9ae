"""Reading and changing `org_ai_budgets/{org_id|default}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from core.domain.clinic import BudgetPolicy
from core.domain.errors import InvalidInputError
from core.domain.money import to_micro_baht
from core.ports.clock import Clock
from core.ports.documents import DocumentStore, Key, Merge
from core.usecases.price_list import PriceList

COLLECTION = "org_ai_budgets"
DEFAULT = "default"


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
    """The policy that holds for `org_id`, and which document says so (None: built in)."""

    org_id: str
    policy: BudgetPolicy
    document: str | None


async def find_policy(documents: DocumentStore, org_id: str) -> Found:
    """Raises InvalidInputError if there is no such clinic, or if a document can't be read."""
    own, default, clinic = await documents.get_many(
        [Key(COLLECTION, org_id), Key(COLLECTION, DEFAULT), Key("orgs", org_id)]
    )
    if clinic is None and org_id != DEFAULT:
        raise InvalidInputError(f"ORG {org_id!r}: no such clinic; `fairlane clinics list` shows them")
    for document in (own, default):
        if document is not None:
            return Found(org_id, parse_policy(document.data, document.key.id), document.key.id)
    return Found(org_id, BudgetPolicy(), None)


async def change_policy(documents: DocumentStore, clock: Clock, org_id: str, changes: Changes) -> Found:
    """Check everything, then write the whole policy. Raises InvalidInputError naming option and remedy."""
    found = await find_policy(documents, org_id)
    wanted = {f.name: getattr(changes, f.name) for f in fields(changes)}
    policy = replace(found.policy, **{name: value for name, value in wanted.items() if value is not None})
    if changes.fallback_model == "none":
        policy = replace(policy, fallback_model=None)
    _check(policy)
    if changes.fallback_model and policy.fallback_model:
        prices = await PriceList(documents, clock).current()
        prices.price_at(policy.fallback_model, clock.now_ms())
    await documents.commit([Merge(Key(COLLECTION, org_id), policy_data(policy))])
    return Found(org_id, policy, org_id)


def _check(policy: BudgetPolicy) -> None:
    if not 0 <= policy.daily_budget_baht <= 100_000_000:
        raise InvalidInputError(f"--daily {policy.daily_budget_baht}: expected baht from 0 to 100000000")
    to_micro_baht(policy.daily_budget_baht)
    if not 0 <= policy.downgrade_threshold <= 1:
        raise InvalidInputError(
            f"--threshold {policy.downgrade_threshold}: expected a share from 0 to 1 such as 0.8"
        )


def parse_policy(data: Mapping[str, Any], name: str) -> BudgetPolicy:
    """A document's fields over the built-in ones. Raises InvalidInputError naming document and field."""
    values: dict[str, Any] = {}
    for field in fields(BudgetPolicy):
        if field.name not in data:
            continue
        value = data[field.name]
        try:
            values[field.name] = _parsed(field.name, value)
        except ValueError as exc:
            raise InvalidInputError(f"{COLLECTION}/{name}: {field.name}: {exc}, got {value!r}") from None
    return BudgetPolicy(**values)


def _parsed(name: str, value: Any) -> Any:
    if name.endswith("_enabled"):
        if not isinstance(value, bool):
            raise ValueError("expected true or false")
        return value
    if name == "fallback_model":
        if not (value is None or isinstance(value, str)):
            raise ValueError("expected a model's name or nothing")
        return value or None
    try:
        number = Decimal(str(value))  # through text: a float 0.8 means the decimal that it is written as
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ValueError("expected a number")
    return number


def policy_data(policy: BudgetPolicy) -> dict[str, Any]:
    """As a document. Amounts are text: a float would not be exact."""
    return {
        "daily_budget_baht": str(policy.daily_budget_baht),
        "hard_stop_enabled": policy.hard_stop_enabled,
        "model_downgrade_enabled": policy.model_downgrade_enabled,
        "downgrade_threshold": str(policy.downgrade_threshold),
        "fallback_model": policy.fallback_model,
    }
