"""What people type into a clinic's forms, read and named where it can't be read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from urllib.parse import parse_qsl

from core.domain.clinic_prices import ListedPrice, compact
from core.domain.errors import InvalidInputError
from core.domain.visible import is_damaged
from core.ops.clinics_file_prices import ITEM_CHARACTERS, MAX_BAHT, MAX_PRICES, NOTE_CHARACTERS
from core.usecases.operate.budget_policies import Changes

_COLUMNS = ("item", "baht", "from", "until", "note")


def listed_prices(body: bytes) -> list[ListedPrice]:
    """Row by row; a row whose item is empty is left out. Raises InvalidInputError."""
    rows: list[dict[str, str]] = []
    for name, value in parse_qsl(body.decode(errors="replace"), keep_blank_values=True):
        if name == "item":
            rows.append({})
        if rows and name in _COLUMNS:
            rows[-1][name] = " ".join(value.split())
    prices = [_price(row) for row in rows if row.get("item")]
    if len(prices) > MAX_PRICES:
        raise InvalidInputError(f"expected at most {MAX_PRICES} prices")
    return prices


def _price(row: Mapping[str, str]) -> ListedPrice:
    item, note = row["item"], row.get("note", "")
    damaged = is_damaged(item) or is_damaged(note) or not compact(item)
    if damaged or len(item) > ITEM_CHARACTERS or len(note) > NOTE_CHARACTERS:
        raise InvalidInputError(f"{item}: expected a name of at most {ITEM_CHARACTERS} characters")
    low, high = _baht(item, row.get("baht", ""))
    since, until = (_day(item, row.get(name, "")) for name in ("from", "until"))
    if since and until and until < since:
        raise InvalidInputError(f"{item}: {until} is before {since}")
    return ListedPrice(item, low, high, since, until, note)


def _baht(item: str, text: str) -> tuple[Decimal, Decimal]:
    """900, or 39,000-65,000."""
    try:
        ends = [Decimal(end) for end in re.split(r"\s*[-–]\s*", text.replace(",", ""))]
    except InvalidOperation:
        ends = []
    legal = all(end.is_finite() and 0 <= end <= MAX_BAHT and end == round(end, 2) for end in ends)
    if not 1 <= len(ends) <= 2 or not legal or ends[-1] < ends[0]:
        raise InvalidInputError(
            f"{item}: {text!r}: expected baht such as 900, or a range such as 39000-65000"
        )
    return ends[0], ends[-1]


def _day(item: str, text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InvalidInputError(f"{item}: {text!r}: expected a day such as 2026-12-31") from None


def budget_changes(given: Mapping[str, str]) -> Changes:
    """Of a form that has all of them: a box that is not ticked is not sent. Raises InvalidInputError."""
    return Changes(
        daily_budget_baht=_number("baht a day", given.get("daily", "")),
        hard_stop_enabled=given.get("hard_stop") == "1",
        model_downgrade_enabled=given.get("downgrade") == "1",
        downgrade_threshold=_number("share", given.get("threshold", "")),
    )


def _number(name: str, text: str) -> Decimal:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise InvalidInputError(f"{name}: expected a number such as 0.8 or 300.50, got {text!r}")
    return number
