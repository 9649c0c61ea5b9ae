"""Writes to a clinic's day, `org_ai_spend/{org_id}:{day}` (its schema is core.domain.budget.DayBooks).

A reservation is a compare-and-set: the decision holds for the day as it was read, so it is written only if
the day is still the same (ConflictError: read and decide anew). A settlement adds blindly; what makes it
happen once is the precondition on the turn's document in the same commit.

The books close at any moment: `spent` is the sum of the turns' `cost_micro_baht` (which includes what is
ambiguous), `held` the sum of `holds`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core.domain import charges
from core.domain.budget import DayBooks, Hold
from core.domain.charges import ChargeKind, ChargeLine, TurnCharge
from core.ports.documents import DELETE_FIELD, Create, Document, Increment, Key, Merge, Version, Write
from core.ports.llm import Usage

HOLD_MS = 300_000
"""How long a hold stands. Far beyond the longest turn: what runs out belongs to a crashed turn that nobody
took over."""


COLLECTION = "org_ai_spend"


def day_key(org_id: str, day: str) -> Key:
    return Key(COLLECTION, f"{org_id}:{day}")


def turn_key(turn_id: str) -> Key:
    return Key("turns", turn_id)


@dataclass(frozen=True, slots=True)
class Books:
    """A day as it was read; `version` None if it has no document yet."""

    key: Key
    day: DayBooks
    version: Version | None = None

    @classmethod
    def of(cls, key: Key, document: Document | None) -> Books:
        if document is None:
            return cls(key, DayBooks())
        return cls(key, DayBooks.parse(document.data), document.version)


@dataclass(frozen=True, slots=True)
class OtherCharge:
    """What calls of another model have cost within the turn, a line each, what is ambiguous included."""

    model: str
    lines: Sequence[ChargeLine]
    usages: Sequence[Usage] = ()

    @property
    def cost(self) -> int:
        return sum(line.micro_baht for line in self.lines)


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a turn's call ended. `released` is what the turn still holds (0 if its hold was swept).

    `cost` is the sum of its answered calls' charges; `usages` are theirs, `calls` how each came about.
    `ambiguous` attempts are charged at their worst case, `ambiguous_cost` in all, by this `price` and rate.
    All these are of `model`, the last one that was asked; what others have cost is in `others`, but their
    ambiguous attempts count in `ambiguous`. `swept` is what the sweep had charged for this turn already: it
    is taken back from `held_as`, the model that the hold was for, now that the truth is known. `ends` False:
    the turn goes on, here or elsewhere, and counts there; `keeps`: what it still holds then. `pictures`:
    shown to the model; `audio_ms`: listened to by it.
    """

    turn_id: str
    model: str
    released: int
    cost: int = 0
    usages: Sequence[Usage] = ()
    calls: Sequence[ChargeLine] = ()
    ambiguous: int = 0
    ambiguous_cost: int = 0
    price: Mapping[str, Any] = field(default_factory=dict)
    thb_per_usd: str = ""
    downgraded: bool = False
    swept: int = 0
    ends: bool = True
    others: Sequence[OtherCharge] = ()
    held_as: str = ""
    keeps: int = 0
    pictures: int = 0
    audio_ms: int = 0


def reserve(
    books: Books, hold: Hold, *, budget_micro_baht: int, now_ms: int, thresholds: Iterable[int] = ()
) -> tuple[Write, ...]:
    """Hold the worst case for a turn; charge what crashed turns have left behind. The writes belong into one
    commit with the turn's own."""
    changes = _Changes()
    swept, _ = _charge_left_behind(changes, books, hold.turn_id, now_ms)
    changes.add(hold.amount, "held")
    changes.set(
        {"amount": hold.amount, "expires_ms": hold.expires_ms, "model": hold.model}, "holds", hold.turn_id
    )
    changes.record(books.key, budget_micro_baht, thresholds)
    return (_compare_and_set(books, changes), *swept)


def stop(
    books: Books, turn_id: str, *, budget_micro_baht: int, now_ms: int, thresholds: Iterable[int] = ()
) -> tuple[Write, ...]:
    """Count a stopped turn. Only the first of a day, and one that finds something left behind, compares:
    while a clinic is stopped, its turns don't contend."""
    changes = _Changes()
    thresholds = tuple(thresholds)
    swept, abandoned = _charge_left_behind(changes, books, turn_id, now_ms)
    changes.add(1, "stopped")
    changes.record(books.key, budget_micro_baht, thresholds)
    contend = bool(swept or abandoned or thresholds)
    day = _compare_and_set(books, changes) if contend else Merge(books.key, changes.data)
    return (day, *swept)


def grow(books: Books, turn_id: str, more: int, model: str, *, expires_ms: int) -> Write:
    """Hold another worst case for a running turn, whose first one may have been billed."""
    before = books.day.holds.get(turn_id)
    changes = _Changes()
    changes.add(more, "held")
    amount = more + (before.amount if before else 0)
    changes.set({"amount": amount, "expires_ms": expires_ms, "model": model}, "holds", turn_id)
    return _compare_and_set(books, changes)


