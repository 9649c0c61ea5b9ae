"""The journal: an event is claimed once, a reply is paid once, money is held before it is spent.

Everything is a commit with preconditions; contended transactions sleep a second between tries. Three commits
a turn: reserve, settle, delivered. Every write of a turn names the version that its writer has seen, so a
leader that was taken over can write nothing more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from core.domain import log
from core.domain.budget import DayBooks, Decision, Hold, Kind, crossed_thresholds
from core.domain.errors import DocumentsUnavailableError, FairlaneError
from core.domain.turn import CLAIMS, COLLECTION, TurnRecord, TurnState, claim
from core.ports.clock import Clock
from core.ports.documents import ConflictError, Create, Document, DocumentStore, Key, Merge, Version, Write
from core.usecases import spend_books
from core.usecases.spend_books import HOLD_MS, Books, Settlement

Choose = Callable[[DayBooks], tuple[Decision, int]]
"""The decision on a day as it was read, and the day's budget in micro-baht."""


class TurnMovedError(FairlaneError):
    """Another leader has this turn, or an event of it: look again, or stop."""


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
class Look:
    """What one read found: `claims` by event id, the turns that own them, the day's books, `also` as asked."""

    claims: Mapping[str, str]
    turns: Mapping[str, Stored]
    books: Books
    also: tuple[Document | None, ...]


