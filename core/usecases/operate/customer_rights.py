"""A customer's rights over their data: see all that is kept, and have it erased.

Kept are the session and waiting messages (Redis), the memory, bookings, and the journal's turns. What stays
after forgetting are ids and money: the books must close, and an answered event must not be answered again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from core.domain import consent, notice
from core.domain.booking import Booking
from core.domain.budget import budget_day
from core.domain.clinic import Retention
from core.domain.errors import FairlaneError
from core.domain.event import Conversation, InboundEvent
from core.domain.memory import CustomerMemory
from core.domain.notice import Notice
from core.domain.questions import Asked
from core.domain.session import Session
from core.domain.turn import CLAIMS, COLLECTION, FORGOTTEN, TurnRecord, TurnState
from core.ports import log
from core.ports.clock import Clock
from core.ports.conversations import Conversations, Led
from core.ports.documents import ConflictError, Document, DocumentStore, Key, Where
from core.ports.mailbox import Held, Mailbox
from core.usecases.bookings.records import BookingRecords, booking_from
from core.usecases.customers.asked_questions import AskedQuestions
from core.usecases.customers.memory_changes import MemoryChanges, memory_key
from core.usecases.desk.records import DeskRecords, notice_from
from core.usecases.journal.entries import Stored, TurnMovedError, update_of
from core.usecases.journal.journal import Journal
from core.usecases.journal.stats import counting_turns

_BATCH = 50
_A_WEEK = Retention(memory_days=7, unfollow_days=7)
_ROUNDS = 20


class ConversationBusyError(FairlaneError):
    """A turn of the customer runs, or takes the lead back: the same command works a little later."""


@dataclass(frozen=True, slots=True)
class KeptOfCustomer:
    """`turns` oldest first, also those in groups that have a message of the customer's, without what others
    said there; `waiting` also in these groups. `claims`: by event id, the turn that answers it.
    `questions`: what the clinic's words did not answer; `notices`: to the clinic's staff. `memory_document`:
    None if there is none."""

    conversation: Conversation
    session: Session | None
    waiting: tuple[InboundEvent, ...]
    memory: CustomerMemory
    memory_document: Document | None
    turns: tuple[TurnRecord, ...]
    claims: Mapping[str, str]
    questions: tuple[Asked, ...] = ()
    notices: tuple[Notice, ...] = ()
    bookings: tuple[Booking, ...] = ()

    @property
    def nothing(self) -> bool:
        kept = (self.session, self.waiting, self.memory_document, self.turns, self.questions, self.bookings)
        return not any(kept)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was erased. `turns`: whose texts went; `dropped`: waiting messages that nobody will answer;
    `bookings`: whose words went; those that stood are cancelled."""

    turns: int
    dropped: int
    had_memory: bool
    had_session: bool
    bookings: int = 0


