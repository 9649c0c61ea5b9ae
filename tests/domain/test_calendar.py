"""Bookings as a calendar that others read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.booking import Booking, BookingState
from core.domain.calendar import calendar
from core.domain.clinic import Clinic

CLINIC = Clinic("bkk", "Smile, Bangkok; ฟัน", "U1", "1")
BOOKING = Booking("T1", "bkk", "U1", "U1", "ขูดหินปูน", "2026-12-05", "14:00", "Asia/Bangkok", 1_795_000_000_000)


def parsed(text: str) -> list[dict[str, str]]:
    """As RFC 5545 says that a reader unfolds and unescapes; raises what a strict one would refuse."""
    assert text.endswith("\r\n")
    lines = text[:-2].split("\r\n")
    assert all(len(line.encode()) <= 75 for line in lines)
    assert all(char >= " " for line in lines for char in line)
    unfolded: list[str] = []
    for line in lines:
        if line.startswith(" "):
            unfolded[-1] += line[1:]
        else:
            unfolded.append(line)
    assert (unfolded[0], unfolded[-1]) == ("BEGIN:VCALENDAR", "END:VCALENDAR")
    events: list[dict[str, str]] = []
    for line in unfolded[1:-1]:
        name, _, value = line.partition(":")
        if line == "BEGIN:VEVENT":
            events.append({})
        elif events and line != "END:VEVENT":
            assert name not in events[-1]
            events[-1][name] = _unescaped(value)
    return events


def _unescaped(value: str) -> str:
    found, rest = "", iter(value)
    for char in rest:
        assert char not in ";,"
        found += {"n": "\n"}.get(escaped := next(rest), escaped) if char == "\\" else char
    return found


def test_what_stands_is_in_it_with_its_time_in_utc() -> None:
    booked = replace(BOOKING, name="มิ้นท์", phone="081", note="แพ้ยา", state=BookingState.CONFIRMED)
    declined, cancelled = (replace(BOOKING, state=s) for s in (BookingState.DECLINED, BookingState.CANCELLED))
    [confirmed, requested] = parsed(calendar(CLINIC, [booked, BOOKING, declined, cancelled], 0))
    assert confirmed == {
        "UID": "bkk-T1@fairlane",
        "DTSTAMP": "19700101T000000Z",
        "DTSTART": "20261205T070000Z",
        "DTEND": "20261205T080000Z",
        "SUMMARY": "ขูดหินปูน · มิ้นท์",
        "DESCRIPTION": "081\nแพ้ยา",
        "STATUS": "CONFIRMED",
    }
    assert requested["STATUS"] == "TENTATIVE"


def test_an_empty_calendar_is_one() -> None:
    assert parsed(calendar(CLINIC, [], 0)) == []


@pytest.mark.parametrize("words", ["a;b,c\\d\\n", "ก" * 200, "😀" * 40, "x" * 75, "\r\n\ta\x00b"])
def test_words_are_escaped_and_folded(words: str) -> None:
    [event] = parsed(calendar(CLINIC, [replace(BOOKING, note=words)], 0))
    expected = words.replace("\r\n", "\n")
    assert event["DESCRIPTION"] == "".join(c for c in expected if c >= " " or c == "\n")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_any_text_comes_back_as_it_was(words: str) -> None:
    [event] = parsed(calendar(CLINIC, [replace(BOOKING, service=words or "-")], 0))
    assert event["SUMMARY"] == (words or "-")