class Journal:
    def __init__(self, documents: DocumentStore, clock: Clock, *, insist_s: float = 45.0) -> None:
        """`insist_s`: how long a write that must not get lost is tried while the store is down."""
        self._documents = documents
        self._clock = clock
        self._insist_s = insist_s

    async def look(
        self, org_id: str, day: str, turn_id: str, event_ids: Sequence[str], also: Sequence[Key] = ()
    ) -> Look:
        """One round trip; a second one only if an event was claimed by another turn."""
        keys = [_turn_key(turn_id), spend_books.day_key(org_id, day), *also, *map(_claim_key, event_ids)]
        turn, books, *rest = await self._documents.get_many(keys)
        claims = {
            event_id: str(document.data["turn_id"])
            for event_id, document in zip(event_ids, rest[len(also) :], strict=True)
            if document is not None and document.data.get("org_id") == org_id
        }
        turns = {turn_id: _stored(turn)} if turn else {}
        others = sorted(set(claims.values()) - {turn_id})
        if others:
            found = await self._documents.get_many([_turn_key(other) for other in others])
            turns |= {document.key.id: _stored(document) for document in found if document}
        return Look(
            claims, turns, Books.of(spend_books.day_key(org_id, day), books), tuple(rest[: len(also)])
        )

    async def reserve(
        self, draft: TurnRecord, unclaimed: Sequence[str], look: Look, choose: Choose
    ) -> Stored:
        """Claim the events and hold the worst case of what `choose` decides, or raise StoppedError.

        Raises TurnMovedError if meanwhile somebody else has taken the turn or one of its events.
        """
        books, previous = look.books, look.turns.get(draft.id)
        while True:
            decision, budget = choose(books.day)
            if decision.kind is Kind.STOP:
                raise StoppedError(decision, books, budget)
            now_ms = self._clock.now_ms()
            hold = Hold(draft.id, decision.worst_micro_baht, now_ms + HOLD_MS, decision.model or "")
            thresholds = crossed_thresholds(books.day, decision, budget)
            booked = spend_books.reserve(
                books, hold, budget_micro_baht=budget, now_ms=now_ms, thresholds=thresholds
            )
            record = _decided(draft, decision, booked.abandoned, now_ms)
            writes = [
                *self._opening(record, unclaimed, previous),
                *booked.writes,
                *_left_on_another_day(previous, record, books),
            ]
            try:
                versions = await self._documents.commit(writes)
            except ConflictError:
                # Somebody else changed the day, most likely: a few milliseconds apart is enough.
                await self._clock.sleep(random.uniform(0.001, 0.02))
                seen = await self._again(record, unclaimed, previous, books.key)
                if isinstance(seen, Stored):
                    return seen
                books = seen
                continue
            _announce(record, decision, thresholds, budget)
            return Stored(record, versions[0])

    async def grow(self, stored: Stored, may_grow: Callable[[DayBooks, int], bool]) -> Stored | None:
        """Hold one more worst case; None if the budget has no room for it."""
        record = stored.record
        more = record.money.worst_micro_baht
        key = spend_books.day_key(record.org_id, record.money.day)
        while True:
            (document,) = await self._documents.get_many([key])
            books = Books.of(key, document)
            if not may_grow(books.day, more):
                return None
            expires_ms = self._clock.now_ms() + HOLD_MS
            grown = record.with_money(held_micro_baht=record.money.held_micro_baht + more)
            writes = [
                _update(stored, grown),
                spend_books.grow(books, record.id, more, record.money.model, expires_ms=expires_ms),
            ]
            try:
                versions = await self._documents.commit(writes)
            except ConflictError:
                (current,) = await self._documents.get_many([_turn_key(record.id)])
                if current is None or current.version != stored.version:
                    raise TurnMovedError(f"turn {record.id} was taken over") from None
                await self._clock.sleep(random.uniform(0.001, 0.02))
                continue
            return Stored(grown, versions[0])

    async def settle(
        self, stored: Stored, answered: TurnRecord, ended: Settlement, also: Sequence[Write] = ()
    ) -> Stored:
        """Store the reply and close the books of its call. Insists: the answer is paid already.

        Raises TurnMovedError if the turn was taken over; then its money is the other leader's business.
        """
        key = spend_books.day_key(answered.org_id, stored.record.money.day)

        async def once() -> Stored:
            nonlocal stored, answered, ended
            try:
                versions = await self._documents.commit(
                    [_update(stored, answered), spend_books.settle(key, ended), *also]
                )
                return Stored(answered, versions[0])
            except ConflictError:
                current = await self._current(answered)
                if current.record.state is TurnState.ANSWERED:
                    return current  # an earlier try had arrived, though the store did not say so
                # The hold ran out and was charged while the call went on: take that back.
                swept = current.record.money.cost_micro_baht - stored.record.money.cost_micro_baht
                ended = replace(ended, released=0, swept=swept)
                stored = current
                answered = answered.with_money(swept=True)
            return await once()

        return await self._insist(once)

    async def answer(
        self,
        draft: TurnRecord,
        unclaimed: Sequence[str],
        previous: Stored | None,
        also: Sequence[Write] = (),
    ) -> Stored:
        """Claim the events and store a reply that needs no call. Raises TurnMovedError."""
        try:
            versions = await self._documents.commit([*self._opening(draft, unclaimed, previous), *also])
        except ConflictError:
            (current,) = await self._documents.get_many([_turn_key(draft.id)])
            if current and _ours(_stored(current).record, draft):
                return _stored(current)
            raise TurnMovedError(f"turn {draft.id} or one of its events was taken") from None
        return Stored(draft, versions[0])

    async def update(self, stored: Stored, record: TurnRecord) -> Stored:
        """Write what has changed (delivered, failed). Insists. A turn that is final already stays as it is."""

        async def once() -> Stored:
            try:
                versions = await self._documents.commit([_update(stored, record)])
            except ConflictError:
                return await self._current(record)
            return Stored(record, versions[0])

        return await self._insist(once)

    def _opening(self, record: TurnRecord, unclaimed: Sequence[str], previous: Stored | None) -> list[Write]:
        key = _turn_key(record.id)
        turn: Write = Create(key, record.encode()) if previous is None else _update(previous, record)
        return [turn, *(Create(_claim_key(event_id), claim(record)) for event_id in unclaimed)]

    async def _again(
        self, record: TurnRecord, unclaimed: Sequence[str], previous: Stored | None, day: Key
    ) -> Books | Stored:
        """After a conflict: the day as it is now, or the turn if our own commit had arrived after all."""
        turn, books, *claims = await self._documents.get_many(
            [_turn_key(record.id), day, *map(_claim_key, unclaimed)]
        )
        if turn is not None and _ours(_stored(turn).record, record):
            return _stored(turn)
        if any(claims) or (turn.version if turn else None) != (previous.version if previous else None):
            raise TurnMovedError(f"turn {record.id} or one of its events was taken")
        return Books.of(day, books)

    async def _current(self, record: TurnRecord) -> Stored:
        """The turn as it is now, if this leader still has it."""
        (document,) = await self._documents.get_many([_turn_key(record.id)])
        if document is None or document.data.get("fence") != record.fence:
            raise TurnMovedError(f"turn {record.id} was taken over")
        return _stored(document)

    async def _insist(self, once: Callable[[], Any]) -> Stored:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(DocumentsUnavailableError),
            wait=wait_exponential_jitter(initial=0.1, max=3, jitter=0.2),
            stop=stop_after_delay(self._insist_s),
            sleep=self._clock.sleep,
            reraise=True,
        )
        stored: Stored = await retrying(once)
        return stored


