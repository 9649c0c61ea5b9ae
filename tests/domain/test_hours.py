"""When a clinic is open, against a table of every minute."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import InvalidInputError
from core.domain.hours import DAYS, OpeningHours, opening_hours

BANGKOK = ZoneInfo("Asia/Bangkok")
DAY = 24 * 60
WRITTEN = {"mon-fri": "10:00-20:00", "sat": "10:00-18:00", "sun": "closed"}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BANGKOK)


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@st.composite
def days(draw: st.DrawFn) -> tuple[tuple[int, int], ...]:
    """Spans of one day: their beginnings and ends in turn, the last perhaps on the next day."""
    edges = draw(st.lists(st.integers(0, DAY - 1), max_size=6, unique=True).map(sorted))
    spans = list(zip(edges[::2], edges[1::2], strict=False))
    if len(edges) % 2:
        first = edges[0] if len(edges) > 1 else edges[-1]
        spans.append((edges[-1], draw(st.integers(0, first)) if first < edges[-1] else 24 * 60))
    return tuple(spans)


WEEKS = st.lists(days(), min_size=7, max_size=7)
BEGINNINGS = st.dates(date(2026, 1, 1), date(2028, 12, 31))  # over months, years and a 29 February


def open_minutes(
    week: list[tuple[tuple[int, int], ...]], holidays: set[date], first: date, length: int
) -> list[bool]:
    """Of each minute from the first day on, whether it is open; spans of the eve reach into it."""
    table = [False] * (DAY * (length + 2))
    for offset in range(-1, length):
        day = first + timedelta(days=offset)
        for opens, closes in () if day in holidays else week[day.weekday()]:
            long = (closes - opens) % DAY or DAY
            for minute in range(DAY * (offset + 1) + opens, DAY * (offset + 1) + opens + long):
                table[minute] = True
    return table[DAY:]


@given(WEEKS, BEGINNINGS, st.sets(st.integers(-1, 20), max_size=6), st.data())
def test_every_minute_is_open_or_closed_as_a_table_of_minutes_says(
    week: list[tuple[tuple[int, int], ...]], first: date, off: set[int], data: st.DataObject
) -> None:
    holidays = {first + timedelta(days=day) for day in off}
    written = {
        day: ", ".join(f"{clock(a)}-{clock(b)}" for a, b in spans) or "closed"
        for day, spans in zip(DAYS, week, strict=True)
    }
    hours = opening_hours(written, [day.isoformat() for day in holidays])
    length = 30
    table = open_minutes(week, holidays, first, length)
    edges = [minute for minute in range(1, DAY * 9) if table[minute] != table[minute - 1]]
    asked = {0, DAY - 1, DAY, data.draw(st.integers(0, 9 * DAY))}
    asked |= {near for edge in edges[:20] for near in (edge - 1, edge)}
    midnight = datetime.combine(first, datetime.min.time(), BANGKOK)
    for minute in asked:
        now = midnight + timedelta(minutes=minute)
        assert hours.is_open(now) == table[minute], now
        expected = next((m for m in range(minute, DAY * length) if table[m]), None)
        found = hours.next_opening(now)
        if expected is not None:
            assert found == midnight + timedelta(minutes=expected), now
        else:
            assert found is None or found >= midnight + timedelta(days=length)
    assert opening_hours(hours.written(), [day.isoformat() for day in holidays]) == hours


@pytest.mark.parametrize(
    ("now", "is_open"),
    [
        ("2026-11-27 09:59:59.999", False),
        ("2026-11-27 10:00", True),
        ("2026-11-27 19:59:59.999", True),
        ("2026-11-27 20:00", False),
        ("2026-11-28 17:59", True),
        ("2026-11-28 18:00", False),
        ("2026-11-29 12:00", False),
    ],
)
def test_both_sides_of_every_boundary(now: str, is_open: bool) -> None:
    assert opening_hours(WRITTEN).is_open(at(now)) is is_open


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-11-28 18:00", "2026-11-30 10:00"),  # over a closed Sunday
        ("2026-11-30 08:00:30", "2026-11-30 10:00"),
        ("2026-12-30 21:00", "2027-01-04 10:00"),  # over holidays, a week-end and the year
    ],
)
def test_the_next_opening_is_after_closed_days_and_holidays(now: str, opens: str) -> None:
    hours = opening_hours(WRITTEN, ["2026-12-31", "2027-01-01", "2027-01-02"])
    assert hours.next_opening(at(now)) == at(opens)


def test_a_span_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    hours = opening_hours({"fri": "22:00-02:00"}, ["2026-11-28"])
    assert hours.is_open(at("2026-11-28 01:59"))  # Friday's, though Saturday is a holiday
    assert not opening_hours({"fri": "22:00-02:00"}, ["2026-11-27"]).is_open(at("2026-11-28 01:59"))


def test_without_hours_a_clinic_is_always_open_but_on_holidays() -> None:
    assert OpeningHours().is_open(at("2026-11-29 03:00"))
    assert not OpeningHours().are_known
    closed = opening_hours({}, ["2026-11-29"])
    assert not closed.is_open(at("2026-11-29 03:00"))
    assert closed.next_opening(at("2026-11-29 03:00")) == at("2026-11-30 00:00")


def test_a_clinic_that_never_opens_has_no_next_opening() -> None:
    assert opening_hours({"mon": "closed"}).next_opening(at("2026-11-29 03:00")) is None


@pytest.mark.parametrize(
    ("week", "in_words"),
    [
        (WRITTEN, "mon-fri 10:00-20:00; sat 10:00-18:00; sun closed"),
        (
            {"fri-mon": "9:00-12:00,13:00-17:00"},
            "mon 09:00-12:00, 13:00-17:00; tue-thu closed; fri-sun 09:00-12:00, 13:00-17:00",
        ),
        ({"Sat, Sun": "00:00-24:00"}, "mon-fri closed; sat-sun 00:00-24:00"),
        ({"mon": "22:00 – 02:00"}, "mon 22:00-02:00; tue-sun closed"),
    ],
)
def test_ranges_and_lists_of_days_are_read(week: dict[str, str], in_words: str) -> None:
    assert opening_hours(week).in_words() == in_words


@pytest.mark.parametrize(
    ("week", "holidays", "problem"),
    [
        ({"mon-fry": "10:00-20:00"}, [], "expected days such as mon"),
        ({"": "10:00-20:00"}, [], "expected days such as mon"),
        ({"mon": "10-20"}, [], "expected hours such as 10:00-20:00"),
        ({"mon": "24:00-25:00"}, [], "expected hours such as 10:00-20:00"),
        ({"mon": "10:00-10:00"}, [], "write 00:00-24:00 for a whole day"),
        ({"mon": "10:00-14:00, 13:00-18:00"}, [], "spans of a day overlap"),
        ({"mon-wed": "10:00-14:00", "tue": "closed"}, [], "tue is named twice"),
        ({"mon": "๑๐:๐๐-20:00"}, [], "expected hours such as 10:00-20:00"),
        ({}, ["31.12.2026"], "expected a day such as 2026-12-31"),
        ({}, ["2026-02-30"], "expected a day such as 2026-12-31"),
    ],
)
def test_what_cannot_be_read_is_named(week: dict[str, str], holidays: list[str], problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        opening_hours(week, holidays)
