"""A day and its hour as people say them in a chat: tomorrow, on Monday, on Monday 4 January."""

from __future__ import annotations

from datetime import datetime, timedelta

_SOON = timedelta(days=6)

_THAI_DAYS = ("จันทร์", "อังคาร", "พุธ", "พฤหัสบดี", "ศุกร์", "เสาร์", "อาทิตย์")
_THAI_MONTHS = (
    "มกราคม",
    "กุมภาพันธ์",
    "มีนาคม",
    "เมษายน",
    "พฤษภาคม",
    "มิถุนายน",
    "กรกฎาคม",
    "สิงหาคม",
    "กันยายน",
    "ตุลาคม",
    "พฤศจิกายน",
    "ธันวาคม",
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def spoken(at: datetime, now: datetime, language: str) -> str:
    """`at` as it is said at `now`, both where the clinic is. In English with its preposition; Thai where the
    language is not English."""
    days = (at.date() - now.date()).days
    if language == "en":
        return f"{_english_day(at, days)} at {at:%H:%M}"
    return f"{_thai_day(at, days)} {at:%H.%M} น."


def spoken_in_full(at: datetime, language: str) -> str:
    """With weekday and date, for what is read on another day than it is said."""
    return spoken(at, at - 2 * _SOON, language)


def _thai_day(at: datetime, days: int) -> str:
    if days in {0, 1}:
        return ("วันนี้", "พรุ่งนี้")[days]
    weekday = f"วัน{_THAI_DAYS[at.weekday()]}"
    if days <= _SOON.days:
        return f"{weekday}นี้"
    return f"{weekday}ที่ {at.day} {_THAI_MONTHS[at.month - 1]}"


def _english_day(at: datetime, days: int) -> str:
    if days in {0, 1}:
        return ("today", "tomorrow")[days]
    weekday = f"on {_DAYS[at.weekday()]}"
    return weekday if days <= _SOON.days else f"{weekday} {at.day} {_MONTHS[at.month - 1]}"