def _turn_key(turn_id: str) -> Key:
    return Key(COLLECTION, turn_id)


def _claim_key(event_id: str) -> Key:
    return Key(CLAIMS, event_id)


def _stored(document: Document) -> Stored:
    return Stored(TurnRecord.decode(document.key.id, document.data), document.version)


def _ours(found: TurnRecord, written: TurnRecord) -> bool:
    return (found.fence, found.reserved_ms, found.answered_ms) == (
        written.fence,
        written.reserved_ms,
        written.answered_ms,
    )


def _update(stored: Stored, record: TurnRecord) -> Merge:
    """Only what differs from what was read, and only if it is still that."""
    before = stored.record.encode()
    changes = {name: value for name, value in record.encode().items() if before[name] != value}
    return Merge(_turn_key(record.id), changes, if_version=stored.version)


def _decided(draft: TurnRecord, decision: Decision, abandoned: Hold | None, now_ms: int) -> TurnRecord:
    """The turn with its reservation; what an earlier, crashed run of it held becomes cost."""
    lost = abandoned.amount if abandoned else 0
    money = draft.money
    return replace(draft, state=TurnState.RESERVED, reserved_ms=now_ms).with_money(
        decision=decision.kind.value,
        reason=decision.reason.value,
        flagged=decision.flagged,
        model=decision.model or "",
        worst_micro_baht=decision.worst_micro_baht,
        held_micro_baht=decision.worst_micro_baht,
        cost_micro_baht=money.cost_micro_baht + lost,
        ambiguous_micro_baht=money.ambiguous_micro_baht + lost,
        ambiguous_attempts=money.ambiguous_attempts + bool(lost),
        swept=False,
    )


def _left_on_another_day(previous: Stored | None, record: TurnRecord, books: Books) -> list[Write]:
    """A crashed run that reserved before midnight is charged to its own day."""
    if previous is None:
        return []
    before = previous.record.money
    key = spend_books.day_key(record.org_id, before.day)
    if not before.held_micro_baht or key == books.key:
        return []
    return [spend_books.settle(key, abandon(previous.record))]


def abandon(record: TurnRecord) -> Settlement:
    """The books of a call whose outcome nobody knows: all that is held was perhaps billed."""
    held = record.money.held_micro_baht
    return Settlement(record.id, record.money.model, released=held, ambiguous=1, ambiguous_cost=held)


def _announce(
    record: TurnRecord, decision: Decision, thresholds: Sequence[int], budget_micro_baht: int
) -> None:
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
    announce_thresholds(record.org_id, thresholds, budget_micro_baht)


def announce_thresholds(org_id: str, thresholds: Sequence[int], budget_micro_baht: int) -> None:
    """Once a day and clinic each: the day's document remembers which have been."""
    for percent in thresholds:
        log.warning("budget.threshold", org=org_id, percent=percent, budget_micro_baht=budget_micro_baht)
