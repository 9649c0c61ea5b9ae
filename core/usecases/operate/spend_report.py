"""What clinics spent, by day and model, and how one charge came about. Reads only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from core.domain.budget import DayBooks
from core.domain.errors import InvalidInputError
from core.domain.money import Charge, charge
from core.domain.prices import Price, Prices
from core.domain.turn import TurnRecord
from core.ports.documents import DocumentStore, Where
from core.ports.llm import Usage
from core.usecases.journal.books import COLLECTION, day_key, turn_key
from core.usecases.operate.stored_clinics import find_clinic

MAX_RANGE_DAYS = 400


@dataclass(frozen=True, slots=True)
class SpendRow:
    """A clinic's day."""

    org_id: str
    day: str
    books: DayBooks

    @property
    def budget_micro_baht(self) -> int:
        """As the day's last reservation saw it."""
        return self.books.budget_micro_baht or 0

    def as_json(self) -> dict[str, Any]:
        """The form that scripts rely on (`fairlane spend --json`)."""
        return {
            "org_id": self.org_id,
            "day": self.day,
            "budget_micro_baht": self.budget_micro_baht,
            "spent_micro_baht": self.books.spent,
            "held_micro_baht": self.books.held,
            "turns": self.books.turns,
            "downgraded": self.books.downgraded,
            "stopped": self.books.stopped,
            "ambiguous": self.books.ambiguous,
            "by_model": {model: dict(counts) for model, counts in sorted(self.books.by_model.items())},
        }


async def spend_rows(
    documents: DocumentStore, first_day: str, last_day: str, *, org_id: str | None = None
) -> list[SpendRow]:
    """Days on which something was reserved or stopped, by day and clinic. Days: YYYYMMDD, both included.

    Raises NoSuchClinicError for a clinic that there is not and of which nothing is in the books.
    """
    days = days_between(first_day, last_day)
    if org_id is not None:
        keys = [day_key(org_id, day) for day in days]
        found = [document for document in await documents.get_many(keys) if document is not None]
        if not found:
            await find_clinic(documents, org_id)
    else:
        in_range = [Where("day", ">=", first_day), Where("day", "<=", last_day)]
        found = await documents.query(COLLECTION, in_range, order_by="day")
    rows = []
    for document in found:
        org, _, day = document.key.id.rpartition(":")
        rows.append(SpendRow(org, day, DayBooks.parse(document.data)))
    return sorted(rows, key=lambda row: (row.day, row.org_id))


def total(rows: Sequence[SpendRow]) -> DayBooks:
    """The sum of rows, without their holds."""
    by_model: dict[str, dict[str, int]] = {}
    for row in rows:
        for model, counts in row.books.by_model.items():
            sums = by_model.setdefault(model, {})
            for name, count in counts.items():
                sums[name] = sums.get(name, 0) + count
    return DayBooks(
        spent=sum(row.books.spent for row in rows),
        held=sum(row.books.held for row in rows),
        turns=sum(row.books.turns for row in rows),
        downgraded=sum(row.books.downgraded for row in rows),
        stopped=sum(row.books.stopped for row in rows),
        ambiguous=sum(row.books.ambiguous for row in rows),
        budget_micro_baht=sum(row.budget_micro_baht for row in rows),
        by_model=by_model,
    )


def parse_day(text: str, today: str) -> str:
    """YYYYMMDD of 2026-11-24, 20261124, today or yesterday. Raises InvalidInputError."""
    if text == "today":
        return today
    if text == "yesterday":
        return shifted(today, -1)
    # Without its hyphens, strptime would read 2026-1-12 as a day in November.
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}|\d{8}", text, re.ASCII):
        with suppress(ValueError):
            return datetime.strptime(text.replace("-", ""), "%Y%m%d").strftime("%Y%m%d")  # noqa: DTZ007  a day, no time
    raise InvalidInputError(f"day {text!r}: expected YYYY-MM-DD, today or yesterday")


def days_between(first_day: str, last_day: str) -> list[str]:
    """Raises InvalidInputError for a range that is empty or too long to read."""
    days = [first_day]
    while days[-1] < last_day and len(days) <= MAX_RANGE_DAYS:
        days.append(shifted(days[-1], 1))
    if first_day > last_day:
        raise InvalidInputError(f"--from {first_day} is after --to {last_day}: swap them")
    if len(days) > MAX_RANGE_DAYS:
        raise InvalidInputError(f"--from {first_day} --to {last_day}: at most {MAX_RANGE_DAYS} days at once")
    return days


def shifted(day: str, by: int) -> str:
    """The day so many days later, or earlier."""
    moment = datetime.strptime(day, "%Y%m%d")  # noqa: DTZ007  a day, no time
    return (moment + timedelta(days=by)).strftime("%Y%m%d")


@dataclass(frozen=True, slots=True)
class Explanation:
    """One turn's charge, computed again from what stands on it.

    `computed` is None if nothing was billed by usage (stopped, crashed). `rounding`: micro-baht that rounding
    up once a call adds to the exact sum of several calls.
    """

    turn: TurnRecord
    price: Price | None
    usage: Usage
    computed: Charge | None

    @property
    def by_usage_micro_baht(self) -> int:
        """What was charged by returned usage: the rest of the cost is ambiguous attempts, and what listening
        to voice messages has cost."""
        money = self.turn.money
        return money.cost_micro_baht - money.ambiguous_micro_baht - self.listening_micro_baht

    @property
    def listening_micro_baht(self) -> int:
        return int(self.turn.money.audio.get("micro_baht", 0))

    @property
    def adds_up(self) -> bool:
        """Does the charge follow from the usage, price and rate on it?"""
        again = self.computed.micro_baht if self.computed else 0
        return again <= self.by_usage_micro_baht <= again + max(0, self.turn.attempts - 1)


async def explain(documents: DocumentStore, prices: Prices, turn_id: str) -> Explanation:
    """Raises InvalidInputError if there is no such turn."""
    (document,) = await documents.get_many([turn_key(turn_id)])
    if document is None:
        raise InvalidInputError(f"turn {turn_id!r}: not in the journal; `fairlane turns list` shows turns")
    turn = TurnRecord.decode(turn_id, document.data)
    money = turn.money
    price = Price.of_record(money.model, money.price) if money.price else None
    usage = _usage(money.usage)
    computed = None
    if price is not None and money.usage:
        multiplier = prices.tier_multiplier(money.service_tier)
        computed = charge(price, usage, Decimal(money.thb_per_usd), multiplier=multiplier)
    return Explanation(turn, price, usage, computed)


def _usage(counts: Mapping[str, int]) -> Usage:
    return Usage(
        input=counts.get("input", 0),
        output=counts.get("output", 0),
        cached=counts.get("cached", 0),
        cache_write=counts.get("cache_write", 0),
    )
