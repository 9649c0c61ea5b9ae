"""A clinic as documents, both ways: `orgs`, `line_channels`, `ai_model_config`, `org_ai_budgets`.

What a clinic does not set for itself comes from the documents `default`, and what those do not set from the
defaults in core.domain.clinic. An operator may edit any of them in the console, so numbers are read
leniently, and a value that can't be right is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any

from core.domain.clinic import (
    GATHER_S,
    MAX_GATHER_S,
    BudgetPolicy,
    Clinic,
    Handoff,
    Limits,
    Mode,
    ModelConfig,
    Retention,
)
from core.domain.errors import InvalidInputError
from core.domain.hours import OpeningHours, opening_hours

ORGS = "orgs"
CHANNELS = "line_channels"
MODELS = "ai_model_config"
BUDGETS = "org_ai_budgets"
DEFAULT = "default"
MODES = ", ".join(Mode)

_DECIMALS = 6  # what micro-baht can hold exactly
_EXACT = 2**53  # from here on a float skips whole numbers

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
        "retention": {
            "memory_days": clinic.retention.memory_days,
            "unfollow_days": clinic.retention.unfollow_days,
        },
        "messages": dict(clinic.messages),
        "silent_postbacks": list(clinic.silent_postbacks),
        "gather_s": clinic.gather_s,
        "hours": clinic.hours.written(),
        "holidays": sorted(day.isoformat() for day in clinic.hours.holidays),
        "mode": clinic.mode.value,
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
    """`org_ai_budgets/{org_id|default}`. Amounts are numbers, as in the clinics file."""
    return {
        "daily_budget_baht": stored_number(budget.daily_budget_baht),
        "hard_stop_enabled": budget.hard_stop_enabled,
        "model_downgrade_enabled": budget.model_downgrade_enabled,
        "downgrade_threshold": stored_number(budget.downgrade_threshold),
        "fallback_model": budget.fallback_model,
    }


def stored_number(number: Decimal) -> int | float | str:
    """The plainest form that reads back as exactly `number`: text where a float would not."""
    value = float(number)
    if Decimal(str(value)) != number:
        return str(number)
    return int(value) if value.is_integer() and value < _EXACT else value


def clinic_from(
    org_id: str,
    org: Data,
    model: Data | None,
    model_default: Data | None,
    budget: Data | None,
    budget_default: Data | None,
) -> Clinic:
    """Raises InvalidInputError naming the document and the field that can't be read."""
    fields = _Fields(f"{ORGS}/{org_id}", org)
    limits, people, messages = (fields.inner(name) for name in ("limits", "handoff", "messages"))
    days, kept = fields.inner("retention"), Retention()
    return Clinic(
        org_id=org_id,
        name=fields.text("name") or org_id,
        bot_user_id=fields.text("bot_user_id"),
        channel_id=fields.text("channel_id"),
        persona=fields.text("persona"),
        language=fields.text("language") or "th",
        memory=fields.flag("memory", default=True),
        privacy_notice=fields.text("privacy_notice"),
        model=model_from(f"{MODELS}/{org_id}", {**(model_default or {}), **(model or {})}),
        budget=budget_from(f"{BUDGETS}/{org_id}", {**(budget_default or {}), **(budget or {})}),
        limits=Limits(limits.whole("max_concurrent"), limits.whole("messages_per_minute")),
        handoff=Handoff(people.texts("keywords"), people.whole("hours") or Handoff().hours),
        retention=Retention(
            days.whole("memory_days") or kept.memory_days, days.whole("unfollow_days") or kept.unfollow_days
        ),
        messages={key: messages.text(key) for key in messages},
        silent_postbacks=fields.texts("silent_postbacks"),
        gather_s=_gather_s(fields.number("gather_s")),
        hours=_hours(org_id, fields),
        mode=_mode(org_id, fields.text("mode")),
    )


