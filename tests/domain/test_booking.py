"""A booking: who may decide what, when its customer is told, and how a wish becomes one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.booking import CUSTOMER, STAFF, Booking, BookingState, Step
from core.domain.booking_wish import BookingWish, WishAction, booking_of, meant, read_wish, starts_of
from core.domain.hours import opening_hours
from core.domain.moment import Moment

HOUR_MS = 3_600_000
R, C, D, X = BookingState.REQUESTED, BookingState.CONFIRMED, BookingState.DECLINED, BookingState.CANCELLED


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Bangkok")).timestamp() * 1000)


NOW_MS = ms("2026-11-28 12:00")
BOOKING = Booking(
    "T1", "bkk", "U1", "U1", "ขูดหินปูน", "2026-12-05", "14:00", "Asia/Bangkok", NOW_MS, name="มิ้นท์", phone="081"
)
HOURS = opening_hours({"mon-fri": "10:00-20:00", "sat": "10:00-18:00"})


@pytest.mark.parametrize("before", list(BookingState))
@pytest.mark.parametrize("to", list(BookingState))
def test_only_what_stands_can_be_decided_and_the_first_wins(before: BookingState, to: BookingState) -> None:
    booking = replace(BOOKING, state=before)
    allowed = {(R, C), (R, D), (R, X), (C, X)}
    decided = booking.decided(to, STAFF, NOW_MS, 24)
    assert (decided != booking) is ((before, to) in allowed)
    assert decided.state is (to if (before, to) in allowed else before)


@pytest.mark.parametrize(
    ("now", "remind_hours", "due"),
    [
        ("2026-11-28 12:00", 24, "2026-12-04 14:00"),
        ("2026-12-04 13:59:59", 24, "2026-12-04 14:00"),
        ("2026-12-04 14:00", 24, None),  # due already when it is confirmed
        ("2026-12-05 13:00", 24, None),
        ("2026-11-28 12:00", 0, None),
        ("2026-11-28 12:00", 1.5, "2026-12-05 12:30"),
        ("2026-11-28 12:00", 168, "2026-11-28 14:00"),
    ],
)
def test_a_confirmed_booking_is_reminded_of_unless_that_was_due_already(
    now: str, remind_hours: float, due: str | None
) -> None:
    confirmed = BOOKING.decided(C, STAFF, ms(now), remind_hours)
    assert confirmed.remind_ms == (ms(due) if due else None)
    assert confirmed.due(Step.REMINDER, ms(now)) is (due is not None)
    assert confirmed.decided(X, CUSTOMER, ms(now)).remind_ms is None


@pytest.mark.parametrize(
    ("state", "answer", "reminder"), [(R, False, False), (C, True, True), (D, True, False), (X, False, False)]
)
def test_who_is_told_what_depends_on_the_state(state: BookingState, answer: bool, reminder: bool) -> None:
    booking = replace(BOOKING, state=state, remind_ms=NOW_MS)
    assert booking.due(Step.ANSWER, NOW_MS) is answer
    assert booking.due(Step.REMINDER, NOW_MS) is reminder
    for step in Step:
        assert not booking.as_told(step, "sent", NOW_MS).due(step, NOW_MS)
    assert not booking.due(Step.REMINDER, booking.starts_ms)


@given(
    st.builds(
        Booking,
        *[st.text(max_size=5)] * 5,
        date=st.dates().map(lambda day: f"{day:%Y-%m-%d}".rjust(10, "0")),
        time=st.times().map(lambda at: f"{at:%H:%M}"),
        timezone=st.just("Asia/Bangkok"),
        created_ms=st.integers(0, 2**40),
        state=st.sampled_from(BookingState),
        told=st.dictionaries(st.sampled_from([step.value for step in Step]), st.text(max_size=5)),
        remind_ms=st.none() | st.integers(0, 2**40),
    ).filter(lambda booking: "1900" < booking.date < "9999")
)
def test_a_booking_reads_back_as_it_was_stored(booking: Booking) -> None:
    assert Booking.decode(booking.id, booking.encode()) == booking


def test_forgetting_erases_words_and_cancels_what_stood() -> None:
    erased = replace(BOOKING, note="แพ้ยาชา", state=C, remind_ms=NOW_MS).without_words()
    assert (erased.service, erased.name, erased.phone, erased.note) == ("",) * 4
    assert (erased.state, erased.remind_ms) == (X, None)
    assert replace(BOOKING, state=D).without_words().state is D


WISH = {
    "action": "request",
    "service": "ขูดหินปูน",
    "date": "2026-12-05",
    "time": "14:00",
    "name": "มิ้นท์",
    "phone": "081-234-5678",
    "note": None,
}


def wished(**fields: Any) -> Booking | None:
    wish = read_wish({**WISH, **fields})
    assert wish
    where = {"turn_id": "T1", "org_id": "bkk", "user_id": "U1", "chat_id": "U1"}
    return booking_of(wish, None, HOURS, Moment(NOW_MS), **where)


def test_a_whole_wish_becomes_a_requested_booking() -> None:
    booking = wished()
    assert booking == replace(BOOKING, phone="081-234-5678")


@pytest.mark.parametrize(
    "fields",
    [
        {"service": None},
        {"service": "   "},
        {"date": None},
        {"time": None},
        {"date": "2026-11-27"},
        {"date": "2026-11-28", "time": "12:00"},
        {"date": "2026-02-30"},
        {"date": "2027-02-29"},
        {"date": "05/12/2026"},
        {"date": "2569-12-05"},
        {"date": "2028-06-01"},
        {"time": "24:00"},
        {"time": "9:00"},
        {"time": "14:60"},
        {"time": "๑๔:๐๐"},
        {"date": 20261205},
    ],
)
def test_what_cannot_be_read_or_does_not_lie_ahead_becomes_none(fields: dict[str, Any]) -> None:
    assert wished(**fields) is None


@pytest.mark.parametrize(
    ("date", "time", "outside"),
    [
        ("2026-11-28", "12:01", False),
        ("2026-11-28", "17:59", False),
        ("2026-11-28", "18:00", True),
        ("2026-11-29", "12:00", True),
        ("2026-11-30", "09:59", True),
        ("2026-11-30", "10:00", False),
    ],
)
def test_a_booking_outside_the_hours_is_marked(date: str, time: str, outside: bool) -> None:
    booking = wished(date=date, time=time)
    assert booking
    assert booking.outside_hours is outside


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.dictionaries(
        st.sampled_from(sorted(WISH)), ANYTHING | st.sampled_from(sorted(map(str, WISH.values())))
    )
)
def test_whatever_a_model_writes_is_a_wish_that_can_be_shown_or_none(raw: dict[str, Any]) -> None:
    wish = read_wish(raw)
    if wish is None:
        return
    assert wish.action in set(WishAction)
    starts_of(wish, Moment(NOW_MS))
    for text in (wish.service, wish.date, wish.time, wish.name, wish.phone, wish.note):
        assert "\n" not in text
        json.dumps(text).encode()


@pytest.mark.parametrize("raw", [None, "request", [], {}, {"action": "book"}, {"action": None}])
def test_what_is_no_wish_is_none(raw: Any) -> None:
    assert read_wish(raw) is None


LATER = replace(BOOKING, id="T2", date="2026-12-12", service="ฟอกสีฟัน")


@pytest.mark.parametrize(
    ("wish", "standing", "found"),
    [
        (BookingWish(WishAction.CANCEL), [], None),
        (BookingWish(WishAction.CANCEL), [BOOKING], "T1"),
        (BookingWish(WishAction.CANCEL), [BOOKING, LATER], None),
        (BookingWish(WishAction.CANCEL, date="2026-12-12"), [BOOKING, LATER], "T2"),
        (BookingWish(WishAction.CANCEL, date="2026-12-13"), [BOOKING, LATER], None),
        (BookingWish(WishAction.CANCEL, date="2026-12-13"), [BOOKING], None),
        (BookingWish(WishAction.CHANGE, date="2026-12-13"), [BOOKING], "T1"),
        (BookingWish(WishAction.CHANGE, date="2026-12-13"), [BOOKING, LATER], None),
        (BookingWish(WishAction.CHANGE, service="ฟอกสีฟัน", date="2026-12-13"), [BOOKING, LATER], "T2"),
        (BookingWish(WishAction.CHANGE), [], None),
    ],
)
def test_a_change_or_cancel_is_about_the_only_booking_that_it_can_mean(
    wish: BookingWish, standing: list[Booking], found: str | None
) -> None:
    booking = meant(wish, standing)
    assert (booking and booking.id) == found
