"""What a clinic has approved to be said: its prices, each for a time, and its answers to known questions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from core.domain.thai_text import normalized


@dataclass(frozen=True, slots=True)
class ListedPrice:
    """`low` and `high`: baht, equal unless it is a range. `since`, `until`: days where the clinic is, both
    included; None: without a beginning, without an end."""

    item: str
    low: Decimal
    high: Decimal
    since: date | None = None
    until: date | None = None
    note: str = ""

    def is_valid_on(self, day: date) -> bool:
        return (self.since is None or self.since <= day) and (self.until is None or day <= self.until)

    def covers(self, baht: Decimal) -> bool:
        return self.low <= baht <= self.high

    def is_valid_with(self, other: ListedPrice) -> bool:
        """There is a day on which both hold."""
        begins = max(self.since or date.min, other.since or date.min)
        return begins <= min(self.until or date.max, other.until or date.max)

    def is_same_item(self, other: ListedPrice) -> bool:
        return compact(self.item) == compact(other.item)

    @property
    def baht(self) -> str:
        """As customers read it: 3,900 or 39,000-65,000."""
        return _baht(self.low) if self.low == self.high else f"{_baht(self.low)}-{_baht(self.high)}"


@dataclass(frozen=True, slots=True)
class ApprovedAnswer:
    question: str
    answer: str


def compact(text: str) -> str:
    """`text` as it is compared: without blanks, which Thai writes or leaves out."""
    return normalized(text).replace(" ", "")


def prompt_part(prices: Iterable[ListedPrice], answers: Sequence[ApprovedAnswer], day: date) -> str:
    """What the model is told of them: the same bytes from one midnight to the next."""
    valid = [price for price in prices if price.is_valid_on(day)]
    parts = []
    if valid:
        parts.append("\n".join(("Prices in baht, valid today:", *map(_price_line, valid))))
    if answers:
        parts.append("\n".join(("Approved answers:", *(f"Q: {a.question}\nA: {a.answer}" for a in answers))))
    return "\n\n".join(parts)


def _price_line(price: ListedPrice) -> str:
    until = f"until {price.until:%Y-%m-%d}" if price.until else ""
    more = "; ".join(filter(None, (until, price.note)))
    return f"- {price.item}: {price.baht} บาท" + (f" ({more})" if more else "")


def _baht(amount: Decimal) -> str:
    return f"{amount:,.0f}" if amount == amount.to_integral_value() else f"{amount:,.2f}"
