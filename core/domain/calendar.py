"""Bookings as an iCalendar file (RFC 5545) that Google Calendar and others import.

Times are in UTC, so that no time zone needs to be described. An event's UID is the booking's id: importing
again changes it in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from core.domain.booking import Booking, BookingState
from core.domain.clinic import Clinic

_LENGTH = timedelta(hours=1)
"""Nobody says how long an appointment takes: what stands in the calendar keeps an hour."""
_LINE_OCTETS = 75
_STATUS = {BookingState.CONFIRMED: "CONFIRMED", BookingState.REQUESTED: "TENTATIVE"}


def calendar(clinic: Clinic, bookings: Iterable[Booking], now_ms: int) -> str:
    """What stands; requests that nobody has confirmed yet are tentative."""
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//fairlane//bookings//EN",
        "CALSCALE:GREGORIAN",
        "METHOD:PUBLISH",
        f"X-WR-CALNAME:{_text(clinic.name)}",
    ]
    for booking in bookings:
        if booking.is_open:
            lines += _event(booking, now_ms)
    return "".join(f"{folded}\r\n" for line in [*lines, "END:VCALENDAR"] for folded in _folded(line))


def _event(booking: Booking, now_ms: int) -> Iterator[str]:
    yield "BEGIN:VEVENT"
    yield f"UID:{_text(f'{booking.org_id}-{booking.id}@fairlane')}"
    yield f"DTSTAMP:{_utc(datetime.fromtimestamp(now_ms / 1000, UTC))}"
    yield f"DTSTART:{_utc(booking.starts)}"
    yield f"DTEND:{_utc(booking.starts + _LENGTH)}"
    yield f"SUMMARY:{_text(' · '.join(filter(None, [booking.service, booking.name])))}"
    if details := [text for text in (booking.phone, booking.note) if text]:
        yield f"DESCRIPTION:{_text(chr(10).join(details))}"
    yield f"STATUS:{_STATUS[booking.state]}"
    yield "END:VEVENT"


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _text(value: str) -> str:
    """Escaped (RFC 5545, 3.3.11); a text may hold no other control character than a tab."""
    for char, escaped in (("\\", "\\\\"), (";", "\\;"), (",", "\\,"), ("\r\n", "\\n"), ("\n", "\\n")):
        value = value.replace(char, escaped)
    return "".join(char for char in value if char >= " " and char != "\x7f")


def _folded(line: str) -> Iterator[str]:
    """In lines of at most 75 octets, never within a character; those after the first begin with a blank."""
    part = ""
    for char in line:
        if len(f"{part}{char}".encode()) > _LINE_OCTETS:
            yield part
            part = " "
        part += char
    yield part
