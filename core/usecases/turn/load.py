"""Read all that a turn needs, and apply what customers took back or decided since."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from core.domain import consent
from core.domain.budget import budget_day
from core.domain.errors import FairlaneError
from core.domain.inbound_policy import TurnPlan, unsent_ids
from core.domain.memory import CustomerMemory
from core.domain.moment import Moment
from core.domain.session import Session
from core.domain.turn import TurnRecord
from core.ports import log
from core.ports.clock import Clock
from core.usecases.bookings.records import BookingRecords, booked_chat_key
from core.usecases.clinics.directory import ClinicDirectory
from core.usecases.customers.asked_questions import AskedQuestions
from core.usecases.customers.memory_changes import MemoryChanges, memory_key
from core.usecases.desk.records import desk_from, desk_key
from core.usecases.journal.journal import Journal
from core.usecases.turn.context import Turn, TurnContext


class ForeignEventsError(FairlaneError):
    """Another clinic's turn has claimed these events' ids: somebody made them up."""

    def __init__(self, event_ids: tuple[str, ...]) -> None:
        super().__init__(f"{len(event_ids)} ids belong to another clinic's events")
        self.event_ids = event_ids


class NoClinicError(FairlaneError):
    """The conversation's clinic is not there any more."""


class LoadTurn:
    def __init__(
        self,
        directory: ClinicDirectory,
        journal: Journal,
        memories: MemoryChanges,
        questions: AskedQuestions,
        bookings: BookingRecords,
        clock: Clock,
        timezone: str,
    ) -> None:
        """`timezone`: where a budget's day begins."""
        self._directory = directory
        self._journal = journal
        self._memories = memories
        self._questions = questions
        self._bookings = bookings
        self._clock = clock
        self._timezone = timezone

    async def __call__(self, turn: Turn) -> TurnContext:
        """Raises ForeignEventsError, NoClinicError, UnavailableError."""
        now_ms = self._clock.now_ms()
        day = budget_day(now_ms, self._timezone)
        forgotten = await self._forget_unsent(turn)
        # An unsent message waits no more; if its turn has not ended, nobody else would end it.
        unended = [i for record in forgotten if not record.state.final for i in record.event_ids]
        event_ids = list(dict.fromkeys([*turn.event_ids, *unended]))
        quoted = {e.quoted_message_id: None for e in turn.waiting.events if e.quoted_message_id}
        org_id = turn.conversation.org_id
        also = (
            memory_key(turn.conversation),
            desk_key(org_id),
            booked_chat_key(org_id, turn.conversation.chat_id),
        )
        found, loaded, quotes = await asyncio.gather(
            self._directory.by_org(org_id, turn.waiting.clinic_mark),
            self._journal.load(org_id, day, turn.id, event_ids, also),
            self._journal.quoted(turn.conversation, quoted),
        )
        if loaded.foreign:
            log.error("turn.failed", reason="foreign_event_id", events=len(loaded.foreign))
            raise ForeignEventsError(loaded.foreign)
        if found is None:
            raise NoClinicError(org_id)
        clinic, channel = found
        remembered, desk, booked = loaded.also
        memory = CustomerMemory.decode(remembered.data if remembered else None, now_ms)
        session = turn.session.with_sent(quote.message_id for quote in quotes if quote.is_ours)
        moment = Moment(now_ms, self._timezone)
        ids = frozenset(record.id for record in forgotten)
        return TurnContext(
            replace(turn, session=session),
            clinic,
            channel,
            loaded,
            memory,
            moment,
            quotes,
            forgotten=ids,
            desk=desk_from(clinic.org_id, desk),
            bookings=await self._bookings.in_chat(turn.conversation) if booked else (),
        )

    async def changed_by(self, context: TurnContext, plan: TurnPlan) -> TurnContext:
        """The context once it is stored that what unsent messages had taught is forgotten, that a customer
        left or came back, and what was decided about consent. Raises UnavailableError."""
        session = context.turn.session.without_turns(context.forgotten)
        seen = context.memory

        def changed(known: CustomerMemory) -> CustomerMemory:
            if known.forgotten != seen.forgotten:
                return known
            known = replace(known.without_turns(context.forgotten), unfollowed_ms=plan.unfollowed_ms)
            if plan.consent is None:
                return known
            return consent.decided(known, session, given=plan.consent, at_ms=context.now_ms)[0]

        known = changed(seen)
        if known != seen:
            _, known = await self._memories.change(
                context.turn.conversation, context.clinic.retention, changed
            )
        if plan.consent is not None:
            session = replace(session, awaiting_consent=())
        if known.unfollowed_ms is not None:
            session = Session()
        return replace(context.with_session(session), memory=known)

    async def _forget_unsent(self, turn: Turn) -> list[TurnRecord]:
        """The turns that messages which were unsent since stand in, without these words. A turn that asked
        something of the clinic asked it in words that may repeat them."""
        unsent = unsent_ids(turn.waiting.events)
        forgotten = [await self._journal.forget_message(turn.conversation, i) for i in unsent]
        records = [record for found in forgotten for record in found]
        await self._questions.forget_turns(records)
        return records
