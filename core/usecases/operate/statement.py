"""A clinic's month, down to each charge and each booking; its sum is that of the books. Reads only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from core.domain import outcome
from core.domain.booking import Booking
from core.domain.charges import COLLECTION, ChargeLine, TurnCharge, month_of
from core.domain.errors import InvalidInputError
from core.domain.prices import Prices, UnpricedModelError
from core.ports.clock import Clock
from core.ports.documents import DocumentStore, Key, Where
from core.usecases.bookings.records import BookingRecords
from core.usecases.clinics.price_list import PriceList
from core.usecases.operate.spend_report import SpendRow, days_between, spend_rows

_TRIES = 5


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One line of a charge. `price` is the row on it, or where it has none (a crashed call's hold), the one
    of that day."""

    charge: TurnCharge
    line: ChargeLine
    price: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StatementDay:
    day: str
    charged_micro_baht: int
    booked_micro_baht: int


@dataclass(frozen=True, slots=True)
class Statement:
    """`month`: YYYY-MM. `bookings`: those asked for in it that are still kept; `bookings_counted`: how many
    there were."""

    org_id: str
    month: str
    timezone: str
    lines: Sequence[StatementLine]
    days: Sequence[StatementDay]
    bookings: Sequence[Booking]
    bookings_counted: int

    @property
    def charged_micro_baht(self) -> int:
        return sum(day.charged_micro_baht for day in self.days)

    @property
    def booked_micro_baht(self) -> int:
        return sum(day.booked_micro_baht for day in self.days)

    @property
    def open_days(self) -> Sequence[StatementDay]:
        """On which the charges are not what the books say."""
        return [day for day in self.days if day.charged_micro_baht != day.booked_micro_baht]

    @property
    def closes(self) -> bool:
        return not self.open_days

    def local(self, at_ms: int) -> datetime:
        return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(self.timezone))


class Statements:
    def __init__(self, documents: DocumentStore, clock: Clock, timezone: str) -> None:
        """`timezone`: of the books' days."""
        self._documents = documents
        self._clock = clock
        self._timezone = timezone

    async def __call__(self, org_id: str, month: str) -> Statement:
        """`month`: YYYY-MM. Raises InvalidInputError, NoSuchClinicError for a clinic that there is not and of
        which nothing is in the books."""
        first, last = _bounds(month)
        books, charges = await self._settled(org_id, first, last)
        prices = await PriceList(self._documents, self._clock).current()
        return Statement(
            org_id,
            month,
            self._timezone,
            tuple(
                StatementLine(charge, line, _price(prices, charge, line))
                for charge in charges
                for line in charge.lines
            ),
            _days(books, charges),
            await self._bookings(org_id, month),
            await self._counted(org_id, first, last),
        )

    async def _settled(
        self, org_id: str, first: str, last: str
    ) -> tuple[Sequence[SpendRow], Sequence[TurnCharge]]:
        """Books and charges of one moment: read again while turns go on between the two."""
        books = await spend_rows(self._documents, first, last, org_id=org_id)
        for _ in range(_TRIES):
            where = [Where("month", "==", month_of(org_id, first))]
            found = await self._documents.query(COLLECTION, where)
            again = await spend_rows(self._documents, first, last, org_id=org_id)
            before, books = books, again
            if _spent(before) == _spent(again):
                break
        charges = [TurnCharge.decode(document.data) for document in found]
        return books, sorted(charges, key=lambda charge: (charge.day, charge.at_ms, charge.turn_id))

    async def _bookings(self, org_id: str, month: str) -> Sequence[Booking]:
        zone = ZoneInfo(self._timezone)
        found = await BookingRecords(self._documents, self._clock).all(org_id)
        asked = [b for b in found if f"{datetime.fromtimestamp(b.created_ms / 1000, zone):%Y-%m}" == month]
        return sorted(asked, key=lambda booking: (booking.created_ms, booking.id))

    async def _counted(self, org_id: str, first: str, last: str) -> int:
        keys = [Key(outcome.COLLECTION, f"{org_id}:{day}") for day in days_between(first, last)]
        found = await self._documents.get_many(keys)
        return sum(document.data.get("bookings", 0) for document in found if document)


def _bounds(month: str) -> tuple[str, str]:
    """First and last day (YYYYMMDD)."""
    found = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", month, re.ASCII)
    if found is None or found[1] == "0000":
        raise InvalidInputError(f"month {month!r}: expected YYYY-MM")
    year, number = int(found[1]), int(found[2])
    after = date(year + number // 12, number % 12 + 1, 1) if year < 9999 else date.max
    return f"{year:04}{number:02}01", f"{date.fromordinal(after.toordinal() - 1):%Y%m%d}"


def _spent(rows: Sequence[SpendRow]) -> dict[str, int]:
    return {row.day: row.books.spent for row in rows}


def _days(books: Sequence[SpendRow], charges: Sequence[TurnCharge]) -> Sequence[StatementDay]:
    booked, charged = _spent(books), dict[str, int]()
    for charge in charges:
        charged[charge.day] = charged.get(charge.day, 0) + charge.micro_baht
    return [StatementDay(day, charged.get(day, 0), booked.get(day, 0)) for day in sorted({*booked, *charged})]


def _price(prices: Prices, charge: TurnCharge, line: ChargeLine) -> dict[str, Any]:
    if line.price:
        return dict(line.price)
    try:
        return dict(prices.price_at(line.model, charge.at_ms).record())
    except UnpricedModelError:
        return {}
