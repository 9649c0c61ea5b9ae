"""A clinic as documents, both ways: `orgs`, `line_channels`, `ai_model_config`, `org_ai_budgets`.

What a clinic does not set for itself comes from the documents `default`, and what those do not set from the
defaults in core.domain.clinic. An operator may edit any of them in the console, so numbers are read
leniently, and a value that can't be right is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from core.domain.clinic import BudgetPolicy, Clinic, Handoff, Limits, ModelConfig
from core.domain.errors import InvalidInputError

ORGS = "orgs"
CHANNELS = "line_channels"
MODELS = "ai_model_config"
BUDGETS = "org_ai_budgets"
DEFAULT = "default"

Data = Mapping[str, Any]


def org_document(clinic: Clinic) -> dict[str, Any]:
    """`orgs/{org_id}`: everything but model and budget."""
    return {
        "name": clinic.name,
        "bot_user_id": clinic.bot_user_id,
        "channel_id": clinic.channel_id,
        "persona": clinic.persona,
        "language": clinic.language,
        "memory": clinic.memory,
        "privacy_notice": clinic.privacy_notice,
        "limits": {
            "max_concurrent": clinic.limits.max_concurrent,
            "messages_per_minute": clinic.limits.messages_per_minute,
        },
        "handoff": {"keywords": list(clinic.handoff.keywords), "hours": clinic.handoff.hours},
        "messages": dict(clinic.messages),
    }


def channel_document(org_id: str) -> dict[str, Any]:
    """`line_channels/{bot_user_id}`."""
    return {"org_id": org_id}


def model_document(model: ModelConfig) -> dict[str, Any]:
    """`ai_model_config/{org_id|default}`."""
    return {
        "model_name": model.model_name,
        "max_tokens": model.max_tokens,
        "temperature": model.temperature,
    }


def budget_document(budget: BudgetPolicy) -> dict[str, Any]:
    """`org_ai_budgets/{org_id|default}`. Amounts are text: a float would not be exact."""
    return {
        "daily_budget_baht": str(budget.daily_budget_baht),
        "hard_stop_enabled": budget.hard_stop_enabled,
        "model_downgrade_enabled": budget.model_downgrade_enabled,
        "downgrade_threshold": str(budget.downgrade_threshold),
        "fallback_model": budget.fallback_model,
    }


def clinic_from(
    org_id: str,
    org: Data,
    model: Data | None,
    model_default: Data | None,
    budget: Data | None,
    budget_default: Data | None,
) -> Clinic:
    """Raises InvalidInputError naming the document and the field that can't be read."""
    limits, people = _Fields(f"{ORGS}/{org_id}.limits", org.get("limits")), org.get("handoff") or {}
    fields = _Fields(f"{ORGS}/{org_id}", org)
    return Clinic(
        org_id=org_id,
        name=str(org.get("name") or org_id),
        bot_user_id=str(org.get("bot_user_id") or ""),
        channel_id=str(org.get("channel_id") or ""),
        persona=str(org.get("persona") or ""),
        language=str(org.get("language") or "th"),
        memory=fields.flag("memory", default=True),
        privacy_notice=str(org.get("privacy_notice") or ""),
        model=model_from(f"{MODELS}/{org_id}", {**(model_default or {}), **(model or {})}),
        budget=budget_from(f"{BUDGETS}/{org_id}", {**(budget_default or {}), **(budget or {})}),
        limits=Limits(limits.whole("max_concurrent"), limits.whole("messages_per_minute")),
        handoff=Handoff(
            tuple(str(word) for word in people.get("keywords") or ()),
            _Fields(f"{ORGS}/{org_id}.handoff", people).whole("hours") or Handoff().hours,
        ),
        messages={str(key): str(value) for key, value in (org.get("messages") or {}).items()},
    )


def model_from(where: str, data: Data) -> ModelConfig:
    fields, base = _Fields(where, data), ModelConfig()
    # Written as nothing, it is not sent; not written, the default is.
    temperature = fields.number("temperature") if "temperature" in data else base.temperature
    return ModelConfig(
        model_name=str(data.get("model_name") or base.model_name),
        max_tokens=fields.whole("max_tokens") or base.max_tokens,
        temperature=temperature,
    )


def budget_from(where: str, data: Data) -> BudgetPolicy:
    fields, base = _Fields(where, data), BudgetPolicy()
    return BudgetPolicy(
        daily_budget_baht=fields.decimal("daily_budget_baht", base.daily_budget_baht),
        hard_stop_enabled=fields.flag("hard_stop_enabled", default=base.hard_stop_enabled),
        model_downgrade_enabled=fields.flag("model_downgrade_enabled", default=base.model_downgrade_enabled),
        downgrade_threshold=fields.decimal("downgrade_threshold", base.downgrade_threshold),
        fallback_model=data.get("fallback_model", base.fallback_model) or None,
    )


class _Fields:
    """Typed access to a document's fields; errors name the document and the field."""

    def __init__(self, where: str, data: Data | None) -> None:
        self._where = where
        self._data = data or {}

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._data.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def whole(self, name: str) -> int | None:
        value = self._data.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or int(value) != value or value < 0:
            raise self._wrong(name, value, "a whole number")
        return int(value)

    def number(self, name: str) -> float | None:
        value = self._data.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, value, "a number")
        return float(value)

    def decimal(self, name: str, default: Decimal) -> Decimal:
        value = self._data.get(name)
        if value is None:
            return default
        try:
            number = Decimal("NaN") if isinstance(value, bool) else Decimal(str(value))
        except InvalidOperation:
            number = Decimal("NaN")
        if not (number.is_finite() and number >= 0):
            raise self._wrong(name, value, "a number such as 300")
        return number

    def _wrong(self, name: str, value: Any, expected: str) -> InvalidInputError:
        return InvalidInputError(f"document {self._where}, field {name}: {value!r}: expected {expected}")
