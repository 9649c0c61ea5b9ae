"""What the journal reads and writes: turns with their versions, claims, and why a write was not made."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.domain.budget import Decision
from core.domain.errors import FairlaneError
from core.domain.turn import CLAIMS, TurnRecord
from core.ports.documents import DELETE_FIELD, Document, Key, Merge, Version
from core.usecases.journal.books import Books, turn_key


class TurnMovedError(FairlaneError):
    """Another leader has this turn, or an event of it: load again, or stop."""


class ContendedError(FairlaneError):
    """Others write the same documents so often that a commit found no moment. Nothing of it was written: to
    be tried again in `retry_after_ms`, without holding anything up meanwhile."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} found no moment between the others")
        self.retry_after_ms = random.randint(1_500, 4_500)


class NoRoomError(FairlaneError):
    """The budget has no room for another worst case of a turn."""


class StoppedError(FairlaneError):
    """The budget has no room: no call. `books` is the day that the decision was taken on."""

    def __init__(self, decision: Decision, books: Books, budget_micro_baht: int) -> None:
        super().__init__("the budget has no room for this turn")
        self.decision = decision
        self.books = books
        self.budget_micro_baht = budget_micro_baht


@dataclass(frozen=True, slots=True)
class Stored:
    """A turn as the store has it."""

    record: TurnRecord
    version: Version


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one read found: `claims` by event id, the turns that own them, the day's books, `also`. `foreign`:
    events whose ids another clinic's turn has claimed; LINE's ids are unique, so somebody made them up."""

    claims: Mapping[str, str]
    turns: Mapping[str, Stored]
    books: Books
    also: tuple[Document | None, ...]
    foreign: tuple[str, ...] = ()


def claim_key(event_id: str) -> Key:
    return Key(CLAIMS, event_id)


def stored_from(document: Document) -> Stored:
    return Stored(TurnRecord.decode(document.key.id, document.data), document.version)


def update_of(stored: Stored, record: TurnRecord) -> Merge:
    """Only what differs from what was read, and only if it is still that."""
    known, data = stored.record.encode(), record.encode()
    data = {name: _as_merged(known[name], value) for name, value in data.items() if known[name] != value}
    return Merge(turn_key(record.id), data, if_version=stored.version)


def _as_merged(before: Any, after: Any) -> Any:
    """A merge leaves in a map what it does not name; so what is gone from it is named."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping) and after):
        return after
    return {**after, **{name: DELETE_FIELD for name in before if name not in after}}


def changes_of(before: TurnRecord, after: TurnRecord) -> dict[str, Any]:
    known = before.encode()
    return {name: value for name, value in after.encode().items() if known[name] != value}
