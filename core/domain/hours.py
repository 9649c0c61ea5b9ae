"""When a clinic is open: a week of opening hours, and the days on which it stays closed.

All of it is wall time where the clinic is. A span over midnight belongs to the day on which it begins, also
if that or the next day is a holiday. Minutes count from midnight.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise

from core.domain.errors import InvalidInputError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CLOSED = "closed"

_DAY_MINUTES = 24 * 60
_SPAN = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\s*[-–]\s*(?:([01]?\d|2[0-3]):([0-5]\d)|(24):(00))", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_ONE_DAY = timedelta(days=1)
_LOOK_AHEAD_DAYS = 400
"""A clinic that is closed for longer has no next opening."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Open from `opens` until before `closes`, which is the next day's where it exceeds 24 hours."""

    opens: int
    closes: int

    def __str__(self) -> str:
        closes = self.closes if self.closes <= _DAY_MINUTES else self.closes - _DAY_MINUTES
        return f"{_clock(self.opens)}-{_clock(closes)}"


Week = tuple[tuple[Span, ...], ...]
_ALWAYS: Week = ((Span(0, _DAY_MINUTES),),) * len(DAYS)


@dataclass(frozen=True, slots=True)
class OpeningHours:
    """`week`: spans by weekday from Monday on, in order. None: no hours are known, and it counts as always
    open, but on `holidays`."""

    week: Week | None = None
    holidays: frozenset[date] = frozenset()

    @property
    def are_known(self) -> bool:
        return self.week is not None or bool(self.holidays)

    def is_open(self, at: datetime) -> bool:
        """`at`: where the clinic is."""
        minute, today = 60 * at.hour + at.minute, at.date()
        return any(span.opens <= minute < span.closes for span in self._spans(today)) or any(
            minute + _DAY_MINUTES < span.closes for span in self._spans(today - _ONE_DAY)
        )

    def next_opening(self, at: datetime) -> datetime | None:
        """The first minute from `at` on at which it is open; None if that is more than a year away."""
        if self.is_open(at):
            return at
        return next((opening for opening in self._openings(at) if opening > at), None)

    def _openings(self, at: datetime) -> Iterator[datetime]:
        for days in range(_LOOK_AHEAD_DAYS):
            day = at.date() + days * _ONE_DAY
            for span in self._spans(day):
                yield datetime.combine(day, time(*divmod(span.opens, 60)), at.tzinfo)

    def _spans(self, day: date) -> tuple[Span, ...]:
        return () if day in self.holidays else (self.week or _ALWAYS)[day.weekday()]

    def written(self) -> dict[str, str]:
        """The week as it is stored, day by day; nothing if no hours are known."""
        week = self.week or ()
        return {day: ", ".join(map(str, spans)) or CLOSED for day, spans in zip(DAYS, week, strict=False)}

    def in_words(self) -> str:
        """The week with equal days in a row taken together, such as `mon-fri 10:00-20:00; sat-sun closed`."""
        runs: list[tuple[str, str, str]] = []
        for day, spans in self.written().items():
            if runs and runs[-1][2] == spans:
                runs[-1] = (runs[-1][0], day, spans)
            else:
                runs.append((day, day, spans))
        return "; ".join(f"{a if a == b else f'{a}-{b}'} {spans}" for a, b, spans in runs)


def opening_hours(week: Mapping[str, str], holidays: Collection[str] = ()) -> OpeningHours:
    """As they are written: `{"mon-fri": "10:00-20:00", "sat,sun": "10:00-12:00, 13:00-18:00"}`. A day that is
    not named is closed. Raises InvalidInputError naming what can't be read."""
    by_day: dict[str, str] = {}
    for days, spans in week.items():
        by_day = with_days(by_day, days, spans)
    whole = tuple(parse_spans(by_day.get(day, CLOSED)) for day in DAYS) if week else None
    return OpeningHours(whole, frozenset(map(parse_day, holidays)))


def with_days(by_day: Mapping[str, str], days: str, spans: str) -> dict[str, str]:
    """The spans of single days, and those of more `days`. Raises InvalidInputError."""
    named = parse_days(days)
    if twice := [day for at, day in enumerate(named) if day in by_day or day in named[:at]]:
        raise InvalidInputError(f"{twice[0]} is named twice: keep one")
    return {**by_day, **dict.fromkeys(named, spans)}


def parse_days(text: str) -> list[str]:
    """`mon`, `mon-fri`, `fri-mon`, or several with commas. Raises InvalidInputError."""
    named: list[str] = []
    for part in text.lower().split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if first not in DAYS or (dash and last not in DAYS):
            raise InvalidInputError(f"{text!r}: expected days such as mon, mon-fri or sat,sun")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        named += (DAYS * 2)[begin : end + 1 + (len(DAYS) if end < begin else 0)]
    return named


def parse_spans(text: str) -> tuple[Span, ...]:
    """`10:00-20:00`, several with commas, or `closed`. Raises InvalidInputError."""
    if text.strip().lower() == CLOSED:
        return ()
    spans = sorted(_span(part.strip()) for part in text.split(","))
    if any(before.closes > after.opens for before, after in pairwise(spans)):
        raise InvalidInputError(f"{text!r}: spans of a day overlap: join them")
    return tuple(spans)


def parse_day(text: str) -> date:
    """`2026-12-31`. Raises InvalidInputError."""
    try:
        return date.fromisoformat(text if _DATE.fullmatch(text) else "")
    except ValueError:
        raise InvalidInputError(f"{text!r}: expected a day such as 2026-12-31") from None


def _span(text: str) -> Span:
    found = _SPAN.fullmatch(text)
    if not found:
        raise InvalidInputError(f"{text!r}: expected hours such as 10:00-20:00, or closed")
    numbers = [int(group) for group in found.groups() if group]
    opens, closes = 60 * numbers[0] + numbers[1], 60 * numbers[2] + numbers[3]
    if opens == closes:
        raise InvalidInputError(f"{text!r}: opens when it closes: write 00:00-24:00 for a whole day")
    return Span(opens, closes if closes > opens else closes + _DAY_MINUTES)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
