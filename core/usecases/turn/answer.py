"""Answer what waits in a conversation: first what an earlier leader left behind, then what is new.

There is one path for a reply, whoever wrote it: it is stored in the journal, delivered from there, and marked
as delivered. A crash anywhere leaves a turn that the next leader finds and finishes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from core.domain import consent, handoff
from core.domain.budget import budget_day
from core.domain.errors import DefectAfterCallError, UnavailableError
from core.domain.event_kinds import rules_of
from core.domain.inbound_policy import URGENT, Action, TurnPlan, plan_turn, unsent_ids
from core.domain.memory import CustomerMemory
from core.domain.model_reply import FOR_STAFF, ModelReply
from core.domain.moment import Moment
from core.domain.opening import handed_over, silence_of
from core.domain.prices import UnpricedModelError
from core.domain.role_manager import build_prompt
from core.domain.session import Session
from core.domain.speakers import label
from core.domain.stages import next_stage
from core.domain.texts import greeting, text
from core.domain.turn import TurnRecord, TurnState
from core.ports import log
from core.ports.clock import Clock
from core.ports.slots import NoSlotError, Refusal
from core.usecases.clinics.directory import ClinicDirectory
from core.usecases.customers.memory_changes import MemoryChanges, memory_key
from core.usecases.journal.commits import Effect
from core.usecases.journal.entries import ContendedError, Look, StoppedError, Stored, TurnMovedError
from core.usecases.journal.holds import with_abandoned
from core.usecases.journal.journal import Journal
from core.usecases.turn.context import (
    Answered,
    Scene,
    Turn,
    draft_of,
    heard,
    in_prompt,
    is_newcomer,
    of_one_speaker,
    quotes_in_prompt,
    told,
    turn_id_of,
)
from core.usecases.turn.delivery import HandOver
from core.usecases.turn.give_up import GiveUp
from core.usecases.turn.model_turn import ModelFailedError, ModelTurn, Opened

BUDGET_NOTICE_EVERY_MS = 3_600_000
MAX_LOST_CALLS = 3
"""Calls that a turn has paid for without knowing what became of them. Beyond it is the turn itself, perhaps,
that ends its instances."""


@dataclass(frozen=True, slots=True)
class AnswerPolicy:
    """`patience_s`: age of an event past which its customer gets the busy message. `timezone`: where a
    budget's day begins. `session_ttl_s`: how long a conversation goes on after its last turn."""

    patience_s: float
    timezone: str
    session_ttl_s: float


