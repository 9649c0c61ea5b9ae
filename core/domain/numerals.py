"""Numbers in Thai text, as digits (900, 3,900, ๓ ๙๐๐, 3.5 พัน, 12k) and as words (สามพันเก้าร้อย)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from core.domain.thai_text import normalized

_OTHER_DIGITS = re.compile(r"[^\D0-9]")

_DIGIT_WORDS: Final = {
    word: value
    for value, words in enumerate(("ศูนย์", "หนึ่ง|เอ็ด", "สอง|ยี่", "สาม", "สี่", "ห้า", "หก", "เจ็ด", "แปด", "เก้า"))
    for word in words.split("|")
}
_UNITS: Final = {
    "สิบ": 10,
    "ร้อย": 100,
    "พัน": 1_000,
    "หมื่น": 10_000,
    "แสน": 100_000,
    "ล้าน": 1_000_000,
    "k": 1_000,
}
_HALF = "ครึ่ง"
_MILLION = 1_000_000
_NEXT_PLACE_FROM, _NEXT_PLACE = 1_000, 10

DIGITS = (
    r"(?:[0-9]{1,3}(?:(?:[,'_٬][ ]?|[ ],[ ]?|[ ])[0-9]{3})+(?![0-9])(?:\.[0-9]{1,2}(?![0-9]))?"
    r"|[0-9]{1,3}(?:\.[0-9]{3})+(?![0-9])(?:,[0-9]{1,2}(?![0-9]))?"
    r"|[0-9](?:[ ][0-9]){2,}(?![ ]?[0-9])"
    r"|[0-9]++(?:\.[0-9]{1,2}(?![0-9.]))?)"
)
"""3,900 · 3 900 · 3.900 · 3,900.50 · 3 9 0 0 · 3900 · 3900.50: no price has three decimals."""

_WORD = "|".join((*_DIGIT_WORDS, _HALF))
# ร้อยไหม (a thread lift) and พันธุ์ (a species) are no units.
_UNIT = r"(?:สิบ|ร้อย(?!ไหม)|พัน(?!ธ)|หมื่น|แสน|ล้าน|k(?![a-z0-9]))"
_PLACES = (
    rf"(?:[ ]?{_UNIT}(?:[ ]?(?:(?:{DIGITS}|{_WORD})(?=[ ]?{_UNIT})|{_WORD}))?)++"
    r"(?:[ ]?[0-9]{1,3}(?=[ ]?(?:บาท|บ\.|฿)))?"
)
_IN_DIGITS = re.compile(rf"{DIGITS}(?P<places>{_PLACES})?")
_IN_WORDS = re.compile(rf"(?:(?:{_WORD})?{_PLACES}|(?:{_WORD}))(?=[ ]?(?:กว่า|เศษ)?[ ]?บาท)")
_PART = re.compile(rf"{DIGITS}|{_WORD}|{_UNIT}")
_DIGIT = re.compile("[0-9]")
_BAHT = re.compile("บาท")
_LONGEST_WORDS = 60
_ABOUT_LETTERS = " กว่าเศษ"
_DECIMALS = re.compile(r"(?<=[0-9])[.,]([0-9]{1,2})$")
_IS_WRITTEN = re.compile(r"[ก-๛][ ]?(?:กว่า|เศษ)?[ ]?$")


@dataclass(frozen=True, slots=True)
class Number:
    """`text[start:end]`. `also`: its other reading, of สามพันห้า, which is 3,500 as people say it and 3,005 by
    the book. `multiplier`: of its last unit (พัน, k), 1 without one. `grouped`: by separators that nobody
    writes into anything but a quantity. `written`: without a digit."""

    value: Decimal
    start: int
    end: int
    multiplier: int = 1
    grouped: bool = False
    written: bool = False
    also: Decimal | None = None


def comparable(line: str) -> str:
    """One line in the form in which numbers are looked for: see `normalized`; every digit is ASCII."""
    return _OTHER_DIGITS.sub(lambda digit: str(int(digit[0])), normalized(line))


def numbers(line: str) -> list[Number]:
    """All numbers in a line as `comparable` has made it, in order; in words only those before บาท."""
    found, at = [], 0
    while first := _DIGIT.search(line, at):
        digits = _IN_DIGITS.match(line, first.start())
        if digits is None:  # a digit always begins one
            break
        found.append(_number(digits))
        at = digits.end()
    written = [
        number
        for baht in _BAHT.finditer(line)
        if (number := _written_before(line, baht.start()))
        and not any(other.start < number.end and number.start < other.end for other in found)
    ]
    return sorted([*found, *written], key=lambda number: number.start) if written else found


def _written_before(line: str, end: int) -> Number | None:
    start = max(0, end - _LONGEST_WORDS)
    if not _IS_WRITTEN.search(line, max(0, end - 8), end):
        return None
    ends = [found for found in _IN_WORDS.finditer(line, start) if found.end() <= end]
    return _number(ends[-1]) if ends and not line[ends[-1].end() : end].strip(_ABOUT_LETTERS) else None


def _number(found: re.Match[str]) -> Number:
    text, start, end = found[0], found.start(), found.end()
    if found.re is _IN_DIGITS and found["places"] is None:
        grouped = "," in text or "'" in text or "٬" in text
        return Number(digits_value(text), start, end, grouped=grouped)
    parts = _PART.findall(text)
    value, multiplier, last = _value(parts)
    written = found.re is _IN_WORDS
    if last is None:
        return Number(value, start, end, multiplier, written=written)
    is_next_place = multiplier >= _NEXT_PLACE_FROM and last < _NEXT_PLACE and parts[-1] != "เอ็ด"
    said = value + last * multiplier / 10 if is_next_place else value + last
    also = value + last if is_next_place else None
    return Number(said, start, end, multiplier, written=written, also=also)


def digits_value(digits: str) -> Decimal:
    if digits.isdigit():
        return Decimal(digits)
    whole, decimals = digits, ""
    if found := _DECIMALS.search(digits):
        whole, decimals = digits[: found.start()], found[1]
    return Decimal("".join(c for c in whole if c.isdigit()) + (f".{decimals}" if decimals else ""))


def _value(parts: list[str]) -> tuple[Decimal, int, Decimal | None]:
    """Thai says the digit, then its place. The value of all places, the last place, and what stands behind
    it: of สามพันห้า 3,000, 1,000, 5."""
    total, unit = Decimal(0), 1
    digit: Decimal | None = None
    for part in parts:
        if part == _HALF:
            total += Decimal(unit) / 2
        elif part not in _UNITS:
            digit = Decimal(_DIGIT_WORDS[part]) if part in _DIGIT_WORDS else digits_value(part)
        elif (unit := _UNITS[part]) == _MILLION:
            total = (total + (digit if digit is not None else Decimal(not total))) * unit
            digit = None
        else:
            total += (Decimal(1) if digit is None else digit) * unit
            digit = None
    return total, unit, digit