def settle(key: Key, ended: Settlement, now_ms: int) -> tuple[Write, ...]:
    """Release the hold and charge. Adds blindly: the turn's document must guard that it is done once."""
    changes = _Changes()
    own = ended.cost + ended.ambiguous_cost
    changes.add(-ended.released, "held")
    changes.add(own + sum(other.cost for other in ended.others) - ended.swept, "spent")
    changes.add(own, "by_model", ended.model, "spent_micro_baht")
    changes.add(-ended.swept, "by_model", ended.held_as or ended.model, "spent_micro_baht")
    for other in ended.others:
        changes.add(other.cost, "by_model", other.model, "spent_micro_baht")
        _count_tokens(changes, other.model, other.usages)
    changes.add(ended.ambiguous - bool(ended.swept), "ambiguous")
    if ended.keeps:
        changes.set(ended.keeps, "holds", ended.turn_id, "amount")
    else:
        changes.set(DELETE_FIELD, "holds", ended.turn_id)
    changes.add(ended.pictures, "by_model", ended.model, "pictures")
    changes.add(ended.audio_ms, "by_model", ended.model, "audio_ms")
    if ended.usages and ended.ends:
        changes.add(1, "turns")
        changes.add(1, "by_model", ended.model, "turns")
        changes.add(int(ended.downgraded), "downgraded")
    _count_tokens(changes, ended.model, ended.usages)
    charged = _charged(key, ended.turn_id, now_ms, _lines_of(ended))
    return (Merge(key, changes.data), *charged)


def _lines_of(ended: Settlement) -> Sequence[ChargeLine]:
    lines = [*ended.calls]
    if uncounted := ended.cost - sum(line.micro_baht for line in ended.calls):
        lines.append(ChargeLine(ChargeKind.CALL, ended.model, uncounted))
    of_others = [line for other in ended.others for line in other.lines]
    if ended.ambiguous_cost:
        attempts = ended.ambiguous - sum(line.kind is ChargeKind.UNKNOWN for line in of_others)
        unknown = ChargeLine(ChargeKind.UNKNOWN, ended.model, ended.ambiguous_cost, attempts)
        lines.append(replace(unknown, price=ended.price, thb_per_usd=ended.thb_per_usd))
    if ended.swept:
        lines.append(ChargeLine(ChargeKind.CORRECTION, ended.held_as or ended.model, -ended.swept))
    return [*lines, *of_others]


def _charged(day: Key, turn_id: str, now_ms: int, lines: Sequence[ChargeLine]) -> tuple[Write, ...]:
    """Nothing if nothing was charged. The commit that it is part of is made once, so any new id will do."""
    if not lines:
        return ()
    org_id, _, of_day = day.id.rpartition(":")
    total = sum(line.micro_baht for line in lines)
    charge = TurnCharge(org_id, of_day, turn_id, now_ms, total, lines)
    return (Create(Key(charges.COLLECTION, uuid.uuid4().hex), charge.encode()),)


def _count_tokens(changes: _Changes, model: str, usages: Sequence[Usage]) -> None:
    for usage in usages:
        for kind in ("input", "cached", "cache_write", "output"):
            changes.add(getattr(usage, kind), "by_model", model, kind)


def _charge_left_behind(
    changes: _Changes, books: Books, turn_id: str, now_ms: int
) -> tuple[tuple[Write, ...], Hold | None]:
    """Turn expired holds, and one of `turn_id` itself, into charges: their calls may have been billed."""
    abandoned = books.day.holds.get(turn_id)
    expired = tuple(hold for hold in books.day.expired(now_ms) if hold.turn_id != turn_id)
    left = (*expired, *((abandoned,) if abandoned else ()))
    for hold in left:
        changes.add(-hold.amount, "held")
        changes.add(hold.amount, "spent")
        changes.add(hold.amount, "by_model", hold.model, "spent_micro_baht")
        changes.add(1, "ambiguous")
        changes.set(DELETE_FIELD, "holds", hold.turn_id)
    swept: tuple[Write, ...] = tuple(
        Merge(
            turn_key(hold.turn_id),
            {
                "held_micro_baht": 0,
                "cost_micro_baht": Increment(hold.amount),
                "ambiguous_micro_baht": Increment(hold.amount),
                "ambiguous_attempts": Increment(1),
                "swept": True,
            },
        )
        for hold in expired
    )
    charged = (
        write
        for hold in left
        for write in _charged(
            books.key, hold.turn_id, now_ms, [ChargeLine(ChargeKind.UNKNOWN, hold.model, hold.amount)]
        )
    )
    return (*swept, *charged), abandoned


def _compare_and_set(books: Books, changes: _Changes) -> Write:
    if books.version is None:
        return Create(books.key, changes.data)
    return Merge(books.key, changes.data, if_version=books.version)


class _Changes:
    """A merge's data in the making: additions to the same field become one."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}

    def add(self, amount: int, *path: str) -> None:
        if not amount:
            return  # and no empty map on the way: a merge would write it over what is there
        parent = self._parent(path)
        before = parent.get(path[-1])
        parent[path[-1]] = Increment(amount + (before.amount if isinstance(before, Increment) else 0))

    def set(self, value: Any, *path: str) -> None:
        self._parent(path)[path[-1]] = value

    def record(self, key: Key, budget_micro_baht: int, thresholds: Iterable[int]) -> None:
        """What is the same for all of a day's reservations; reports find days by these fields."""
        self.data["org_id"], _, self.data["day"] = key.id.rpartition(":")
        self.data["budget_micro_baht"] = budget_micro_baht
        for percent in thresholds:
            self.set(True, "thresholds", str(percent))

    def _parent(self, path: tuple[str, ...]) -> dict[str, Any]:
        parent = self.data
        for name in path[:-1]:
            parent = parent.setdefault(name, {})
        return parent