def _gather_s(stored: float | None) -> float:
    return GATHER_S if stored is None else min(max(stored, 0.0), MAX_GATHER_S)


def _hours(org_id: str, fields: _Fields) -> OpeningHours:
    week = fields.inner("hours")
    try:
        return opening_hours({days: week.text(days) for days in week}, fields.texts("holidays"))
    except InvalidInputError as exc:
        raise InvalidInputError(f"{ORGS}/{org_id}, field hours or holidays: {exc}") from exc


def _mode(org_id: str, stored: str) -> Mode:
    try:
        return Mode(stored or Mode.LIVE)
    except ValueError:
        raise InvalidInputError(f"{ORGS}/{org_id}, field mode: {stored!r}: expected {MODES}") from None


def org_of_channel(bot_user_id: str, channel: Data) -> str:
    """Of `line_channels/{bot_user_id}`. Raises InvalidInputError if it names no clinic."""
    fields = _Fields(f"{CHANNELS}/{bot_user_id}", channel)
    return fields.text("org_id", required=True)


def model_from(where: str, data: Data) -> ModelConfig:
    fields, base = _Fields(where, data), ModelConfig()
    # Written as nothing, it is not sent; not written, the default is.
    temperature = fields.number("temperature") if "temperature" in data else base.temperature
    return ModelConfig(
        model_name=fields.text("model_name") or base.model_name,
        max_tokens=fields.whole("max_tokens") or base.max_tokens,
        temperature=temperature,
    )


def budget_from(where: str, data: Data) -> BudgetPolicy:
    fields, base = _Fields(where, data), BudgetPolicy()
    fallback = fields.text("fallback_model") if "fallback_model" in data else base.fallback_model
    return BudgetPolicy(
        daily_budget_baht=fields.decimal("daily_budget_baht", base.daily_budget_baht, decimals=_DECIMALS),
        hard_stop_enabled=fields.flag("hard_stop_enabled", default=base.hard_stop_enabled),
        model_downgrade_enabled=fields.flag("model_downgrade_enabled", default=base.model_downgrade_enabled),
        downgrade_threshold=fields.decimal("downgrade_threshold", base.downgrade_threshold),
        fallback_model=fallback or None,
    )


class _Fields:
    """Typed access to a document's fields; errors name the document and the field."""

    def __init__(self, where: str, data: Data | None) -> None:
        self._where = where
        self._data = data or {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def inner(self, name: str) -> _Fields:
        """The fields of a map; without one, none."""
        value = self._data.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise self._wrong(name, value, "a map")
        return _Fields(f"{self._where}, field {name}", value)

    def text(self, name: str, *, required: bool = False) -> str:
        """A number counts as its text: consoles make one of a channel's id."""
        value = self._data.get(name)
        if value is None and not required:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int) or (required and not value):
            raise self._wrong(name, value, "text")
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._data.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._wrong(name, value, "a list of texts")
        return tuple(value)

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
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value % 1 != 0:
            raise self._wrong(name, value, "a whole number")
        return int(value)

    def number(self, name: str) -> float | None:
        value = self._data.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise self._wrong(name, value, "a number")
        return float(value)

    def decimal(self, name: str, default: Decimal, *, decimals: int | None = None) -> Decimal:
        """`decimals`: how many there may be; None: any number, as of a share."""
        value = self._data.get(name)
        if value is None:
            return default
        try:
            number = Decimal("NaN") if isinstance(value, bool) else Decimal(str(value))
        except InvalidOperation:
            number = Decimal("NaN")
        if not (number.is_finite() and number >= 0):
            raise self._wrong(name, value, "a number such as 300")
        if decimals is not None and int(number.as_tuple().exponent) < -decimals:
            raise self._wrong(name, value, f"a number with at most {decimals} decimals")
        return number

    def _wrong(self, name: str, value: Any, expected: str) -> InvalidInputError:
        return InvalidInputError(f"document {self._where}, field {name}: {value!r}: expected {expected}")
