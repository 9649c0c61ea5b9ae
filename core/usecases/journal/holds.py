"""A turn's place in its clinic's books: pure, from a day as it was read to the writes of one commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from core.domain.budget import Decision, Hold, Kind, crossed_thresholds
from core.domain.turn import TurnRecord, TurnState
from core.ports import log
from core.ports.documents import Write
from core.usecases.journal import books as spend_books
from core.usecases.journal.books import HOLD_MS, Books, Settlement


@dataclass(frozen=True, slots=True)
class Opening:
    """A turn as it begins, the writes that belong with it, and what to log once they are committed."""

    record: TurnRecord
    writes: tuple[Write, ...] = ()
    announce: Callable[[], None] = lambda: None


def reservation(draft: TurnRecord, decision: Decision, budget: int, books: Books, now_ms: int) -> Opening:
    """Hold the decision's worst case. `budget`: the day's, in micro-baht."""
    hold = Hold(draft.id, decision.worst_micro_baht, now_ms + HOLD_MS, decision.model or "")
    thresholds = crossed_thresholds(books.day, decision, budget)
    booked = spend_books.reserve(books, hold, budget_micro_baht=budget, now_ms=now_ms, thresholds=thresholds)
    record = with_abandoned(draft).with_money(
        day=_day(books),
        decision=decision.kind.value,
        reason=decision.reason.value,
        flagged=decision.flagged,
        model=decision.model or "",
        worst_micro_baht=decision.worst_micro_baht,
        held_micro_baht=decision.worst_micro_baht,
        swept=False,
    )
    record = replace(record, state=TurnState.RESERVED, reserved_ms=now_ms)
    return Opening(record, booked, lambda: _announce(draft.org_id, decision, thresholds, budget))


def stopping(draft: TurnRecord, decision: Decision, budget: int, books: Books, now_ms: int) -> Opening:
    """Count a turn that the budget has no room for."""
    thresholds = crossed_thresholds(books.day, decision, budget)
    booked = spend_books.stop(books, draft.id, budget_micro_baht=budget, now_ms=now_ms, thresholds=thresholds)
    record = with_abandoned(draft).with_money(
        day=_day(books),
        decision=decision.kind.value,
        reason=decision.reason.value,
        model="",
        worst_micro_baht=0,
    )
    return Opening(record, booked, lambda: _announce(draft.org_id, decision, thresholds, budget))


def with_abandoned(record: TurnRecord) -> TurnRecord:
    """What an earlier, crashed run of the turn still held becomes its cost: it was perhaps billed."""
    held = record.money.held_micro_baht
    if not held:
        return record
    return record.with_money(
        held_micro_baht=0,
        cost_micro_baht=record.money.cost_micro_baht + held,
        ambiguous_micro_baht=record.money.ambiguous_micro_baht + held,
        ambiguous_attempts=record.money.ambiguous_attempts + 1,
    )


def on_a_day(record: TurnRecord, books: Books) -> TurnRecord:
    """A turn without a call has a day, too: it counts there."""
    return record if record.money.day else record.with_money(day=_day(books))


def left_behind(previous: TurnRecord, books: Books, now_ms: int) -> tuple[Write, ...]:
    """What a crashed run held on this day, charged, where no reservation does it in passing."""
    same_day = spend_books.day_key(previous.org_id, previous.money.day) == books.key
    return _abandoned(previous, now_ms) if previous.money.held_micro_baht and same_day else ()


def left_on_another_day(previous: TurnRecord, books: Books, now_ms: int) -> tuple[Write, ...]:
    """A crashed run that reserved before midnight is charged to its own day."""
    same_day = spend_books.day_key(previous.org_id, previous.money.day) == books.key
    return _abandoned(previous, now_ms) if previous.money.held_micro_baht and not same_day else ()


def _abandoned(record: TurnRecord, now_ms: int) -> tuple[Write, ...]:
    held = record.money.held_micro_baht
    ended = Settlement(record.id, record.money.model, released=held, ambiguous=1, ambiguous_cost=held)
    return spend_books.settle(spend_books.day_key(record.org_id, record.money.day), ended, now_ms)


def _day(books: Books) -> str:
    return books.key.id.rpartition(":")[2]


def _announce(org_id: str, decision: Decision, thresholds: Sequence[int], budget: int) -> None:
    log.info(
        "budget.decided",
        decision=decision.kind.value,
        reason=decision.reason.value,
        model=decision.model,
        worst_micro_baht=decision.worst_micro_baht,
        flagged=decision.flagged,
    )
    if decision.kind is Kind.FALLBACK:
        log.info("budget.downgraded", model=decision.model, reason=decision.reason.value)
    if decision.kind is Kind.STOP:
        log.info("budget.stopped", reason=decision.reason.value)
    for percent in thresholds:
        # Once a day and clinic each: the day's document remembers which have been.
        log.warning("budget.threshold", org=org_id, percent=percent, budget_micro_baht=budget)
