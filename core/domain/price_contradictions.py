"""What a clinic's own words say of a listed item, and its list says otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from core.domain.amounts import BAHT, Amount, Kind, amounts, lines
from core.domain.clinic_prices import ListedPrice
from core.domain.numerals import comparable

_FAR = 40
"""Characters between an item and its price; what stands further away may be about something else."""
_NOT_ITS_PRICE = re.compile(r"ผ่อน|งวด|เดือนละ|มัดจำ|ดาวน์|ลด|คืน|ประหยัด|กว่า|instal|deposit|save|off|less")


def contradictions(text: str, prices: Sequence[ListedPrice]) -> Iterator[tuple[str, str, str]]:
    """Item, the amount said of it, and what is listed on whatever day. The first amount behind an item is its
    price, unless an instalment or a discount is spoken of."""
    by_item: dict[str, list[ListedPrice]] = {}
    for price in prices:
        by_item.setdefault(comparable(price.item), []).append(price)
    if not by_item:
        return
    any_item = re.compile("|".join(map(re.escape, sorted(by_item, key=len, reverse=True))))
    said = [amount for amount in amounts(text, tuple(by_item)) if amount.kind is Kind.MONEY]
    for n, line in enumerate(lines(text)):
        here = [amount for amount in said if amount.line == n]
        for found in any_item.finditer(line):
            other = any_item.search(line, found.end())
            amount = _price_of(line[: other.start() if other else None], found.end(), here)
            listed = by_item[found[0]]
            if amount and not any(price.covers(amount.value) for price in listed):
                shown = " or ".join(dict.fromkeys(price.baht for price in listed))
                yield listed[0].item, amount.text, shown


def _price_of(line: str, after: int, said: Sequence[Amount]) -> Amount | None:
    first = next((amount for amount in said if amount.start >= after), None)
    if first is None or first.currency != BAHT or first.start > min(after + _FAR, len(line)):
        return None
    between = line[after : first.start]
    return None if _NOT_ITS_PRICE.search(between) else first
