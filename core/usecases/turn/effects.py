"""What a turn says, and what it writes besides: from a model's reply, or a fixed text, to the record and the
effects that the journal commits with it. Whatever else a turn is to cause becomes an effect here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from core.domain import consent, handoff
from core.domain.consent import is_health
from core.domain.inbound_policy import URGENT, Action, TurnPlan
from core.domain.memory import MAX_CHARS, CustomerMemory
from core.domain.messages import one_line
from core.domain.model_reply import ModelReply
from core.domain.notice import NoticeKind
from core.domain.opening import handed_over
from core.domain.questions import (
    COLLECTION,
    MAX_QUESTION_CHARS,
    Missing,
    asking,
    document_id,
    question_id,
)
from core.domain.stages import next_stage
from core.domain.texts import greeting, text
from core.domain.turn import TurnRecord
from core.ports import log
from core.ports.documents import Create, Document, Increment, Key, Merge, Write
from core.usecases.customers.memory_changes import memory_key
from core.usecases.journal.commits import Effect
from core.usecases.journal.notices import notice_of, noticing
from core.usecases.turn.booking_effects import of_wish
from core.usecases.turn.context import TurnContext, is_newcomer, words_of

Written = tuple[TurnRecord, Sequence[Effect]]


def of_reply(context: TurnContext, record: TurnRecord, reply: ModelReply, now_ms: int) -> Written:
    """The model's reply, and what it taught about the customer."""
    clinic = context.clinic
    updates: dict[str, Any] = dict(reply.updates)
    stage, corrected = next_stage(context.turn.session.stage, reply.stage)
    if corrected:
        log.info("stage.corrected", proposed=reply.stage, stage=stage.value)
    updates["stage"] = stage.value
    learnt = _learnt(context, record, reply, now_ms)
    known = learnt.memory
    if reply.facts and record.chat_type != "user":
        updates["taught"] = True
    if learnt.awaiting:
        updates["awaiting_consent"] = [asdict(fact) for fact in learnt.awaiting]
    answer, quick_replies = reply.reply, reply.quick_replies
    postbacks: dict[str, str] = {}
    if is_newcomer(record):
        answer = f"{greeting(clinic)}\n\n{answer}"
    if reply.handoff:
        moment = replace(context.moment, now_ms=now_ms)
        known = known.handed_off(handoff.until_ms(clinic, now_ms), reply.handoff)
        answer, quick_replies = f"{answer}\n\n{handed_over(clinic, moment)}", ()
        log.warning("handoff.started", by="model")
    elif learnt.ask:
        answer, updates["consent_asked"] = f"{answer}\n\n{text(clinic, 'consent')}", True
        quick_replies = text(clinic, "consent_yes"), text(clinic, "consent_no")
        postbacks = dict(zip(quick_replies, (consent.GIVE, consent.DECLINE), strict=True))
    record = replace(record, reply=answer, quick_replies=quick_replies, postbacks=postbacks, updates=updates)
    record = record.with_outcome(stage=stage.value, moved=stage is not context.turn.session.stage)
    effects = [] if known == context.memory else [_remembering(context, known)]
    if reply.missing:
        record = replace(record, question_id=question_id(reply.missing.question))
        effects.append(counted(record, reply.missing, now_ms))
    if reply.handoff:
        record, effects = _telling_staff(context, record, known, effects, reply.handoff)
    record, booked = of_wish(context, record, reply.booking, now_ms)
    return record, [*effects, *booked]


def unsure_of_prices(context: TurnContext, record: TurnRecord, held_back: ModelReply) -> ModelReply:
    """Instead of a reply with amounts that nothing covers; what was asked is a question to the clinic."""
    asked = one_line(" ".join(words_of(record)))[:MAX_QUESTION_CHARS]
    return replace(
        held_back,
        reply=text(context.clinic, "price_unsure"),
        quick_replies=(),
        missing=held_back.missing or Missing("ราคา", asked),
        is_unsure=True,
    )


