"""A clinic's prices and approved answers as they stand in `orgs/{org_id}`, both ways.

prices       [{item, baht: 900 | [39000, 65000], from, until: "2026-12-31", note}]
answers      [{q, a}]
price_guard  true, false, or null: as the prices say
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from core.domain.clinic_prices import ApprovedAnswer, ListedPrice
from core.domain.errors import InvalidInputError


def prices_document(prices: Iterable[ListedPrice]) -> list[dict[str, Any]]:
    return [
        {
            "item": price.item,
            "baht": _baht(price.low) if price.low == price.high else [_baht(price.low), _baht(price.high)],
            "from": price.since and price.since.isoformat(),
            "until": price.until and price.until.isoformat(),
            "note": price.note,
        }
        for price in prices
    ]


def answers_document(answers: Iterable[ApprovedAnswer]) -> list[dict[str, str]]:
    return [{"q": each.question, "a": each.answer} for each in answers]


def prices_from(where: str, stored: Any) -> tuple[ListedPrice, ...]:
    """Raises InvalidInputError naming the document: a price that can't be read must not be left out, since
    the guard would hold it back."""
    return tuple(_price(f"{where}, field prices", entry) for entry in _list(where, "prices", stored))


def answers_from(where: str, stored: Any) -> tuple[ApprovedAnswer, ...]:
    entries = _list(where, "answers", stored)
    if not all(isinstance(each.get("q"), str) and isinstance(each.get("a"), str) for each in entries):
        raise InvalidInputError(f"document {where}, field answers: expected texts q and a in each")
    return tuple(ApprovedAnswer(each["q"], each["a"]) for each in entries)


def _price(where: str, entry: Mapping[str, Any]) -> ListedPrice:
    baht, item = entry.get("baht"), str(entry.get("item") or "")
    amounts = [_amount(end) for end in (baht if isinstance(baht, list) else [baht])]
    try:
        since, until = (entry.get(name) and date.fromisoformat(entry[name]) for name in ("from", "until"))
        is_read = bool(item) and 1 <= len(amounts) <= 2 and all(amount >= 0 for amount in amounts)
    except (ValueError, TypeError):
        is_read = False
    if not is_read:
        raise InvalidInputError(
            f"document {where}: {dict(entry)!r}: expected an item, baht such as 900 or [900, 1200], and days "
            "such as 2026-12-31"
        )
    return ListedPrice(item, min(amounts), max(amounts), since, until, str(entry.get("note") or ""))


def _amount(stored: Any) -> Decimal:
    """-1 for what is none."""
    try:
        amount = Decimal("NaN") if isinstance(stored, bool) else Decimal(str(stored))
    except InvalidOperation:
        return Decimal(-1)
    return amount if amount.is_finite() else Decimal(-1)


def _list(where: str, name: str, stored: Any) -> list[Mapping[str, Any]]:
    if stored is None:
        return []
    if not isinstance(stored, list) or not all(isinstance(entry, Mapping) for entry in stored):
        raise InvalidInputError(f"document {where}, field {name}: expected a list of maps")
    return stored


def _baht(amount: Decimal) -> int | float:
    return int(amount) if amount == amount.to_integral_value() else float(amount)
