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

from core.domain.clinic import MAX_GATHER_S, BudgetPolicy, Clinic, Mode, ModelConfig
from core.domain.errors import InvalidInputError
from core.domain.hours import OpeningHours, opening_hours
from core.usecases.clinics.price_documents import (
    answers_document,
    answers_from,
    prices_document,
    prices_from,
)
from core.usecases.clinics.schema import (
    BUDGET,
    CLINIC,
    MODEL,
    Exact,
    Flag,
    Group,
    Keyed,
    Kind,
    Model,
    Number,
    Schema,
    Text,
    Texts,
    Whole,
)

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
    channel = {"bot_user_id": clinic.bot_user_id, "channel_id": clinic.channel_id}
    return {
        **channel,
        **_document(CLINIC, clinic),
        "prices": prices_document(clinic.prices),
        "answers": answers_document(clinic.answers),
        "hours": clinic.hours.written(),
        "holidays": sorted(day.isoformat() for day in clinic.hours.holidays),
        "mode": clinic.mode.value,
    }


def channel_document(org_id: str) -> dict[str, Any]:
    """`line_channels/{bot_user_id}`."""
    return {"org_id": org_id}


def model_document(model: ModelConfig) -> dict[str, Any]:
    """`ai_model_config/{org_id|default}`."""
    return _document(MODEL, model)


def budget_document(budget: BudgetPolicy) -> dict[str, Any]:
    """`org_ai_budgets/{org_id|default}`. Amounts are numbers, as in the clinics file."""
    return _document(BUDGET, budget)


def _document(schema: Schema, value: Any) -> dict[str, Any]:
    return encoded(schema, {name: getattr(value, name) for name in schema})


def encoded(schema: Schema, values: Data) -> dict[str, Any]:
    """`values` of some fields, as a document holds them."""
    return {name: _encoded(schema[name], value) for name, value in values.items()}


def _encoded(kind: Kind, value: Any) -> Any:
    match kind:
        case Group():
            return _document(kind.fields, value)
        case Texts():
            return list(value)
        case Keyed():
            return dict(value)
        case Exact():
            return stored_number(value)
    return value


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
    values: dict[str, Any] = {"name": org_id, **fields.values(CLINIC)}
    if "gather_s" in values:
        values["gather_s"] = min(max(values["gather_s"], 0.0), MAX_GATHER_S)
    return Clinic(
        org_id=org_id,
        bot_user_id=fields.text("bot_user_id"),
        channel_id=fields.text("channel_id"),
        model=model_from(f"{MODELS}/{org_id}", {**(model_default or {}), **(model or {})}),
        budget=budget_from(f"{BUDGETS}/{org_id}", {**(budget_default or {}), **(budget or {})}),
        prices=prices_from(f"{ORGS}/{org_id}", org.get("prices")),
        answers=answers_from(f"{ORGS}/{org_id}", org.get("answers")),
        hours=_hours(org_id, fields),
        mode=_mode(org_id, fields.text("mode")),
        version=fields.whole("version") or 0,
        **values,
    )


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
    return ModelConfig(**_Fields(where, data).values(MODEL))


def budget_from(where: str, data: Data) -> BudgetPolicy:
    return BudgetPolicy(**_Fields(where, data).values(BUDGET))


class _Fields:
    """Typed access to a document's fields; errors name the document and the field."""

    def __init__(self, where: str, data: Data | None) -> None:
        self._where = where
        self._data = data or {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def values(self, schema: Schema) -> dict[str, Any]:
        """Of the fields that say something; for the others, the dataclass' own defaults hold."""
        read = {name: self._value(name, kind) for name, kind in schema.items() if name in self._data}
        return {name: value for name, value in read.items() if value is not None or schema[name].nullable}

    def _value(self, name: str, kind: Kind) -> Any:
        value: Any
        match kind:
            case Text() | Model():
                value = self.text(name) or None
            case Flag():
                value = self.flag(name)
            case Whole():
                value = self.whole(name) or (None if kind.low else 0)
            case Number():
                value = self.number(name)
            case Exact():
                value = self.decimal(name, decimals=_DECIMALS if kind.is_baht else None)
            case Texts():
                value = self.texts(name)
            case Group():
                value = kind.kind(**self.inner(name).values(kind.fields))
            case Keyed():
                texts = self.inner(name)
                value = {key: texts.text(key) for key in texts}
        return value

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

    def flag(self, name: str) -> bool | None:
        value = self._data.get(name)
        if value is None:
            return None
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

    def decimal(self, name: str, *, decimals: int | None) -> Decimal | None:
        """`decimals`: how many there may be; None: any number, as of a share."""
        value = self._data.get(name)
        if value is None:
            return None
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
