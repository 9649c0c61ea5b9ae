"""An appointment that a customer asked for: `bookings/{id}`, whose id is the turn's that stored it.

States: requested -> confirmed | declined | cancelled, and confirmed -> cancelled. Whoever is first decides.
A booking is never changed: a customer's change is a new one that `replaces` the old, which is cancelled.
This module is the one place that knows the document's fields.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

from core.domain.outcome import Counts

COLLECTION = "bookings"
CHATS = "booked_chats"
"""`{org_id}:{chat_id}`, while that chat has bookings: so that a turn of one without asks for none."""
RETENTION = timedelta(days=90)
"""How long a booking is kept after its day."""


class BookingState(StrEnum):
    REQUESTED = "requested"
    CONFIRMED = "confirmed"
    DECLINED = "declined"
    CANCELLED = "cancelled"


class Step(StrEnum):
    """What the customer is told of a booking by push, each once."""

    ANSWER = "answer"  # confirmed or declined
    REMINDER = "reminder"


_AFTER: Final[Mapping[BookingState, frozenset[BookingState]]] = {
    BookingState.REQUESTED: frozenset(
        {BookingState.CONFIRMED, BookingState.DECLINED, BookingState.CANCELLED}
    ),
    BookingState.CONFIRMED: frozenset({BookingState.CANCELLED}),
}

CUSTOMER, STAFF = "customer", "staff"
"""Who decides."""
SENT = "sent"
"""How a push ended that LINE has accepted."""


@dataclass(frozen=True, slots=True)
class Booking:
    """`date` and `time`: wall time where the clinic is, in `timezone`. `chat_id`: where the customer is told;
    `user_id`: who asked. `outside_hours`: the clinic is closed then. `remind_ms`: when the reminder is due,
    None for none. `decision_id` recognises a decision that is made twice. `told`: by Step, how the push ended
    (SENT, or why it did not reach the customer), `told_ms` when. `confirmed_ms` stays when it is cancelled
    afterwards."""

    id: str
    org_id: str
    user_id: str
    chat_id: str
    service: str
    date: str
    time: str
    timezone: str
    created_ms: int
    name: str = ""
    phone: str = ""
    note: str = ""
    state: BookingState = BookingState.REQUESTED
    replaces: str = ""
    outside_hours: bool = False
    decided_ms: int | None = None
    decided_by: str = ""
    decision_id: str = ""
    remind_ms: int | None = None
    confirmed_ms: int | None = None
    told: Mapping[str, str] = field(default_factory=dict)
    told_ms: Mapping[str, int] = field(default_factory=dict)

    @property
    def starts(self) -> datetime:
        return datetime.fromisoformat(f"{self.date}T{self.time}").replace(tzinfo=ZoneInfo(self.timezone))

    @property
    def starts_ms(self) -> int:
        return round(self.starts.timestamp() * 1000)

    @property
    def is_open(self) -> bool:
        """It stands, confirmed or not yet."""
        return self.state in _AFTER

    def is_ahead(self, now_ms: int) -> bool:
        """It stands, and has not begun."""
        return self.is_open and now_ms < self.starts_ms

    def in_prompt(self) -> dict[str, str]:
        return {name: str(getattr(self, name)) for name in ("service", "date", "time", "state")}

    def decided(self, state: BookingState, by: str, now_ms: int, remind_hours: float = 0) -> Booking:
        """In `state`, if it may still come to that; else as it is. Confirmed: with its reminder, unless that
        were due already. `remind_hours` 0: none."""
        if state not in _AFTER.get(self.state, ()):
            return self
        decided = replace(self, state=state, decided_by=by, decided_ms=now_ms, remind_ms=None)
        if state is not BookingState.CONFIRMED:
            return decided
        decided = replace(decided, confirmed_ms=now_ms)
        if not remind_hours:
            return decided
        due_ms = self.starts_ms - round(remind_hours * 3_600_000)
        return replace(decided, remind_ms=due_ms if due_ms > now_ms else None)

    def due(self, step: Step, now_ms: int) -> bool:
        """The customer is to be told that, and was not."""
        if step in self.told:
            return False
        if step is Step.REMINDER:
            is_due = self.state is BookingState.CONFIRMED and self.remind_ms is not None
            return is_due and now_ms < self.starts_ms
        return self.state in {BookingState.CONFIRMED, BookingState.DECLINED}

    def as_told(self, step: Step, how: str, at_ms: int) -> Booking:
        told_ms = {**self.told_ms, step.value: at_ms}
        return replace(self, told={**self.told, step.value: how}, told_ms=told_ms)

    @property
    def counts(self) -> dict[str, Counts]:
        """By day (YYYYMMDD), what it counts besides its turn: see core.domain.outcome."""
        by_day: dict[str, Counter[str]] = {}
        if self.confirmed_ms is not None:
            by_day.setdefault(self._day(self.confirmed_ms), Counter())["confirmed"] += 1
        for step, at_ms in self.told_ms.items():
            if self.told.get(step) == SENT:
                by_day.setdefault(self._day(at_ms), Counter())["pushes"] += 1
        return dict(by_day)

    def _day(self, at_ms: int) -> str:
        return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(self.timezone)).strftime("%Y%m%d")

    def without_words(self) -> Booking:
        """What the customer said and who they are is erased; a booking that stood is cancelled."""
        left = replace(self, name="", phone="", note="", service="", remind_ms=None)
        return replace(left, state=BookingState.CANCELLED) if self.is_open else left

    def encode(self) -> dict[str, Any]:
        """The whole document; `expire_at` is the TTL field."""
        data: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__ if name != "id"}
        return {
            **data,
            "state": self.state.value,
            "told": dict(self.told),
            "told_ms": dict(self.told_ms),
            "expire_at": self.starts.astimezone(UTC) + RETENTION,
        }

    @classmethod
    def decode(cls, booking_id: str, data: Mapping[str, Any]) -> Booking:
        """Fields that an older version did not write keep their defaults."""
        known: dict[str, Any] = {name: data[name] for name in cls.__slots__ if name in data and name != "id"}
        known |= {"state": BookingState(data["state"])}
        known |= {name: dict(data.get(name) or {}) for name in ("told", "told_ms")}
        return cls(id=booking_id, **known)
