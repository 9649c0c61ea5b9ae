"""Days and hours as customers write them, Thai and English."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

_THAI_DAYS = ("จันทร์", "อังคาร", "พุธ", "พฤหัส", "ศุกร์", "เสาร์", "อาทิตย์")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SOON = {"วันนี้": 0, "today": 0, "พรุ่งนี้": 1, "tomorrow": 1, "มะรืน": 2}
_HOURS = {"หนึ่ง": 1, "สอง": 2, "สาม": 3, "สี่": 4, "ห้า": 5, "หก": 6, "เก้า": 9, "สิบ": 10, "สิบเอ็ด": 11}
_NUMBER = r"(?P<n>\d{1,2}|" + "|".join(sorted(_HOURS, key=len, reverse=True)) + ")"
_CLOCK = re.compile(r"(?<![\d-])(?P<h>[01]?\d|2[0-3])[:.](?P<m>[0-5]\d)(?![\d-])")
_AFTERNOON = re.compile(rf"บ่าย\s*{_NUMBER}?")
_EVENING = re.compile(rf"{_NUMBER}\s*(?:โมงเย็น|ทุ่ม)")
_MORNING = re.compile(rf"{_NUMBER}\s*โมง")
_ENGLISH = re.compile(r"\b(?P<n>\d{1,2})\s*(?P<half>am|pm)\b", re.IGNORECASE)
_ISO = re.compile(r"\b(\d{4}-\d{2}-\d{2})\b")
_DAY_MONTH = re.compile(r"(?<![\d:.])(?P<d>\d{1,2})/(?P<m>\d{1,2})(?!\d)")
_DAY = re.compile(r"วันที่\s*(?P<d>\d{1,2})")


def day_in(text: str, now: datetime) -> date | None:
    """The day that is meant, from today on."""
    today, words = now.date(), text.casefold()
    for word, days in _SOON.items():
        if word in words:
            return today + timedelta(days=days)
    try:
        if day := _date_in(words, today):
            return day
    except ValueError:
        return None
    for names in (_THAI_DAYS, _DAYS):
        for weekday, name in enumerate(names):
            if name in words:
                return today + timedelta(days=(weekday - today.weekday()) % 7 or 7)
    return None


def _date_in(words: str, today: date) -> date | None:
    """Raises ValueError for a day that there is not."""
    if found := _ISO.search(words):
        return date.fromisoformat(found[1])
    if found := _DAY_MONTH.search(words):
        day = date(today.year, int(found["m"]), int(found["d"]))
        return day if day >= today else day.replace(year=today.year + 1)
    if found := _DAY.search(words):
        day = today.replace(day=int(found["d"]))
        return day if day >= today else (day.replace(day=1) + timedelta(days=32)).replace(day=day.day)
    return None


def time_in(text: str) -> str | None:
    """HH:MM."""
    if found := _CLOCK.search(text):
        return f"{int(found['h']):02}:{found['m']}"
    return "12:00" if "เที่ยง" in text else _hour_in(text)


def _hour_in(text: str) -> str | None:
    if found := _AFTERNOON.search(text):
        return f"{12 + (_number(found['n']) if found['n'] else 1):02}:00"
    if found := _EVENING.search(text):
        hour = _number(found["n"])
        return f"{(18 if 'ทุ่ม' in found[0] else 12) + hour:02}:00"
    if found := _ENGLISH.search(text):
        return f"{int(found['n']) % 12 + (12 if found['half'].casefold() == 'pm' else 0):02}:00"
    if found := _MORNING.search(text):
        return f"{_number(found['n']):02}:00"
    return None


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else _HOURS[text]
