"""What it costs to have a recording written down: by the minute, or by tokens, as the model's entry says.

`[transcription]` in `prices.toml`; a document `ai_model_prices/{model}` with a `unit` overrides an entry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Literal

from core.domain.errors import InvalidInputError
from core.domain.price_fields import moment_of, price_of

Unit = Literal["minute", "tokens"]

_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "minute": ("usd",),
    "tokens": ("input", "output", "tokens_a_second"),
}


class AudioPriceError(InvalidInputError):
    """An entry that can't be read: the message names the entry, the field and what is expected."""


@dataclass(frozen=True, slots=True)
class AudioPrice:
    """`usd`: of a minute; `input`, `output`: of 1,000,000 tokens, of which a second of sound is at most
    `tokens_a_second`. `version` names the table that it came from."""

    model: str
    version: str
    unit: Unit
    usd: Decimal = Decimal(0)
    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    tokens_a_second: Decimal = Decimal(0)

    def of_seconds(self, seconds: Decimal, thb_per_usd: Decimal) -> int:
        """Micro-baht, up to the next one."""
        return math.ceil(Fraction(seconds) * Fraction(self.usd) * Fraction(thb_per_usd) * 1_000_000 / 60)

    def of_tokens(self, read: int, written: int, thb_per_usd: Decimal) -> int:
        """Micro-baht, up to the next one."""
        usd = read * Fraction(self.input) + written * Fraction(self.output)
        return math.ceil(usd * Fraction(thb_per_usd))

    def worst_case(self, seconds: Decimal, words_tokens: int, thb_per_usd: Decimal) -> int:
        """What a recording of `seconds` with at most `words_tokens` of words can't exceed."""
        if self.unit == "minute":
            return self.of_seconds(seconds, thb_per_usd)
        return self.of_tokens(math.ceil(seconds * self.tokens_a_second), words_tokens, thb_per_usd)

    def record(self) -> dict[str, str]:
        """As it stands on a charge."""
        named = {name: str(getattr(self, name)) for name in _FIELDS[self.unit]}
        return {"model": self.model, "version": self.version, "unit": self.unit, **named}


AudioRows = tuple[tuple[datetime, AudioPrice], ...]
"""(effective from, price), oldest first."""


def audio_rows(model: str, raw: Mapping[str, Any], version: str) -> AudioRows:
    """Raises AudioPriceError."""
    unit: Unit | None = raw.get("unit")
    if unit not in ("minute", "tokens"):
        raise AudioPriceError(f"price of {model}: unit: expected minute or tokens")
    rows = raw.get("prices")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, Mapping) for row in rows):
        raise AudioPriceError(f"price of {model}: prices: expected a list with at least one row")
    read = []
    for n, row in enumerate(rows):
        where = f"price of {model}: prices[{n}]"
        values = {name: _number(f"{where}.{name}", row.get(name)) for name in _FIELDS[unit]}
        read.append((_moment(f"{where}.from", row.get("from")), AudioPrice(model, version, unit, **values)))
    return tuple(sorted(read, key=lambda row: row[0]))


def price_in_force(rows: AudioRows, when_ms: int) -> AudioPrice | None:
    when = datetime.fromtimestamp(when_ms / 1000, UTC)
    return next((price for start, price in reversed(rows) if start <= when), None)


def _number(where: str, value: Any) -> Decimal:
    if (number := price_of(value)) is None:
        raise AudioPriceError(f"{where}: expected a number such as 0.0045, got {value!r}")
    return number


def _moment(where: str, value: Any) -> datetime:
    if (moment := moment_of(value)) is None:
        raise AudioPriceError(f"{where}: expected a date such as 2026-11-24, got {value!r}")
    return moment
