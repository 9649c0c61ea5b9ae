"""Amounts of money in what was written, as a customer would read them.

A number is money if something says so: a currency beside it, a unit of thousands, a separator of
thousands, a word such as ราคา or a listed item before it. It is none if something says what else it is: a
time, a date, a telephone number, a percentage, a dose, a count. Any other number only may be one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum, auto

from core.domain.numerals import Number, comparable, numbers

BAHT = "THB"


class Kind(Enum):
    MONEY = auto()
    PERHAPS = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Amount:
    """`text`: as it was written. `line[start:end]` of the text's `lines`."""

    value: Decimal
    text: str
    kind: Kind = Kind.MONEY
    currency: str = BAHT
    line: int = 0
    start: int = 0
    end: int = 0


_GAP = r"[\s*_()\[\]'\"]{0,3}"
_ABOUT = r"(?:กว่า|เศษ|ต้น|ปลาย|นิด|ถ้วน|ไทย|thai)?[\sๆ]{0,3}"
_BEFORE = re.compile(r"(?:(?P<baht>฿|thb|baht)|(?P<other>us\$|\$|€|£|¥|usd))[\s*_.:(]{0,3}$")

_NO_MONEY_AFTER = re.compile(
    r"\s?(?:%|เปอร์เซ็นต์|เปอร์เซนต์|percent|น\.|นาฬิกา|โมง|ทุ่ม|[ap]\.?m\b|°|องศา|นาที|ชั่วโมง|ชม|วินาที|วัน|คืน|สัปดาห์|อาทิตย์|เดือน|ปี|ขวบ"
    r"|ครั้ง|คอร์ส|คอส|เข็ม|ซี่|เส้น|ช็อต|ช๊อต|ชอต|ตัว|เม็ด|แผง|หลอด|ขวด|แก้ว|กล่อง|ชิ้น|คู่|ข้าง|จุด|ตำแหน่ง|แห่ง|สาขา|ชั้น|ห้อง|เตียง|คัน|คน|ท่าน|ราย|เคส|คิว|นัด"
    r"|ข้อ|ขั้น|รอบ|แบบ|สี|ระดับ|ดาว|รีวิว|งวด|อย่าง|เรื่อง|ประเภท|ด้าน|ชุด|แพ็ก|ใบ|แผ่น|สิทธิ์|สิทธิ|แต้ม|คะแนน|กม|กิโล|เมตร|ม\.|ซม|มม|มก|มิลลิ|มล|กรัม|ก\.|กก|ซีซี|ยูนิต|แคล"
    r"|(?:ml|mg|mcg|cc|kg|g|km|m|cm|mm|units?|u|iu|shots?|lines?|times?|days?|weeks?|months?|years?|hours?|hrs?|h|minutes?|mins?|"
    r"people|persons?|visits?|sessions?|teeth|tooth|points?|cars?|branch(?:es)?|floors?|stars?|steps?|reviews?|th|st|nd|rd|°c)(?![a-z])"
    r"|ม\.?ค\.?|ก\.?พ\.?|มี\.?ค\.?|เม\.?ย\.?|พ\.?ค\.?|มิ\.?ย\.?|ก\.?ค\.?|ส\.?ค\.?|ก\.?ย\.?|ต\.?ค\.?|พ\.?ย\.?|ธ\.?ค\.?|มกรา|กุมภา|มีนา|เมษา|พฤษภา|มิถุนา|กรกฎา"
    r"|สิงหา|กันยา|ตุลา|พฤศจิกา|ธันวา|(?:jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec)[a-z]*)"
)
_SYMBOL = r"(?:฿|thb|us\$|\$|€|£|¥|usd)"
_AFTER = re.compile(
    # A symbol between two numbers is the second one's (ปี 2569 ฿900), unless it touches the first or the
    # second is something else (900 ฿ 2 ครั้ง).
    rf"(?!\s{{1,3}}{_SYMBOL}(?:[0-9]|\s[0-9][0-9,.]*+(?!{_NO_MONEY_AFTER.pattern}))){_GAP}{_ABOUT}(?:(?P<satang>สตางค์)"
    r"|(?P<baht>บาท|บ\.|บ(?![ก-๛])|฿|thb|baht|bath(?![a-z])|bht|b(?![a-z])|[.,]\s?[-–—])"
    r"|(?P<other>usd|us\$|\$|€|£|¥|ดอลลาร์|ดอลล่าร์|เหรียญ|dollars?|euros?|ยูโร|ปอนด์|หยวน|เยน))"
)
_NUMBERS_BEFORE = re.compile(
    r"(?:(?:โทรศัพท์|โทร|เบอร์|สายด่วน|call|tel|phone|hotline|เวลา|อายุ|สาขา|ชั้น|ห้อง|เลขที่|เลข|ลำดับ|ใบนัด|คิว|hn|no|ข้อ|ครั้ง|รุ่น|ซอย|ถนน|หมู่"
    r"|พระราม|สุขุมวิท|ลาดพร้าว|ทางออก|exit|floor|room|ตึก|อาคาร|ไปรษณีย์|กรุงเทพฯ|กรุงเทพ|กทม|line|ไลน์|id|ขนาด|ประตู|เพชรเกษม|รามอินทรา"
    r"|พหลโยธิน|(?<![ก-๛])[ซถ]|#)(?:ที่)?[\s.:#()'-]{0,3}(?:ที่\s?)?|(?:หมายเลข|รหัส|ออเดอร์|order)[^0-9\n]{0,12})$"
)
_DAYS_BEFORE = re.compile(
    r"(?:วันที่|วัน|ปี|พ\.?ศ|ค\.?ศ|(?<![a-z])(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
    r"|มกราคม|กุมภาพันธ์|มีนาคม|เมษายน|พฤษภาคม|มิถุนายน|กรกฎาคม|สิงหาคม|กันยายน|ตุลาคม|พฤศจิกายน|ธันวาคม|[มกพสตธ]\.?[คพยี]\.)[\s.]{0,3}$"
)
_CLOCK = re.compile(r"(?:[01]?[0-9]|2[0-4])[.:][0-5][0-9]")
_SAYS_WHERE = re.compile("://|www|@")
_ADDRESS = re.compile(r"(?:https?://|www\.|@)[!-~]+")
_FIXED = re.compile(
    r"[0-9]{1,4}([/-])[0-9]{1,2}\1[0-9]{2,4}(?![0-9])|[0-9]{1,2}:[0-9]{2}(?![0-9])"
    r"|0[0-9]{1,2}[ -]?[0-9]{3,4}[ -]?[0-9]{3,4}(?![0-9])"
)
"""Dates, times, telephone numbers."""