class CustomerRights:
    def __init__(
        self,
        documents: DocumentStore,
        conversations: Conversations,
        mailbox: Mailbox,
        clock: Clock,
        *,
        timezone: str = "Asia/Bangkok",
        wait_s: float = 90.0,
    ) -> None:
        """`timezone`: of the budget's day. `wait_s`: how long a running turn is waited for (its longest)."""
        self._documents = documents
        self._conversations = conversations
        self._mailbox = mailbox
        self._bookings = BookingRecords(documents, clock)
        self._journal = Journal(documents, clock)
        self._memories = MemoryChanges(documents, clock)
        self._questions = AskedQuestions(documents)
        self._clock = clock
        self._timezone = timezone
        self._wait_s = wait_s

    async def kept(self, customer: Conversation) -> KeptOfCustomer:
        """Everything there is."""
        found = await self._conversations.look(customer)
        (document,) = await self._documents.get_many([memory_key(customer)])
        known = CustomerMemory.decode(document.data if document else None, self._clock.now_ms())
        turns = sorted(await self._turns(customer), key=lambda turn: turn.created_ms)
        waiting = [*found.waiting]
        for group in _groups(customer, turns):
            waiting += _said_by(customer, (await self._conversations.look(group)).waiting)
        return KeptOfCustomer(
            conversation=customer,
            session=Session.decode(found.session) if found.session else None,
            waiting=tuple(waiting),
            memory=known,
            memory_document=None if _is_blank(known) else document,
            turns=tuple(_as_seen_by(customer, turn) for turn in turns),
            questions=tuple(await self._questions.by(customer)),
            claims=await self._claims([event_id for turn in turns for event_id in turn.event_ids]),
            notices=tuple(await self._notices_of(customer)),
            bookings=tuple(map(booking_from, await self._bookings.of_customer(customer))),
        )

    async def forget(self, customer: Conversation) -> Forgotten:
        """Erase, with the customer's conversation led, so that no turn runs meanwhile and writes it anew.

        Raises ConversationBusyError, UnavailableError; repeating is safe, and completes what was begun.
        """
        erased = dropped_there = 0
        for group in _groups(customer, await self._turns(customer)):
            turns_there, waiting_there = await self._forget_in_group(customer, group)
            erased, dropped_there = erased + turns_there, dropped_there + waiting_there
        async with self._leading(customer) as led:
            had_session = (await self._conversations.look(customer)).session is not None
            turns = await self._erase_words(customer, customer, led.fence)
            # In place of the memory: what is on its way is erased when it arrives.
            blank = CustomerMemory().forgetting(customer.chat_id, led.now_ms)
            known, _ = await self._memories.change(customer, _A_WEEK, lambda _: blank)
            booked = await self._erase_bookings(customer)
            replays = [turn.replayed_as for turn in turns if turn.replayed_as]
            await self._questions.forget(customer)
            await self._forget_notices(customer)
            dropped = await self._conversations.erase(
                customer, led.fence, sender=customer.chat_id, also_done=replays
            )
        if dropped is None:
            raise ConversationBusyError("another process took the conversation over: try again")
        dropped += dropped_there
        forgotten = Forgotten(erased + len(turns), dropped, not _is_blank(known), had_session, booked)
        log.warning("customer.forgotten", org=customer.org_id, turns=forgotten.turns, dropped=dropped)
        return forgotten

    async def withdraw(self, customer: Conversation, retention: Retention) -> int:
        """Take back the customer's consent to remembering health facts: how many were erased. Raises as
        `forget`; safe to repeat."""
        async with self._leading(customer) as led:
            kept = (await self._conversations.look(customer)).session
            session, now_ms = Session.decode(kept), self._clock.now_ms()
            waited = len(session.awaiting_consent)

            def withdrawn(known: CustomerMemory) -> CustomerMemory:
                return consent.decided(known, session, given=False, at_ms=now_ms)[0]

            before, after = await self._memories.change(customer, retention, withdrawn)
            _, session = consent.decided(before, session, given=False, at_ms=now_ms)
            encoded = session.encode() if kept else None
            if await self._mailbox.finish(customer, led.fence, (), session=encoded) is None:
                raise ConversationBusyError("another process took the conversation over: try again")
        erased = len(before.facts) - len(after.facts) + waited
        log.warning("customer.consent_withdrawn", org=customer.org_id, facts=erased)
        return erased

    async def _notices_of(self, customer: Conversation) -> list[Notice]:
        """To staff, about the customer, also about what they said in groups."""
        org = Where("org_id", "==", customer.org_id)
        theirs = Where("chat_id", "==", customer.chat_id), Where("user_id", "==", customer.chat_id)
        found = {
            document.key.id: document
            for where in theirs
            for document in await self._documents.query(notice.COLLECTION, [org, where])
        }
        return [notice_from(found[notice_id]) for notice_id in sorted(found)]

    async def _forget_notices(self, customer: Conversation) -> None:
        """Staff may still deal with the matter, but not by what was said or by a name."""
        records = DeskRecords(self._documents, self._clock)
        for told in await self._notices_of(customer):
            await records.change_notice(told.id, lambda known: replace(known, name="", detail=""))

    async def _erase_bookings(self, customer: Conversation) -> int:
        """In how many there was something; also those that staff are just deciding about."""
        found = await self._bookings.of_customer(customer)
        changed = [await self._bookings.change(document.key.id, Booking.without_words) for document in found]
        return sum(before != after for before, after in changed)

    async def _forget_in_group(self, customer: Conversation, group: Conversation) -> tuple[int, int]:
        """A group's state is not the customer's alone: only what they said goes, and what came of it. In how
        many turns, and how many messages that waited."""
        async with self._leading(group) as led:
            turns = await self._erase_words(customer, group, led.fence)
            ids = {turn.id for turn in turns}
            await self._memories.change(
                group,
                _A_WEEK,
                lambda known: known.without_turns(ids).forgetting(customer.chat_id, led.now_ms),
                prolong=False,
            )
            found = await self._conversations.look(group)
            session = Session.decode(found.session).without_turns(ids).encode() if found.session else None
            waiting = [event.event_id for event in _said_by(customer, found.waiting)]
            done = [*waiting, *(turn.replayed_as for turn in turns if turn.replayed_as)]
            if await self._mailbox.finish(group, led.fence, done, session=session) is None:
                raise ConversationBusyError("another process took the group over: try again")
        return len(turns), len(waiting)

    async def _erase_words(
        self, customer: Conversation, conversation: Conversation, fence: int
    ) -> list[TurnRecord]:
        """Out of every turn of the customer in this conversation; those that have not ended end here."""
        for _ in range(_ROUNDS):
            found = await self._documents_of(customer)
            turns = [(_decoded(d), d) for d in found if d.data.get("chat_id") == conversation.chat_id]
            left = [(turn, d) for turn, d in turns if not turn.state.final or turn != _erased(customer, turn)]
            if not left:
                return [turn for turn, _ in turns]
            try:
                for start in range(0, len(left), _BATCH):
                    if not await self._mailbox.renew(conversation, fence):
                        raise ConversationBusyError("another process took the conversation over: try again")
                    await self._erase_batch(customer, left[start : start + _BATCH], fence)
            except (ConflictError, TurnMovedError):
                continue  # a sweep of the books, or a leader that was presumed dead: look again
        raise ConversationBusyError("the customer's turns keep changing: try again")

    async def _erase_batch(
        self, customer: Conversation, batch: Sequence[tuple[TurnRecord, Document]], fence: int
    ) -> None:
        erased = []
        for turn, document in batch:
            if turn.money.held_micro_baht and not turn.state.final:
                await self._close_books(customer, turn, fence)
            else:
                erased.append((Stored(turn, document.version), self._ended(customer, turn, fence)))
        if erased:
            counted = counting_turns((stored.record, after) for stored, after in erased)
            await self._documents.commit([*(update_of(*change) for change in erased), *counted])

    async def _close_books(self, customer: Conversation, turn: TurnRecord, fence: int) -> None:
        """A crashed leader's hold is charged, as whoever took the turn over would have done."""
        day = turn.money.day or budget_day(self._clock.now_ms(), self._timezone)
        loaded = await self._journal.load(turn.org_id, day, turn.id, ())
        stored = loaded.turns[turn.id]
        ended = self._ended(customer, stored.record, fence)
        await self._journal.answer(ended, (), stored, loaded.books)

    def _ended(self, customer: Conversation, turn: TurnRecord, fence: int) -> TurnRecord:
        erased = _erased(customer, turn)
        if turn.state.final:
            return erased
        # The fence keeps out a leader that was only paused.
        ended_ms = self._clock.now_ms()
        return replace(erased, state=TurnState.FAILED, failure=FORGOTTEN, fence=fence, delivered_ms=ended_ms)

    @asynccontextmanager
    async def _leading(self, conversation: Conversation) -> AsyncIterator[Led]:
        deadline = self._clock.monotonic() + self._wait_s
        while isinstance(led := await self._conversations.lead(conversation), Held):
            if self._clock.monotonic() > deadline:
                raise ConversationBusyError("a turn of this customer still runs: try again in a minute")
            await self._clock.sleep(min(0.25, led.lease_ms / 1000 + 0.01))
        try:
            yield led
        finally:
            await self._mailbox.finish(conversation, led.fence, ())

    async def _turns(self, customer: Conversation) -> list[TurnRecord]:
        return [_decoded(document) for document in await self._documents_of(customer)]

    async def _documents_of(self, customer: Conversation) -> list[Document]:
        """Of the customer's own chat, and of groups. A user id belongs to a provider, not to a clinic."""
        own = Where("chat_id", "==", customer.chat_id), Where("org_id", "==", customer.org_id)
        said = (Where("user_ids", "array_contains", customer.chat_id),)
        found = [d for where in (own, said) for d in await self._documents.query(COLLECTION, where)]
        return list({d.key: d for d in found if d.data.get("org_id") == customer.org_id}.values())

    async def _claims(self, event_ids: Sequence[str]) -> dict[str, str]:
        claims: dict[str, str] = {}
        for start in range(0, len(event_ids), _BATCH):
            ids = event_ids[start : start + _BATCH]
            found = await self._documents.get_many([Key(CLAIMS, event_id) for event_id in ids])
            claims |= {document.key.id: str(document.data["turn_id"]) for document in found if document}
        return claims


def _is_blank(known: CustomerMemory) -> bool:
    """Nothing is remembered but that the customer was forgotten."""
    return replace(known, forgotten={}) == CustomerMemory()


def _decoded(document: Document) -> TurnRecord:
    return TurnRecord.decode(document.key.id, document.data)


def _groups(customer: Conversation, turns: Sequence[TurnRecord]) -> list[Conversation]:
    chats = {turn.chat_id: turn for turn in turns if turn.chat_id != customer.chat_id}
    return [Conversation(turn.org_id, turn.channel, chat_id) for chat_id, turn in sorted(chats.items())]


def _said_by(customer: Conversation, events: Sequence[InboundEvent]) -> list[InboundEvent]:
    return [event for event in events if event.user_id == customer.chat_id]


def _erased(customer: Conversation, turn: TurnRecord) -> TurnRecord:
    return turn.without_words(None if turn.chat_id == customer.chat_id else customer.chat_id)


def _as_seen_by(customer: Conversation, turn: TurnRecord) -> TurnRecord:
    """What others said in a group is theirs."""
    if turn.chat_id == customer.chat_id:
        return turn
    events = tuple(e if e.user_id == customer.chat_id else replace(e, text="") for e in turn.events)
    return replace(turn, events=events)
