"""Days as a clinic's people write them: Thai months, years of the Buddhist era."""

from __future__ import annotations

_MONTHS = ("ม.ค.", "ก.พ.", "มี.ค.", "เม.ย.", "พ.ค.", "มิ.ย.", "ก.ค.", "ส.ค.", "ก.ย.", "ต.ค.", "พ.ย.", "ธ.ค.")
_WHOLE = (
    *("มกราคม", "กุมภาพันธ์", "มีนาคม", "เมษายน", "พฤษภาคม", "มิถุนายน"),
    *("กรกฎาคม", "สิงหาคม", "กันยายน", "ตุลาคม", "พฤศจิกายน", "ธันวาคม"),
)


def thai_day(day: str) -> str:
    """`24 พ.ย. 2569` of YYYYMMDD."""
    return f"{int(day[6:])} {_MONTHS[int(day[4:6]) - 1]} {int(day[:4]) + 543}"


def thai_days(first: str, last: str) -> str:
    """`1–24 พ.ย. 2569`: what both have in common once."""
    if first == last:
        return thai_day(first)
    if first[:6] == last[:6]:
        return f"{int(first[6:])}–{thai_day(last)}"
    begins = thai_day(first) if first[:4] != last[:4] else thai_day(first).rpartition(" ")[0]
    return f"{begins} – {thai_day(last)}"


def thai_month(month: str) -> str:
    """`พฤศจิกายน 2569` of YYYY-MM."""
    year, number = month.split("-")
    return f"{_WHOLE[int(number) - 1]} {int(year) + 543}"