_STRONG = re.compile(
    r"(?:ราคา|ค่า(?!สายตา|ความ|ของ|ph)|งบ|มัดจำ|ดาวน์|ยอด|จ่าย|ชำระ|ผ่อน|prices?|costs?|fees?|charges?|deposit|pay)"
    r"[^0-9\n]{0,24}$"
)
_WEAK = re.compile(
    r"(?:(?:เริ่มต้น|เริ่ม|เพียง|แค่|เหลือ|ลด|พิเศษ|โปร|คิด|ปกติ|เดิม|เต็ม|จาก|(?<![a-z])(?:only|just|from|start\w*|save|is|are|at))[^0-9\n]{0,16}"
    r"|(?:ละ|[=:])\s?)$"
)
_EACH = re.compile(r"\s?(?:ต่อ|/|per|each|a(?=\s))")
_STRONG_FROM, _WEAK_FROM = 20, 100
_NEAR = 10
_YEARS = ((1990, 2050), (2530, 2600))

_RANGE = re.compile(r"\s?(?:[-‐‒–—―−~〜]|จนถึง|ถึง|to)\s?")
_LIST = re.compile(r"\s?(?:หรือ|และ|กับ|or|and|/|,|&)\s?")
_LISTED_FROM = 50


def lines(text: str) -> list[str]:
    """`text` in the form in which amounts are looked for, line by line."""
    return [comparable(line) for line in text.splitlines()]


def amounts(text: str, items: Sequence[str] = ()) -> list[Amount]:
    """All that is money or may be. `items`: what the clinic lists prices of, as `comparable` makes it: a
    number behind one of them is its price."""
    return [
        amount
        for n, line in enumerate(lines(text))
        for amount in _in_line(line, items, n)
        if amount.kind is not Kind.OTHER
    ]


def _in_line(line: str, items: Sequence[str], n: int) -> list[Amount]:
    if _SAYS_WHERE.search(line):
        line = _ADDRESS.sub(lambda it: it[0] if _AFTER.match(line, it.end()) else "x" * len(it[0]), line)
    read: list[tuple[Number, Amount]] = []
    taken = fixed_to = 0
    for number in numbers(line):
        if number.start >= fixed_to and (fixed := _FIXED.match(line, number.start)):
            fixed_to = 0 if _AFTER.match(line, fixed.end()) else fixed.end()
        if number.start >= fixed_to:
            amount = _read(line, number, items, taken, n)
            taken = amount.end
            read.append((number, amount))
    other = [
        replace(amount, value=number.also)
        for number, amount in read
        if number.also is not None and amount.kind is Kind.MONEY
    ]
    return [*_chained(line, read), *other]


