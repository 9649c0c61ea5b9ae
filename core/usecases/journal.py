"""The journal: an event is claimed once, a reply is paid once, money is held before it is spent.

Everything is a commit with preconditions; contended transactions sleep a second between tries. Three commits
a turn: reserve, settle, delivered. Every write of a turn names the version that its writer has seen, so a
leader that was taken over can write nothing more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from core.domain.budget import DayBooks, Decision, Kind
from core.domain.errors import DocumentsUnavailableError
from core.domain.event import Conversation
from core.domain.turn import COLLECTION, TurnRecord, TurnState, claim
from core.ports.clock import Clock
from core.ports.documents import (
    ConflictError,
    Create,
    DocumentStore,
    Key,
    Merge,
    Where,
    Write,
)
from core.usecases import spend_books
from core.usecases.journal_entries import (
    Look,
    StoppedError,
    Stored,
    TurnMovedError,
    changes_of,
    claim_key,
    is_ours,
    stored_from,
    update_of,
)
from core.usecases.spend_books import HOLD_MS, Books, Settlement, turn_key
from core.usecases.turn_booking import (
    Opening,
    left_behind,
    left_on_another_day,
    reservation,
    stopping,
    with_abandoned,
)

Choose = Callable[[DayBooks], tuple[Decision, int]]
"""The decision on a day as it was read, and the day's budget in micro-baht."""


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
        keys = [turn_key(turn_id), spend_books.day_key(org_id, day), *also, *map(claim_key, event_ids)]
        turn, books, *rest = await self._documents.get_many(keys)
        found = {
            event_id: document.data
            for event_id, document in zip(event_ids, rest[len(also) :], strict=True)
            if document is not None
        }
        claims = {i: str(data["turn_id"]) for i, data in found.items() if data.get("org_id") == org_id}
        turns = {turn_id: stored_from(turn)} if turn and turn.data.get("org_id") == org_id else {}
        others = sorted(set(claims.values()) - {turn_id})
        if others:
            owners = await self._documents.get_many([turn_key(other) for other in others])
            turns |= {document.key.id: stored_from(document) for document in owners if document}
        return Look(
            claims,
            turns,
            Books.of(spend_books.day_key(org_id, day), books),
            also=tuple(rest[: len(also)]),
            foreign=tuple(i for i in found if i not in claims),
        )

    async def on_day(self, look: Look, org_id: str, day: str) -> Look:
        """The same with the books of `day`: a turn may have waited over midnight since it looked."""
        key = spend_books.day_key(org_id, day)
        if look.books.key == key:
            return look
        (document,) = await self._documents.get_many([key])
        return replace(look, books=Books.of(key, document))

    async def reserve(
        self, draft: TurnRecord, unclaimed: Sequence[str], look: Look, choose: Choose
    ) -> Stored:
        """Claim the events and hold the worst case of what `choose` decides.

        Raises StoppedError if the budget has no room, and TurnMovedError if somebody else has meanwhile taken
        the turn or one of its events.
        """

        def book(books: Books) -> Opening:
            decision, budget = choose(books.day)
            if decision.kind is Kind.STOP:
                raise StoppedError(decision, books, budget)
            return reservation(draft, decision, budget, books, self._clock.now_ms())

        return await self._open(draft, unclaimed, look.turns.get(draft.id), look.books, book)

    async def stop(
        self, draft: TurnRecord, unclaimed: Sequence[str], previous: Stored | None, stopped: StoppedError
    ) -> Stored:
        """Claim the events, count a stopped turn, and store its reply. Raises TurnMovedError."""

        def book(books: Books) -> Opening:
            return stopping(draft, stopped.decision, stopped.budget_micro_baht, books, self._clock.now_ms())

        return await self._open(draft, unclaimed, previous, stopped.books, book)

    async def answer(
        self,
        draft: TurnRecord,
        unclaimed: Sequence[str],
        previous: Stored | None,
        books: Books,
        also: Sequence[Write] = (),
    ) -> Stored:
        """Claim the events and store a reply that needs no call. Raises TurnMovedError."""

        def book(books: Books) -> Opening:
            left = left_behind(previous.record, books) if previous else None
            return Opening(with_abandoned(draft), (*also, left) if left else tuple(also))

        return await self._open(draft, unclaimed, previous, books, book)

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
                update_of(stored, grown),
                spend_books.grow(books, record.id, more, record.money.model, expires_ms=expires_ms),
            ]
            try:
                versions = await self._documents.commit(writes)
            except ConflictError:
                (current,) = await self._documents.get_many([turn_key(record.id)])
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
        changes = changes_of(stored.record, answered)

        async def once() -> Stored:
            current, record, closing = stored, answered, ended
            while True:
                settled = spend_books.settle(key, closing)
                try:
                    versions = await self._documents.commit([update_of(current, record), settled, *also])
                except ConflictError:
                    await self._clock.sleep(random.uniform(0.001, 0.02))
                    current = await self._current(answered)
                else:
                    return Stored(record, versions[0])
                if current.record.state is TurnState.ANSWERED:
                    return current  # an earlier try had arrived, though the store did not say so
                # Only the hold matters: if it ran out and was charged while the call went on, take that back.
                # Words that were erased meanwhile stay erased, and a busy day's conflict changes nothing.
                held = current.record.money
                swept = held.cost_micro_baht - stored.record.money.cost_micro_baht
                closing = replace(ended, released=held.held_micro_baht, swept=swept)
                merged = TurnRecord.decode(answered.id, {**current.record.encode(), **changes})
                record = replace(merged, money=replace(answered.money, swept=held.swept))

        return await self._insist(once)

    async def take_over(self, stored: Stored, fence: int) -> Stored:
        """Make a turn that an earlier leader left this leader's: from now on the other can write nothing, and
        before a push it must write. Raises TurnMovedError if the other has written meanwhile."""
        record = replace(stored.record, fence=fence)
        try:
            (version,) = await self._documents.commit([update_of(stored, record)])
        except ConflictError:
            raise TurnMovedError(f"turn {record.id} goes on elsewhere") from None
        return Stored(record, version)

    async def update(self, stored: Stored, record: TurnRecord) -> Stored:
        """Write what has changed (delivered, failed), also over what somebody else changed besides it (an
        unsent message). Insists. Raises TurnMovedError."""
        changes = changes_of(stored.record, record)
        base = stored

        async def once() -> Stored:
            nonlocal base
            while True:
                merge = Merge(turn_key(record.id), changes, if_version=base.version)
                try:
                    (version,) = await self._documents.commit([merge])
                except ConflictError:
                    await self._clock.sleep(random.uniform(0.001, 0.02))
                    base = await self._current(record)
                    continue
                written = TurnRecord.decode(record.id, {**base.record.encode(), **changes})
                return Stored(written, version)

        return await self._insist(once)

    async def write(self, writes: Sequence[Write]) -> None:
        """Other documents of a turn (memory), when there is no turn to write them with."""
        await self._documents.commit(writes)

    async def forget_message(self, conversation: Conversation, message_id: str) -> list[TurnRecord]:
        """Take an unsent message's words out of the turns that it stands in: the turns as they are then. Safe
        to repeat; see TurnRecord.without_message."""
        where = [Where("message_ids", "array_contains", message_id)]
        found = [stored_from(document) for document in await self._documents.query(COLLECTION, where)]
        return [
            await self._forget_words(stored, message_id)
            for stored in found
            if (stored.record.org_id, stored.record.chat_id) == (conversation.org_id, conversation.chat_id)
        ]

    async def _forget_words(self, stored: Stored, message_id: str) -> TurnRecord:
        """In one turn, whatever else changes in it at the same time."""
        while True:
            forgotten = stored.record.without_message(message_id)
            if forgotten == stored.record:
                return forgotten
            try:
                await self._documents.commit([update_of(stored, forgotten)])
            except ConflictError:
                (document,) = await self._documents.get_many([turn_key(stored.record.id)])
                if document is None:
                    return forgotten
                stored = stored_from(document)
            else:
                return forgotten

    async def _open(
        self,
        draft: TurnRecord,
        unclaimed: Sequence[str],
        previous: Stored | None,
        books: Books,
        book: Callable[[Books], Opening],
    ) -> Stored:
        """Commit claims, turn and books together; decide anew for as long as only the day has changed."""
        while True:
            opening = book(books)
            record = opening.record
            key = turn_key(record.id)
            turn: Write = Create(key, record.encode()) if previous is None else update_of(previous, record)
            claims = (Create(claim_key(event_id), claim(record)) for event_id in unclaimed)
            other_day = left_on_another_day(previous.record, books) if previous else None
            writes: list[Write] = [turn, *claims, *opening.writes]
            writes += [other_day] if other_day else []
            try:
                versions = await self._documents.commit(writes)
            except ConflictError:
                # The day was changed by another turn, most likely: a few milliseconds apart is enough.
                await self._clock.sleep(random.uniform(0.001, 0.02))
                seen = await self._again(record, unclaimed, previous, books.key)
                if isinstance(seen, Stored):
                    return seen
                books = seen
            else:
                opening.announce()
                return Stored(record, versions[0])

    async def _again(
        self, record: TurnRecord, unclaimed: Sequence[str], previous: Stored | None, day: Key
    ) -> Books | Stored:
        """After a conflict: the day as it is now, or the turn if our own commit had arrived after all."""
        turn, books, *claims = await self._documents.get_many(
            [turn_key(record.id), day, *map(claim_key, unclaimed)]
        )
        if turn is not None and is_ours(stored_from(turn).record, record):
            return stored_from(turn)
        if any(claims) or (turn.version if turn else None) != (previous.version if previous else None):
            raise TurnMovedError(f"turn {record.id} or one of its events was taken")
        return Books.of(day, books)

    async def _current(self, record: TurnRecord) -> Stored:
        """The turn as it is now, if this leader still has it."""
        (document,) = await self._documents.get_many([turn_key(record.id)])
        if document is None or document.data.get("fence") != record.fence:
            raise TurnMovedError(f"turn {record.id} was taken over")
        return stored_from(document)

    async def _insist(self, once: Callable[[], Any]) -> Stored:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(DocumentsUnavailableError),
            wait=wait_exponential_jitter(multiplier=0.1, max=3, jitter=0.2),
            stop=stop_after_delay(self._insist_s),
            sleep=self._clock.sleep,
            reraise=True,
        )
        stored: Stored = await retrying(once)
        return stored
