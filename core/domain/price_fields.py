"""How the fields of a price's row are read, in the file and in documents. None for what can't be read."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

_MOST = 1_000_000


def price_of(value: Any) -> Decimal | None:
    """Of 0 to a million. Through text: a float 0.15 means the decimal that it is written as."""
    try:
        number = Decimal(str(value)) if isinstance(value, str | int | float) else Decimal("NaN")
    except InvalidOperation:
        return None
    is_price = not isinstance(value, bool) and number.is_finite() and 0 <= number <= _MOST
    return number if is_price else None


def moment_of(value: Any) -> datetime | None:
    """A day begins at midnight, and what names no time zone is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime(value.year, value.month, value.day, tzinfo=UTC) if isinstance(value, date) else None
