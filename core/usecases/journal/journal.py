"""The journal: an event is claimed once, a reply is paid once, money is held before it is spent.

Everything is a commit with preconditions; contended transactions sleep a second between tries. Three commits
a turn: reserve, settle, delivered. Every write of a turn names the version that its writer has seen, so a
leader that was taken over can write nothing more. How a commit is made once: core.usecases.journal.commits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.domain.budget import DayBooks, Decision, Kind
from core.domain.event import Conversation
from core.domain.quotes import Quote, quote_from
from core.domain.turn import COLLECTION, TurnRecord, claim
from core.ports.clock import Clock
from core.ports.documents import Create, DocumentStore, Key, Where
from core.usecases.journal import books as spend_books
from core.usecases.journal.books import HOLD_MS, Books, Settlement, turn_key
from core.usecases.journal.commits import Effect, Proposal, Seen, TurnCommits, writes_of
from core.usecases.journal.entries import (
    Loaded,
    NoRoomError,
    StoppedError,
    Stored,
    TurnMovedError,
    changes_of,
    claim_key,
    stored_from,
)
from core.usecases.journal.holds import (
    Opening,
    left_behind,
    left_on_another_day,
    on_a_day,
    reservation,
    stopping,
    with_abandoned,
)

Choose = Callable[[DayBooks], tuple[Decision, int]]
"""The decision on a day as it was read, and the day's budget in micro-baht."""


