"""A turn, from what waits in a conversation to the customer's answer: load, plan, hold the money, slot, call,
parse, settle, deliver, session.

Turns that an earlier leader left behind are finished first. There is one path for a reply, whoever wrote it:
it is stored in the journal, delivered from there, and marked as delivered. A crash anywhere leaves a turn
that the next leader finds and finishes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from core.domain import handoff
from core.domain.desk import DESK
from core.domain.errors import DefectAfterCallError, UnavailableError
from core.domain.event_kinds import rules_of
from core.domain.inbound_policy import Action, TurnPlan, plan_turn
from core.domain.media import Wanted, blinded, chosen, text_key
from core.domain.model_reply import FOR_STAFF, ModelReply
from core.domain.opening import silence_of
from core.domain.outcome import NOTHING_LEFT
from core.domain.price_guard import PriceGuard
from core.domain.prices import UnpricedModelError
from core.domain.prompt import Prompt
from core.domain.session import Session
from core.domain.texts import text
from core.domain.turn import RECOVERED, UNSURE, TurnRecord, TurnState
from core.ports import log
from core.ports.clock import Clock
from core.ports.slots import NoSlotError, Refusal, SlotRequest
from core.usecases.desk.chat import DeskChat
from core.usecases.journal.entries import ContendedError, StoppedError, Stored, TurnMovedError
from core.usecases.journal.holds import with_abandoned
from core.usecases.journal.journal import Journal
from core.usecases.outbox.outbox import Outbox
from core.usecases.turn import effects
from core.usecases.turn.context import (
    Answered,
    Turn,
    TurnContext,
    draft_of,
    heard,
    of_one_speaker,
    prompt_of,
    session_after,
    words_of,
)
from core.usecases.turn.delivery import Delivery
from core.usecases.turn.give_up import GiveUp
from core.usecases.turn.hold import AskFailedError, Hold, Holds
from core.usecases.turn.listen import Listen
from core.usecases.turn.load import ForeignEventsError, LoadTurn, NoClinicError
from core.usecases.turn.media import Fetched, Media
from core.usecases.turn.model import AskModel
from core.usecases.turn.quote import BarredProviderError

BUDGET_NOTICE_EVERY_MS = 3_600_000
_PLANNED_MS = 5_000
"""Whose message came longer ago did not come as soon as it could: gathering takes less."""
_UNUSABLE = {
    NoSlotError: "too_large",
    UnpricedModelError: "unpriced_model",
    BarredProviderError: "barred_provider",
}
MAX_LOST_CALLS = 3
"""Calls that a turn has paid for without knowing what became of them. Beyond it is the turn itself, perhaps,
that ends its instances."""


@dataclass(frozen=True, slots=True)
class AnswerPolicy:
    """`patience_s`: age of an event past which its customer gets the busy message.
    `session_ttl_s`: how long a conversation goes on after its last turn."""

    patience_s: float
    session_ttl_s: float


class Answer:
    def __init__(
        self,
        load: LoadTurn,
        journal: Journal,
        holds: Holds,
        ask_model: AskModel,
        media: Media,
        listen: Listen,
        delivery: Delivery,
        desk: DeskChat,
        outbox: Outbox,
        give_up: GiveUp,
        clock: Clock,
        policy: AnswerPolicy,
    ) -> None:
        self._load = load
        self._journal = journal
        self._holds = holds
        self._ask_model = ask_model
        self._media = media
        self._listen = listen
        self._delivery = delivery
        self._desk = desk
        self._outbox = outbox
        self._give_up = give_up
        self._clock = clock
        self._policy = policy

    async def __call__(self, turn: Turn) -> Answered:
        """One round: either the turns that own some of these events are finished, or a new one is made.

        Raises NoSlotError (no attempt was made, or this process ends), ContendedError, TurnMovedError,
        UnavailableError, DefectAfterCallError.
        """
        turn = of_one_speaker(turn)
        try:
            context = await self._load(turn)
        except ForeignEventsError as exc:
            return Answered(exc.event_ids, turn.session)
        except NoClinicError:
            for event in turn.waiting.events:
                await self._give_up(event, turn.trace, "no_clinic")
            return Answered(turn.event_ids, turn.session)
        takes = await self._media.takes(context.clinic, _kinds(context))
        context = replace(context, takes=takes)
        plan = plan_turn(
            turn.waiting.events,
            context.clinic,
            context.turn.session,
            context.memory,
            context.now_ms,
            silence_of(context.clinic, context.moment),
            takes,
        )
        context = await self._load.changed_by(context, plan)
        if context.loaded.claims:
            return await self._finish_earlier(context)
        draft = draft_of(context, plan)
        said = await self._desk.answer(context.clinic, context.channel, context.desk, turn.waiting.events)
        if said is not None:
            with log.bound(turn=turn.id):
                return Answered(turn.event_ids, await self._at_desk(context, draft, said))
        if plan.action is Action.IGNORE:
            await self._ignore(context, draft, plan)
            return Answered(turn.event_ids, heard(context.turn.session, draft, plan.reason))
        with log.bound(turn=turn.id):
            if plan.action is Action.ANSWER:
                session = await self._by_model(context, draft, turn.event_ids)
            else:
                session = await self._by_fixed_text(context, draft, plan)
        return Answered(turn.event_ids, session)

    async def _at_desk(self, context: TurnContext, draft: TurnRecord, said: str) -> Session:
        """What staff write, and what they are told, is kept no longer than it is needed."""
        record = replace(draft.without_words(), reply=said).with_money(decision="none", reason=DESK)
        return await self._without_a_call(context, self._ready(context, record), context.turn.event_ids)

    async def _by_model(self, context: TurnContext, draft: TurnRecord, unclaimed: Sequence[str]) -> Session:
        """`unclaimed`: the events that no turn owns yet."""
        wanted, told = chosen(draft.events, context.takes)
        draft = replace(draft, events=told)
        if context.memory.unfollowed_ms is not None or not (words_of(draft) or wanted):
            # Nothing of it can be looked at or listened to. Or it is a dead leader's turn that nobody waits
            # for any more: all of it was unsent, or the customer left.
            return await self._deliver(context, await self._unanswerable(context, draft, unclaimed))
        if self._is_past_patience(context, draft):
            return await self._busy(context, draft, unclaimed, "patience")
        try:
            stored = await self._asked(context, draft, unclaimed, wanted)
        except StoppedError as exc:
            return await self._stopped(context, draft, unclaimed, exc)
        except (UnpricedModelError, BarredProviderError, NoSlotError) as exc:
            if isinstance(exc, NoSlotError) and exc.reason is not Refusal.TOO_LARGE:
                raise
            # What `clinics apply` refuses was written past it: the customer must not pay for it with silence.
            reason = _UNUSABLE[type(exc)]
            log.error("model.unusable", reason=reason, detail=str(exc))
            return await self._busy(context, draft, unclaimed, reason)
        return await self._deliver(context, stored)

    async def _asked(
        self, context: TurnContext, draft: TurnRecord, unclaimed: Sequence[str], wanted: Wanted
    ) -> Stored:
        """Nothing is fetched for a stopped clinic, nor a picture that nobody would look at."""
        prompt = prompt_of(context, draft)
        draft = _asking(context, draft, prompt)
        hold = await self._holds.quote(context, draft, unclaimed, prompt, wanted)
        if wanted.pictures and not (words_of(draft) or wanted.voices) and hold.is_blind:
            return await self._unanswerable(context, blinded(draft), unclaimed)
        async with self._media.fetched(context.channel, draft, wanted) as fetched:
            if not (words_of(draft) or fetched):
                return await self._unanswerable(context, fetched.record, unclaimed)
            if wanted:
                prompt = prompt_of(context, fetched.record, fetched.pictures)
                hold.begin(_asking(context, fetched.record, prompt), prompt)
            return await self._ask(context, fetched, hold)

    async def _unanswerable(
        self, context: TurnContext, draft: TurnRecord, unclaimed: Sequence[str]
    ) -> Stored:
        """No words, and no picture or voice message that can be had: a fixed text says why."""
        key = text_key(draft.events) if context.memory.unfollowed_ms is None else None
        if key:
            draft = replace(draft, reply=text(context.clinic, key))
        draft = draft.with_money(decision="none", reason=key or NOTHING_LEFT)
        return await self._stored_without_a_call(context, self._ready(context, draft), unclaimed)

    async def _ask(self, context: TurnContext, fetched: Fetched, hold: Hold) -> Stored:
        """The stored reply. However the asking ends, what it has cost is charged and the rest of the hold is
        released; once the model was called, no defect makes it be called again."""
        draft = fetched.record
        slot = SlotRequest(
            org_id=draft.org_id,
            ticket=f"{draft.id}/{draft.fence}",
            wait_s=0,
            org_cap=context.clinic.limits.max_concurrent,
            tokens=hold.quote.tokens,
            place=context.turn.place,
            planned=self._clock.now_ms() - max(e.arrived_ms for e in draft.events) > _PLANNED_MS,
        )
        try:
            async with self._delivery.showing(context.channel, draft) as on_wait:
                if fetched.voices:
                    place = await self._listen(hold, slot, on_wait, fetched.voices)
                    if said := self._fixed_after_listening(context, hold.record, fetched):
                        return await hold.settle(self._ready(context, said[0]), said[1])
                    hold.ask(prompt_of(context, hold.record, fetched.pictures))
                    slot = replace(slot, place=place)
                reply = await self._guarded_reply(context, hold, slot, on_wait)
            asked = _asking(context, _guarded(hold, reply), hold.quote.prompt)
            record, also = effects.of_reply(context, asked, reply, self._clock.now_ms())
            return await hold.settle(self._ready(context, record), also)
        except AskFailedError as exc:
            await hold.reserved()  # it may have been cut off with its slot
            return await self._failed(context, hold, exc.reason)
        except (NoSlotError, UnavailableError, ContendedError, asyncio.CancelledError):
            await hold.leave()
            raise
        except (StoppedError, TurnMovedError):
            raise
        except Exception as exc:
            if not hold.bill.attempts:
                await hold.leave()
                raise
            log.error("turn.defect", exc=exc, reason=type(exc).__name__)
            return await self._failed(context, hold, f"defect_{type(exc).__name__}")

    def _fixed_after_listening(
        self, context: TurnContext, record: TurnRecord, fetched: Fetched
    ) -> effects.Written | None:
        """A text that no model writes, since nothing was said, or people were asked for."""
        if handoff.asked_for_people(context.clinic, words_of(record)):
            plan = TurnPlan(Action.HANDOFF, "handoff", reason="keyword")
            return effects.of_fixed_text(context, record, plan)
        if words_of(record) or fetched.pictures:
            return None
        key = text_key(record.events) or "audio_empty"
        return effects.of_fixed_text(context, record, TurnPlan(Action.TEXT, key))

    async def _guarded_reply(
        self, context: TurnContext, hold: Hold, slot: SlotRequest, on_wait: Callable[[], Awaitable[None]]
    ) -> ModelReply:
        """One in which no amount of money stands that nothing covers: however the attempt ended that was to
        do without them, the customer reads that people will tell the price."""
        said = [message.content for message in hold.quote.prompt.messages if message.role == "user"]
        guard = PriceGuard.of(context.clinic, context.moment.local.date(), said)
        try:
            return await self._ask_model(hold, slot, on_wait, guard)
        except AskFailedError:
            if hold.uncovered is None:
                raise
            await hold.reserved()
            return effects.unsure_of_prices(context, hold.record, hold.uncovered.reply)

    async def _failed(self, context: TurnContext, hold: Hold, reason: str) -> Stored:
        """An apology, in books that close. Raises DefectAfterCallError if not even that can be done."""
        record, apology = hold.record, text(context.clinic, _text_key(reason))
        try:
            return await hold.settle(self._ready(context, replace(record, reply=apology, failure=reason)))
        except (UnavailableError, TurnMovedError, ContendedError):
            raise
        except Exception as exc:
            raise DefectAfterCallError(reason) from exc

    async def _by_fixed_text(self, context: TurnContext, draft: TurnRecord, plan: TurnPlan) -> Session:
        record, also = effects.of_fixed_text(context, draft, plan)
        ready, books = self._ready(context, record), context.loaded.books
        stored = await self._journal.answer(ready, context.turn.event_ids, None, books, also)
        return await self._deliver(context, stored)

    async def _busy(
        self, context: TurnContext, draft: TurnRecord, unclaimed: Sequence[str], reason: str
    ) -> Session:
        busy = replace(draft, reply=text(context.clinic, "busy"), failure=reason)
        return await self._without_a_call(context, self._ready(context, busy), unclaimed)

    async def _without_a_call(
        self, context: TurnContext, ready: TurnRecord, unclaimed: Sequence[str]
    ) -> Session:
        return await self._deliver(context, await self._stored_without_a_call(context, ready, unclaimed))

    async def _stored_without_a_call(
        self, context: TurnContext, ready: TurnRecord, unclaimed: Sequence[str]
    ) -> Stored:
        previous = context.loaded.turns.get(ready.id)
        return await self._journal.answer(ready, unclaimed, previous, context.loaded.books)

    async def _stopped(
        self, context: TurnContext, draft: TurnRecord, unclaimed: Sequence[str], stopped: StoppedError
    ) -> Session:
        """No call. The customer reads why once an hour, by reply token only: pushes cost money."""
        notified_ms = context.turn.session.last_budget_notice_ms
        due = notified_ms is None or self._clock.now_ms() - notified_ms >= BUDGET_NOTICE_EVERY_MS
        words = text(context.clinic, "budget") if due else ""
        record = self._ready(context, replace(draft, push_allowed=False, reply=words, failure="budget"))
        stored = await self._journal.stop(record, unclaimed, context.loaded.turns.get(draft.id), stopped)
        return await self._deliver(context, stored)

    async def _ignore(self, context: TurnContext, draft: TurnRecord, plan: TurnPlan) -> None:
        """Silence on purpose leaves a trace without words, so that whoever asks why can be told; what only
        takes something back leaves none."""
        log.info("turn.ignored", reason=plan.reason, events=len(draft.events))
        if all(rules_of(event.kind).everywhere for event in draft.events):
            return
        # Staff who are told that something is urgent must read what.
        kept, also = effects.of_urgency(context, draft if plan.tells_staff else draft.without_words(), plan)
        ignored = replace(kept, state=TurnState.IGNORED, delivered_ms=self._clock.now_ms())
        ignored = ignored.with_money(decision="none", reason=plan.reason)
        previous = context.loaded.turns.get(draft.id)
        await self._journal.answer(ignored, context.turn.event_ids, previous, context.loaded.books, also)
        await self._outbox.enqueue(*ignored.effects)

    async def _finish_earlier(self, context: TurnContext) -> Answered:
        """Events that a turn owns already are finished by finishing that turn."""
        session, loaded = context.turn.session, context.loaded
        owners = sorted(set(loaded.claims.values()))
        turns = [loaded.turns[owner] for owner in owners if owner in loaded.turns]
        for stored in sorted(turns, key=lambda stored: stored.record.created_ms):
            with log.bound(turn=stored.record.id):
                session = await self._resume(context.with_session(session), stored)
        return Answered(tuple(loaded.claims), session)

    async def _resume(self, context: TurnContext, stored: Stored) -> Session:
        record = stored.record
        if record.state.final:
            log.info("turn.duplicate", state=record.state.value)
            await self._outbox.enqueue(*record.effects)
            return self._session_after(context, record)
        log.warning("turn.taken_over", state=record.state.value)
        if record.state is TurnState.ANSWERED:
            called_before = await self._delivery.may_have_called(record)
            taken = await self._journal.take_over(stored, context.turn.fence)
            return await self._deliver(context, taken, called_before)
        # Reserved: its leader died with a call on the way. The next reservation charges that one in full.
        draft = replace(record, fence=context.turn.fence)
        if with_abandoned(draft).money.ambiguous_attempts >= MAX_LOST_CALLS:
            return await self._busy(context, draft, (), "lost_calls")
        return await self._by_model(context, draft, ())

    def _is_past_patience(self, context: TurnContext, draft: TurnRecord) -> bool:
        arrived_ms = min((event.arrived_ms for event in draft.events), default=context.now_ms)
        oldest_ms = max(arrived_ms, draft.replayed_ms or 0)
        return context.now_ms - oldest_ms > self._policy.patience_s * 1000

    def _ready(self, context: TurnContext, record: TurnRecord) -> TurnRecord:
        """The turn with its reply, marked as on its way to LINE: whoever finds it so knows that it may have
        arrived."""
        ready = replace(record, state=TurnState.ANSWERED, answered_ms=self._clock.now_ms())
        return self._delivery.marked(context.channel, ready)

    async def _deliver(
        self, context: TurnContext, stored: Stored, called_before: str | None = None
    ) -> Session:
        """The effects are enqueued beside it: whoever finds the turn after a crash does both again."""
        caused = stored.record.effects
        enqueued = asyncio.ensure_future(self._outbox.enqueue(*caused))
        try:
            delivered = await self._delivery(
                context.channel, stored, called_before=called_before, has_desk=context.desk.is_connected
            )
        finally:
            await enqueued
        await self._outbox.enqueue(*(e for e in delivered.record.effects if e not in caused))
        return self._session_after(context, delivered.record)

    def _session_after(self, context: TurnContext, record: TurnRecord) -> Session:
        oldest_ms = self._clock.now_ms() - round(self._policy.session_ttl_s * 1000)
        return session_after(context.turn.session, record, oldest_ms)


def _asking(context: TurnContext, draft: TurnRecord, prompt: Prompt) -> TurnRecord:
    """The turn with what its model is told, as far as the journal keeps it."""
    return replace(
        draft,
        facts_used=prompt.facts_used,
        clinic_version=context.clinic.version or None,
        prompt={"day": context.moment.local.date().isoformat(), **prompt.digests()},
    )


def _guarded(hold: Hold, reply: ModelReply) -> TurnRecord:
    """The reserved turn, with what the guard of prices did in it."""
    if hold.uncovered is None:
        return hold.record
    outcome = UNSURE if reply.is_unsure else RECOVERED
    log.warning("price.held_back", outcome=outcome, amounts=len(hold.uncovered.amounts))
    return replace(hold.record, guard={"amounts": list(hold.uncovered.amounts), "outcome": outcome})


def _kinds(context: TurnContext) -> list[str]:
    """Of all events that this round may answer."""
    turns = context.loaded.turns.values()
    left_behind = (event.kind for stored in turns for event in stored.record.events)
    return [*(event.kind for event in context.turn.waiting.events), *left_behind]


def _text_key(failure: str) -> str:
    """Of what a customer reads whose question got no answer: to send it again only if that can help."""
    if failure in FOR_STAFF:
        log.error("turn.left_to_staff", reason=failure)
        return "staff"
    return "budget" if failure == "budget" else "busy"