def of_fixed_text(context: TurnContext, draft: TurnRecord, plan: TurnPlan) -> Written:
    """A text that no model wrote."""
    effects: list[Effect] = []
    key = plan.text_key or "unsupported"
    words = greeting(context.clinic) if key == "greeting" else text(context.clinic, key)
    if plan.action is Action.HANDOFF:
        words = handed_over(context.clinic, context.moment)
        until_ms = handoff.until_ms(context.clinic, context.now_ms)
        known = context.memory.handed_off(until_ms, plan.reason)
        draft, effects = _telling_staff(context, draft, known, [_remembering(context, known)])
        log.warning("handoff.started", by="customer")
    if key == URGENT:
        draft = replace(draft, push_allowed=False)
        known = replace(context.memory, urgent_ms=context.now_ms)
        draft, urgent = of_urgency(context, draft, plan, known)
        effects = [*urgent]
        log.warning("handoff.urgent")
    return replace(draft, reply=words).with_money(decision="none", reason=key), effects


def of_urgency(
    context: TurnContext, draft: TurnRecord, plan: TurnPlan, known: CustomerMemory | None = None
) -> Written:
    """What the bot does not answer and staff are told; `known`: what is remembered besides that they were."""
    known = known or context.memory
    if not plan.tells_staff:
        return draft, [] if known == context.memory else [_remembering(context, known)]
    known = replace(known, urgent_told_ms=context.now_ms)
    draft, effect = noticing(draft, notice_of(draft, NoticeKind.URGENT, context.now_ms))
    return draft, [_remembering(context, known), effect]


def _telling_staff(
    context: TurnContext, record: TurnRecord, known: CustomerMemory, effects: Sequence[Effect], why: str = ""
) -> tuple[TurnRecord, list[Effect]]:
    """People are to go on: they are told, until the hand-off ends by itself."""
    told = notice_of(record, NoticeKind.HANDOFF, context.now_ms)
    told = replace(told, detail=why[:MAX_CHARS], until_ms=known.handoff_until_ms)
    record, effect = noticing(record.with_outcome(handed_off=True), told)
    return record, [*effects, effect]


def _learnt(context: TurnContext, record: TurnRecord, reply: ModelReply, now_ms: int) -> consent.Learnt:
    if record.chat_type != "user":  # nothing that is remembered here would be one member's alone
        return consent.Learnt(replace(context.memory, facts=()))
    if not context.clinic.memory:
        return consent.Learnt(context.memory)
    return consent.learn(
        context.memory,
        context.turn.session,
        reply.facts,
        turn_id=record.id,
        at_ms=now_ms,
        words="\n".join(words_of(record)),
    )


def _remembering(context: TurnContext, known: CustomerMemory) -> Effect:
    """What the turn changes of the customer's memory, kept for as long as the clinic says. Not if the
    customer was forgotten since it was read; and without health facts if consent was withdrawn since."""
    key, seen = memory_key(context.turn.conversation), context.memory

    def writes(document: Document | None) -> Sequence[Write]:
        current = CustomerMemory.decode(document.data if document else None, context.now_ms)
        if current.forgotten != seen.forgotten:
            return ()
        allowed = known
        if current.consent != seen.consent and not current.consent:
            allowed = replace(known, facts=tuple(f for f in known.facts if not is_health(f.key)))
        data = allowed.changes(seen, context.now_ms, context.clinic.retention)
        return [Merge(key, data, if_version=document.version) if document else Create(key, data)]

    return Effect(key, context.loaded.also[0], writes)


def counted(record: TurnRecord, missing: Missing, at_ms: int) -> Effect:
    """One asking more, in the commit of the turn: once a turn, whatever dies."""
    key = Key(COLLECTION, document_id(record.org_id, question_id(missing.question)))
    data = {**asking(record, missing, at_ms), "count": Increment(1)}
    return Effect(key, None, lambda _: [Merge(key, data)])