class Answer:
    def __init__(
        self,
        directory: ClinicDirectory,
        journal: Journal,
        memories: MemoryChanges,
        model_turn: ModelTurn,
        hand_over: HandOver,
        give_up: GiveUp,
        clock: Clock,
        policy: AnswerPolicy,
    ) -> None:
        self._give_up = give_up
        self._directory = directory
        self._journal = journal
        self._memories = memories
        self._model_turn = model_turn
        self._hand_over = hand_over
        self._clock = clock
        self._policy = policy

    async def __call__(self, turn: Turn) -> Answered:
        """One round: either the turns that own some of these events are finished, or a new one is made.

        Raises NoSlotError (no attempt was made, or this process ends), ContendedError, TurnMovedError,
        UnavailableError, DefectAfterCallError.
        """
        turn = of_one_speaker(turn)
        event_ids = [*(event.event_id for event in turn.waiting.events), *turn.waiting.overflow_ids]
        now_ms = self._clock.now_ms()
        turn_id = turn_id_of(turn)
        key = memory_key(turn.conversation)
        day = budget_day(now_ms, self._policy.timezone)
        forgotten = await self._forget_unsent(turn)
        # An unsent message waits no more; if its turn has not ended, nobody else would end it.
        unended = [i for record in forgotten if not record.state.final for i in record.event_ids]
        looked_for = list(dict.fromkeys([*event_ids, *unended]))
        quoted = {e.quoted_message_id: None for e in turn.waiting.events if e.quoted_message_id}
        found, look, quotes = await asyncio.gather(
            self._directory.by_org(turn.conversation.org_id),
            self._journal.look(turn.conversation.org_id, day, turn_id, looked_for, [key]),
            self._journal.quoted(turn.conversation, quoted),
        )
        if look.foreign:
            log.error("turn.failed", reason="foreign_event_id", events=len(look.foreign))
            return Answered(look.foreign, turn.session)
        if found is None:
            for event in turn.waiting.events:
                await self._give_up(event, turn.trace, "no_clinic")
            return Answered(tuple(event_ids), turn.session)
        clinic, channel = found
        remembered = CustomerMemory.decode(look.also[0].data if look.also[0] else None, now_ms)
        turn = replace(turn, session=turn.session.with_sent(q.message_id for q in quotes if q.is_ours))
        plan = plan_turn(
            turn.waiting.events,
            clinic,
            turn.session,
            remembered,
            now_ms,
            silence_of(clinic, self._moment(now_ms)),
        )
        scene = Scene(turn, clinic, channel, look, remembered, now_ms, quotes)
        scene = await self._lifecycle(scene, plan, {record.id for record in forgotten})
        if look.claims:
            return await self._finish_earlier(scene)
        return await self._begin(scene, plan, turn_id, event_ids)

    async def _finish_earlier(self, scene: Scene) -> Answered:
        """Events that a turn owns already are finished by finishing that turn."""
        session = scene.turn.session
        owners = sorted(set(scene.look.claims.values()))
        turns = [scene.look.turns[owner] for owner in owners if owner in scene.look.turns]
        for stored in sorted(turns, key=lambda stored: stored.record.created_ms):
            with log.bound(turn=stored.record.id):
                session = await self._resume(scene.with_session(session), stored)
        return Answered(tuple(scene.look.claims), session)

    async def _resume(self, scene: Scene, stored: Stored) -> Session:
        record = stored.record
        if record.state.final:
            log.info("turn.duplicate", state=record.state.value)
            return self._told(scene, record)
        log.warning("turn.taken_over", state=record.state.value)
        if record.state is TurnState.ANSWERED:
            called_before = await self._hand_over.may_have_called(record)
            taken = await self._journal.take_over(stored, scene.turn.fence)
            return await self._deliver(scene, taken, called_before)
        # Reserved: its leader died with a call on the way. The next reservation charges that one in full.
        draft = replace(record, fence=scene.turn.fence)
        if with_abandoned(draft).money.ambiguous_attempts >= MAX_LOST_CALLS:
            return await self._busy(scene, draft, (), "lost_calls")
        return await self._model_or_busy(scene, draft, ())

    async def _begin(self, scene: Scene, plan: TurnPlan, turn_id: str, event_ids: Sequence[str]) -> Answered:
        events, session = scene.turn.waiting.events, scene.turn.session
        draft = draft_of(scene, turn_id, events, plan)
        if plan.action is Action.IGNORE:
            await self._ignore(draft, event_ids, plan, scene.look)
            return Answered(tuple(event_ids), heard(session, draft, plan.reason))
        with log.bound(turn=turn_id):
            if plan.action is Action.ANSWER:
                session = await self._model_or_busy(scene, draft, event_ids)
            else:
                session = await self._fixed(scene, draft, event_ids, plan)
        return Answered(tuple(event_ids), session)

    async def _ignore(self, draft: TurnRecord, event_ids: Sequence[str], plan: TurnPlan, look: Look) -> None:
        """Silence on purpose leaves a trace without words, so that whoever asks why can be told; what only
        takes something back leaves none."""
        log.info("turn.ignored", reason=plan.reason, events=len(draft.events))
        if all(rules_of(event.kind).everywhere for event in draft.events):
            return
        ignored = replace(draft.without_words(), state=TurnState.IGNORED, delivered_ms=self._clock.now_ms())
        ignored = ignored.with_money(decision="none", reason=plan.reason)
        await self._journal.answer(ignored, event_ids, look.turns.get(draft.id), look.books)

    async def _model_or_busy(self, scene: Scene, draft: TurnRecord, unclaimed: Sequence[str]) -> Session:
        words = [event.text for event in draft.events if event.text]
        if not words or scene.memory.unfollowed_ms is not None:
            return await self._silent(scene, draft, unclaimed)
        arrived_ms = min((event.arrived_ms for event in draft.events), default=scene.now_ms)
        oldest_ms = max(arrived_ms, draft.replayed_ms or 0)
        if scene.now_ms - oldest_ms > self._policy.patience_s * 1000:
            return await self._busy(scene, draft, unclaimed, "patience")
        session, known = in_prompt(scene, draft)
        prompt = build_prompt(
            scene.clinic,
            session,
            known,
            words,
            self._moment(scene.now_ms),
            overflow=draft.overflow,
            also_sent=[event.note for event in draft.events if event.note],
            quotes=quotes_in_prompt(scene, draft),
            speaker="" if draft.chat_type == "user" else label(session, draft.user_id),
        )
        draft = replace(draft, facts_used=prompt.facts_used)
        opened = Opened(draft, unclaimed, scene.look, scene.turn.place)
        try:
            async with self._hand_over.showing(scene.channel, draft) as on_wait:
                replied = await self._model_turn(
                    scene.clinic,
                    opened,
                    prompt,
                    on_wait=on_wait,
                    finish=lambda record, reply: self._replied(scene, record, reply, words),
                )
        except StoppedError as exc:
            return await self._stopped(scene, draft, unclaimed, exc)
        except (UnpricedModelError, NoSlotError) as exc:
            if isinstance(exc, NoSlotError) and exc.reason is not Refusal.TOO_LARGE:
                raise
            # What `clinics apply` refuses was written past it: the customer must not pay for it with silence.
            reason = "too_large" if isinstance(exc, NoSlotError) else "unpriced_model"
            log.error("model.unusable", reason=reason, detail=str(exc))
            return await self._busy(scene, draft, unclaimed, reason)
        except ModelFailedError as exc:
            return await self._deliver(scene, await self._failed(scene, exc))
        return await self._deliver(scene, replied.stored)

    async def _failed(self, scene: Scene, failed: ModelFailedError) -> Stored:
        """An apology, in books that close. Raises DefectAfterCallError if not even that can be done."""
        record, apology = failed.account.stored.record, text(scene.clinic, _text_key(failed.reason))
        try:
            ready = self._ready(scene, record, apology, failure=failed.reason)
            return await self._model_turn.settle(failed.account, ready)
        except (UnavailableError, TurnMovedError, ContendedError):
            raise
        except Exception as exc:
            raise DefectAfterCallError(failed.reason) from exc

    def _replied(
        self, scene: Scene, record: TurnRecord, reply: ModelReply, words: Sequence[str]
    ) -> tuple[TurnRecord, Sequence[Effect]]:
        """The model's reply in the journal, and what it taught about the customer, in one commit."""
        now_ms = self._clock.now_ms()
        updates: dict[str, Any] = dict(reply.updates)
        stage, corrected = next_stage(scene.turn.session.stage, reply.stage)
        if corrected:
            log.info("stage.corrected", proposed=reply.stage, stage=stage.value)
        updates["stage"] = stage.value
        learnt = self._learnt(scene, record, reply, "\n".join(words), now_ms)
        known = learnt.memory
        if reply.facts and record.chat_type != "user":
            updates["taught"] = True
        if learnt.awaiting:
            updates["awaiting_consent"] = [asdict(fact) for fact in learnt.awaiting]
        answer, quick_replies = reply.reply, reply.quick_replies
        postbacks: dict[str, str] = {}
        if is_newcomer(record):
            answer = f"{greeting(scene.clinic)}\n\n{answer}"
        if reply.handoff:
            known = known.handed_off(handoff.until_ms(scene.clinic, now_ms), reply.handoff)
            answer, quick_replies = f"{answer}\n\n{handed_over(scene.clinic, self._moment(now_ms))}", ()
            log.warning("handoff.started", by="model")
        elif learnt.ask:
            answer, updates["consent_asked"] = f"{answer}\n\n{text(scene.clinic, 'consent')}", True
            quick_replies = text(scene.clinic, "consent_yes"), text(scene.clinic, "consent_no")
            postbacks = dict(zip(quick_replies, (consent.GIVE, consent.DECLINE), strict=True))
        record = replace(
            self._ready(scene, record, answer),
            quick_replies=quick_replies,
            postbacks=postbacks,
            updates=updates,
        )
        if known == scene.memory:
            return record, ()
        return record, [scene.remembering(known)]

    def _learnt(
        self, scene: Scene, record: TurnRecord, reply: ModelReply, words: str, now_ms: int
    ) -> consent.Learnt:
        if record.chat_type != "user":  # nothing that is remembered here would be one member's alone
            return consent.Learnt(replace(scene.memory, facts=()))
        if not scene.clinic.memory:
            return consent.Learnt(scene.memory)
        return consent.learn(
            scene.memory,
            scene.turn.session,
            reply.facts,
            turn_id=record.id,
            at_ms=now_ms,
            words=words,
        )

    async def _fixed(
        self, scene: Scene, draft: TurnRecord, unclaimed: Sequence[str], plan: TurnPlan
    ) -> Session:
        """A text that no model wrote."""
        effects: list[Effect] = []
        key = plan.text_key or "unsupported"
        words = greeting(scene.clinic) if key == "greeting" else text(scene.clinic, key)
        if plan.action is Action.HANDOFF:
            until_ms = handoff.until_ms(scene.clinic, scene.now_ms)
            known = scene.memory.handed_off(until_ms, plan.reason)
            effects.append(scene.remembering(known))
            words = handed_over(scene.clinic, self._moment(scene.now_ms))
            log.warning("handoff.started", by="customer")
        if key == URGENT:
            draft = replace(draft, push_allowed=False)
            effects.append(scene.remembering(replace(scene.memory, urgent_ms=scene.now_ms)))
            log.warning("handoff.urgent")
        record = self._ready(scene, draft, words).with_money(decision="none", reason=key)
        stored = await self._journal.answer(record, unclaimed, None, scene.look.books, effects)
        return await self._deliver(scene, stored)

    async def _busy(self, scene: Scene, draft: TurnRecord, unclaimed: Sequence[str], reason: str) -> Session:
        record = self._ready(scene, draft, text(scene.clinic, "busy"), failure=reason)
        return await self._without_a_call(scene, record, unclaimed)

    async def _silent(self, scene: Scene, draft: TurnRecord, unclaimed: Sequence[str]) -> Session:
        """A dead leader's turn that nobody waits for any more: all of it was unsent, or the customer left."""
        return await self._without_a_call(scene, self._ready(scene, draft, ""), unclaimed)

    async def _without_a_call(self, scene: Scene, ready: TurnRecord, unclaimed: Sequence[str]) -> Session:
        previous = scene.look.turns.get(ready.id)
        stored = await self._journal.answer(ready, unclaimed, previous, scene.look.books)
        return await self._deliver(scene, stored)

    async def _stopped(
        self, scene: Scene, draft: TurnRecord, unclaimed: Sequence[str], stopped: StoppedError
    ) -> Session:
        """No call. The customer reads why once an hour, by reply token only: pushes cost money."""
        now_ms, notified_ms = self._clock.now_ms(), scene.turn.session.last_budget_notice_ms
        due = notified_ms is None or now_ms - notified_ms >= BUDGET_NOTICE_EVERY_MS
        words = text(scene.clinic, "budget") if due else ""
        record = self._ready(scene, replace(draft, push_allowed=False), words, failure="budget")
        stored = await self._journal.stop(record, unclaimed, scene.look.turns.get(draft.id), stopped)
        return await self._deliver(scene, stored)

    def _ready(self, scene: Scene, record: TurnRecord, words: str, failure: str | None = None) -> TurnRecord:
        """The turn with its reply, marked as on its way to LINE: whoever finds it so knows that it may have
        arrived."""
        now_ms = self._clock.now_ms()
        ready = replace(record, state=TurnState.ANSWERED, reply=words, failure=failure, answered_ms=now_ms)
        return self._hand_over.marked(scene.channel, ready)

    async def _deliver(self, scene: Scene, stored: Stored, called_before: str | None = None) -> Session:
        delivered = await self._hand_over(scene.channel, stored, called_before=called_before)
        return self._told(scene, delivered.record)

    def _moment(self, now_ms: int) -> Moment:
        return Moment(now_ms, self._policy.timezone)

    def _told(self, scene: Scene, record: TurnRecord) -> Session:
        oldest_ms = self._clock.now_ms() - round(self._policy.session_ttl_s * 1000)
        return told(scene.turn.session, record, oldest_ms)

    async def _forget_unsent(self, turn: Turn) -> list[TurnRecord]:
        """The turns that messages which were unsent since stand in, without these words."""
        unsent = unsent_ids(turn.waiting.events)
        forgotten = [await self._journal.forget_message(turn.conversation, i) for i in unsent]
        return [record for records in forgotten for record in records]

    async def _lifecycle(self, scene: Scene, plan: TurnPlan, forgotten: Collection[str]) -> Scene:
        """What `forgotten` turns have taught goes, and whoever left is known to have left."""
        session = scene.turn.session.without_turns(forgotten)
        seen = scene.memory

        def changed(known: CustomerMemory) -> CustomerMemory:
            if known.forgotten != seen.forgotten:
                return known
            known = replace(known.without_turns(forgotten), unfollowed_ms=plan.unfollowed_ms)
            if plan.consent is None:
                return known
            return consent.decided(known, session, given=plan.consent, at_ms=scene.now_ms)[0]

        known = changed(seen)
        if known != seen:
            _, known = await self._memories.change(scene.turn.conversation, scene.clinic.retention, changed)
        if plan.consent is not None:
            session = replace(session, awaiting_consent=())
        if known.unfollowed_ms is not None:
            session = Session()
        return replace(scene.with_session(session), memory=known)


def _text_key(failure: str) -> str:
    """Of what a customer reads whose question got no answer: to send it again only if that can help."""
    if failure in FOR_STAFF:
        log.error("turn.left_to_staff", reason=failure)
        return "staff"
    return "budget" if failure == "budget" else "busy"