class Journal:
    """Its writes raise ContendedError when others leave them no moment, DocumentsUnavailableError when the
    store is down."""

    def __init__(
        self, documents: DocumentStore, clock: Clock, *, try_s: float = 3.0, insist_s: float = 45.0
    ) -> None:
        """`try_s`: how long what opens a turn is tried, with a slot in hand. `insist_s`: the same for what
        must not get lost."""
        self._documents = documents
        self._commits = TurnCommits(documents, clock)
        self._clock = clock
        self._try_s = try_s
        self._insist_s = insist_s

    async def load(
        self, org_id: str, day: str, turn_id: str, event_ids: Sequence[str], also: Sequence[Key] = ()
    ) -> Loaded:
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
        return Loaded(
            claims,
            turns,
            Books.of(spend_books.day_key(org_id, day), books),
            also=tuple(rest[: len(also)]),
            foreign=tuple(i for i in found if i not in claims),
        )

    async def on_day(self, loaded: Loaded, org_id: str, day: str) -> Loaded:
        """The same with the books of `day`: a turn may have waited over midnight since it looked."""
        key = spend_books.day_key(org_id, day)
        if loaded.books.key == key:
            return loaded
        (document,) = await self._documents.get_many([key])
        return replace(loaded, books=Books.of(key, document))

    async def reserve(
        self, draft: TurnRecord, unclaimed: Sequence[str], loaded: Loaded, choose: Choose
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

        return await self._open(draft, unclaimed, loaded.turns.get(draft.id), loaded.books, book)

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
        effects: Sequence[Effect] = (),
    ) -> Stored:
        """Claim the events and store a reply that needs no call. Raises TurnMovedError."""

        def book(books: Books) -> Opening:
            left = left_behind(previous.record, books, self._clock.now_ms()) if previous else ()
            return Opening(on_a_day(with_abandoned(draft), books), left)

        return await self._open(draft, unclaimed, previous, books, book, effects)

    async def grow(
        self, stored: Stored, may_grow: Callable[[DayBooks, int], bool], more: int | None = None
    ) -> Stored | None:
        """Hold one more worst case, or `more`; None if the budget has no room. Raises TurnMovedError."""
        record = stored.record
        more = record.money.worst_micro_baht if more is None else more
        key = spend_books.day_key(record.org_id, record.money.day)

        def propose(seen: Seen | None) -> Proposal:
            current = _still_led(seen.turn, record) if seen else stored
            books = Books.of(key, seen.others[0] if seen else document)
            if not may_grow(books.day, more):
                raise NoRoomError
            grown = current.record.with_money(held_micro_baht=current.record.money.held_micro_baht + more)
            expires_ms = self._clock.now_ms() + HOLD_MS
            day = spend_books.grow(books, record.id, more, record.money.model, expires_ms=expires_ms)
            return Proposal(grown, current, [day])

        (document,) = await self._documents.get_many([key])
        try:
            return await self._commits.commit(record.id, propose, [key], within_s=self._try_s)
        except NoRoomError:
            return None

    async def settle(
        self,
        stored: Stored,
        settled: TurnRecord,
        ended: Settlement,
        effects: Sequence[Effect] = (),
        *,
        insist: bool = True,
    ) -> Stored:
        """Close the books of the turn's calls, and store its reply if there is one. Insists, as a rule: the
        answer is paid already.

        Raises TurnMovedError if the turn was taken over; then its money is the other leader's business.
        """
        key = spend_books.day_key(settled.org_id, stored.record.money.day)

        def propose(seen: Seen | None) -> Proposal | Stored:
            now_ms = self._clock.now_ms()
            if seen is None:
                booked = spend_books.settle(key, ended, now_ms)
                return Proposal(settled, stored, [*booked, *writes_of(effects, None)])
            current = _still_led(seen.turn, settled)
            if current.record.state is not stored.record.state:
                return current  # it was settled before
            # Only the hold matters: if it ran out and was charged while the call went on, take that back.
            # Words that were erased meanwhile stay erased, and a busy day's conflict changes nothing.
            held = current.record.money
            swept = held.cost_micro_baht - stored.record.money.cost_micro_baht
            closing = replace(ended, released=held.held_micro_baht - ended.keeps, swept=swept)
            merged = _merged(current.record, changes_of(stored.record, settled))
            record = replace(merged, money=replace(settled.money, swept=held.swept))
            also = writes_of(effects, seen.others)
            return Proposal(record, current, [*spend_books.settle(key, closing, now_ms), *also])

        within_s = self._insist_s if insist else self._try_s
        others = [effect.key for effect in effects]
        return await self._commits.commit(settled.id, propose, others, within_s=within_s)

    async def take_over(self, stored: Stored, fence: int) -> Stored:
        """Make a turn that an earlier leader left this leader's: from now on the other can write nothing, and
        before a push it must write. Raises TurnMovedError if the other has written meanwhile."""
        record = replace(stored.record, fence=fence)

        def propose(seen: Seen | None) -> Proposal:
            if seen and (seen.turn is None or seen.turn.version != stored.version):
                raise TurnMovedError(f"turn {record.id} goes on elsewhere")
            return Proposal(record, stored)

        return await self._commits.commit(record.id, propose, within_s=self._try_s)

    async def update(self, stored: Stored, record: TurnRecord, effects: Sequence[Effect] = ()) -> Stored:
        """Write what has changed (delivered, failed), also over what somebody else changed besides it (an
        unsent message). `effects`: such as need not be read. Insists. Raises TurnMovedError."""

        def propose(seen: Seen | None) -> Proposal:
            also = writes_of(effects, None)
            if seen is None:
                return Proposal(record, stored, also)
            current = _still_led(seen.turn, record)
            changes = changes_of(stored.record, record)
            merged = TurnRecord.decode(record.id, {**current.record.encode(), **changes})
            return Proposal(merged, current, also)

        return await self._commits.commit(record.id, propose, within_s=self._insist_s)

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

    async def quoted(self, conversation: Conversation, message_ids: Collection[str]) -> list[Quote]:
        """What is known of these messages of a conversation, ours and theirs. No trip without any."""
        found = await asyncio.gather(*(self._quoted(conversation, message_id) for message_id in message_ids))
        return [quote for quote in found if quote]

    async def _quoted(self, conversation: Conversation, message_id: str) -> Quote | None:
        where = [Where("message_ids", "array_contains", message_id)]
        for document in await self._documents.query(COLLECTION, where):
            record = stored_from(document).record
            if (record.org_id, record.chat_id) == (conversation.org_id, conversation.chat_id):
                return quote_from(record, message_id)
        return None

    async def _forget_words(self, stored: Stored, message_id: str) -> TurnRecord:
        """In one turn, whatever else changes in it at the same time."""
        forgotten = stored.record

        def propose(seen: Seen | None) -> Proposal | Stored:
            nonlocal forgotten
            current = (seen.turn if seen else stored) or stored
            forgotten = current.record.without_message(message_id)
            if forgotten == current.record or (seen and seen.turn is None):
                return current
            return Proposal(forgotten, current, leads=False)

        await self._commits.commit(stored.record.id, propose, within_s=self._try_s)
        return forgotten

    async def _open(
        self,
        draft: TurnRecord,
        unclaimed: Sequence[str],
        previous: Stored | None,
        books: Books,
        book: Callable[[Books], Opening],
        effects: Sequence[Effect] = (),
    ) -> Stored:
        """Commit claims, turn and books together; decide anew for as long as only the day has changed."""
        version = previous.version if previous else None
        opening: Opening | None = None

        def propose(seen: Seen | None) -> Proposal:
            nonlocal opening
            day, found = books, None
            if seen:
                document, *rest = seen.others
                found, claims = rest[: len(effects)], rest[len(effects) :]
                if any(claims) or (seen.turn.version if seen.turn else None) != version:
                    raise TurnMovedError(f"turn {draft.id} or one of its events was taken")
                day = Books.of(books.key, document)
            opening = book(day)
            claimed = (Create(claim_key(event_id), claim(opening.record)) for event_id in unclaimed)
            now_ms = self._clock.now_ms()
            also = [
                *claimed,
                *opening.writes,
                *(left_on_another_day(previous.record, day, now_ms) if previous else ()),
                *writes_of(effects, found),
            ]
            return Proposal(opening.record, previous, also)

        others = [books.key, *(effect.key for effect in effects), *map(claim_key, unclaimed)]
        stored = await self._commits.commit(draft.id, propose, others, within_s=self._try_s)
        if opening:
            opening.announce()
        return stored


def _merged(current: TurnRecord, changes: Mapping[str, Any]) -> TurnRecord:
    """`current` with what a leader changes; a message that was erased since it was read stays erased."""
    merged = TurnRecord.decode(current.id, {**current.encode(), **changes})
    erased = {event.id: event for event in current.events if not (event.text or event.note)}
    return replace(merged, events=tuple(erased.get(event.id, event) for event in merged.events))


def _still_led(current: Stored | None, record: TurnRecord) -> Stored:
    """The turn as it is now, if this leader still has it."""
    if current is None or current.record.fence != record.fence:
        raise TurnMovedError(f"turn {record.id} was taken over")
    return current
