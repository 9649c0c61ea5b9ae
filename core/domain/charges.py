"""What each commit has added to a clinic's books: `charges/{id}`, without a word of what was said.

A turn has one as a rule; more if a leader died, its call was charged by somebody else, or the turn was handed
on. They are never changed: what was charged in vain is taken back by another one. So the sum of a day's
charges is what its books say was spent, to the micro-baht.
This module is the one place that knows the document's fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

COLLECTION = "charges"
RETENTION = timedelta(days=400)
"""A year's statement can still be made a month after it is over; turns go after 30 days."""


class ChargeKind(StrEnum):
    CALL = "call"  # by the tokens that the provider counted
    UNKNOWN = "unknown"  # nobody knows what was billed: at the worst case
    CORRECTION = "correction"  # an UNKNOWN one taken back: the call ended well after all


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One call, or `attempts` whose outcome is unknown. `price`: the row that it was computed by, as on the
    turn; empty if the hold alone says what it may have cost."""

    kind: ChargeKind
    model: str
    micro_baht: int
    attempts: int = 1
    usage: Mapping[str, int] = field(default_factory=dict)
    price: Mapping[str, Any] = field(default_factory=dict)
    thb_per_usd: str = ""
    service_tier: str | None = None


@dataclass(frozen=True, slots=True)
class TurnCharge:
    """`day`: of the books (YYYYMMDD). `micro_baht`: what they grew by, the sum of `lines`."""

    org_id: str
    day: str
    turn_id: str
    at_ms: int
    micro_baht: int
    lines: Sequence[ChargeLine] = ()

    def encode(self) -> dict[str, Any]:
        """The whole document. `month` finds a statement's; `expire_at` is the TTL field."""
        expires = datetime.fromtimestamp(self.at_ms / 1000, UTC) + RETENTION
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "month": month_of(self.org_id, self.day),
            "lines": [{**asdict(line), "kind": line.kind.value} for line in self.lines],
            "expire_at": expires,
        }

    @classmethod
    def decode(cls, data: Mapping[str, Any]) -> TurnCharge:
        return cls(
            **{name: data[name] for name in _PLAIN},
            lines=tuple(_line(line) for line in data.get("lines") or ()),
        )


_PLAIN = ("org_id", "day", "turn_id", "at_ms", "micro_baht")


def month_of(org_id: str, day: str) -> str:
    """Of a day or a month (YYYYMMDD, YYYYMM)."""
    return f"{org_id}:{day[:6]}"


def _line(data: Mapping[str, Any]) -> ChargeLine:
    known = {name: value for name, value in data.items() if name in ChargeLine.__slots__}
    return ChargeLine(**{**known, "kind": ChargeKind(data["kind"])})