def _read(line: str, number: Number, items: Sequence[str], taken: int, n: int) -> Amount:
    """`taken`: where the amount before ends: its currency is not this one's."""
    start, end = number.start, number.end
    if after := _AFTER.match(line, end):
        value = number.value / 100 if after["satang"] else number.value
        return Amount(
            value, line[start : after.end()], Kind.MONEY, after["other"] or BAHT, n, start, after.end()
        )
    if mark := _BEFORE.search(line, max(taken, start - 8), start):
        text = line[mark.start() : end]
        return Amount(number.value, text, Kind.MONEY, mark["other"] or BAHT, n, start, end)
    before = line[max(taken, start - 60) : start]
    return Amount(number.value, line[start:end], _unmarked(line, number, before, items), BAHT, n, start, end)


def _unmarked(line: str, number: Number, before: str, items: Sequence[str]) -> Kind:
    """What says for sure what a number is comes first, and what takes long to look for last."""
    shown = line[number.start : number.end]
    if _NO_MONEY_AFTER.match(line, number.end) or _joins_a_word(line, number):
        return Kind.OTHER
    if number.multiplier > 1:
        return Kind.MONEY
    if _CLOCK.fullmatch(shown) or (shown[0] == "0" and len(shown) > 1):
        return Kind.OTHER
    if number.value < _STRONG_FROM:
        return Kind.PERHAPS
    is_priced = number.grouped or _is_priced(line, number, before, items)
    if _NUMBERS_BEFORE.search(before[-24:]) or (not number.grouped and _DAYS_BEFORE.search(before[-16:])):
        return Kind.OTHER
    return Kind.MONEY if is_priced else Kind.PERHAPS


def _is_priced(line: str, number: Number, before: str, items: Sequence[str]) -> bool:
    """A word says so before it, or what it is for stands behind it."""
    strong = _STRONG.search(before[-34:])
    is_year = any(low <= number.value <= high for low, high in _YEARS)
    if strong:
        return not is_year or len(strong[0]) < _NEAR
    if number.value < _WEAK_FROM or is_year:
        return False
    said = before.replace(" ", "")
    return bool(
        _EACH.match(line, number.end) or _WEAK.search(before[-26:]) or any(item in said for item in items)
    )


def _joins_a_word(line: str, number: Number) -> bool:
    """A part of a name: B12, x2, 4D."""
    before, after = line[number.start - 1 : number.start], line[number.end : number.end + 1]
    return (before.isascii() and before.isalpha()) or (after.isascii() and after.isalpha())


def _chained(line: str, read: Sequence[tuple[Number, Amount]]) -> list[Amount]:
    """What is joined to an amount is one: 900-1,200 บาท; ฿900–1,200; 3-4 พัน; 900, 1,200 หรือ 3,900 บาท. And
    what is joined to something else is none: 30-45 นาที."""
    chained = [amount for _, amount in read]
    for i in range(len(read) - 2, -1, -1):
        near, far = chained[i], chained[i + 1]
        between, multiplier = line[near.end : far.start], read[i + 1][0].multiplier
        if _RANGE.fullmatch(between):
            if read[i][0].multiplier == 1 and near.value < far.value / multiplier:
                near = replace(near, value=near.value * multiplier)
            kind = near.kind if Kind.PERHAPS is far.kind or near.kind is Kind.MONEY else far.kind
            chained[i] = replace(near, kind=kind, currency=far.currency)
        elif _is_listed(near, far, between):
            chained[i] = replace(near, kind=Kind.MONEY, currency=far.currency)
    for i in range(1, len(read)):
        near, far = chained[i - 1], chained[i]
        between = line[near.end : far.start]
        is_range = _RANGE.fullmatch(between) and {near.kind, far.kind} == {Kind.MONEY, Kind.PERHAPS}
        if is_range or _is_listed(far, near, between):
            chained[i] = replace(far, kind=Kind.MONEY, currency=near.currency)
    return chained


def _is_listed(one: Amount, money: Amount, between: str) -> bool:
    is_joined = one.kind is Kind.PERHAPS and money.kind is Kind.MONEY and one.value >= _LISTED_FROM
    return is_joined and bool(_LIST.fullmatch(between))
