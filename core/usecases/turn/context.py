"""A turn's context: what its leader was given, what was read for it, and the record that it begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from core.domain import consent
from core.domain.budget import Kind
from core.domain.clinic import Clinic
from core.domain.desk import DESK, Desk
from core.domain.event import Conversation, EventKind, InboundEvent
from core.domain.inbound_policy import BY_PEOPLE, TurnPlan, as_they_stand
from core.domain.media import in_order_sent, note_in_prompt
from core.domain.memory import CustomerMemory
from core.domain.moment import Moment
from core.domain.outcome import Outcome
from core.domain.prompt import Picture, Prompt
from core.domain.quotes import Quote
from core.domain.role_manager import build_prompt
from core.domain.session import Exchange, Session
from core.domain.speakers import as_heard_by, label, tells_of_health
from core.domain.turn import TurnRecord, TurnState, journaled
from core.ports.documents import Document
from core.ports.line import ChannelCredentials
from core.ports.mailbox import Waiting
from core.usecases.bookings.records import booking_from
from core.usecases.journal.entries import Loaded
from core.usecases.turn.line_delivery import PUSH, REPLY

NO_PICTURES: Final[Mapping[str, Picture]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Turn:
    """What a leader has been given. `leader_id`: the event whose task runs. `place`: see core.ports.slots."""

    conversation: Conversation
    fence: int
    waiting: Waiting
    session: Session
    leader_id: str
    trace: str = ""
    place: int | None = None

    @property
    def id(self) -> str:
        """The leader's event names the turn; if another one finished it already, the oldest that waits."""
        ids = [event.event_id for event in self.waiting.events]
        return self.leader_id if self.leader_id in ids else ids[0]

    @property
    def event_ids(self) -> tuple[str, ...]:
        return (*(event.event_id for event in self.waiting.events), *self.waiting.overflow_ids)


@dataclass(frozen=True, slots=True)
class Answered:
    """`done_ids`: events that need no more. The rest of what waits is for the next round."""

    done_ids: tuple[str, ...]
    session: Session


@dataclass(frozen=True, slots=True)
class TurnContext:
    """One turn with everything that was read for it. `forgotten`: turns that a message which was unsent since
    stands in. `desk`: the clinic's, as it is now. `bookings`: documents of what was asked for in the chat.
    `takes`: the kinds of events without words that a model looks at or listens to."""

    turn: Turn
    clinic: Clinic
    channel: ChannelCredentials
    loaded: Loaded
    memory: CustomerMemory
    moment: Moment
    quotes: Sequence[Quote] = ()
    forgotten: frozenset[str] = frozenset()
    desk: Desk = field(default_factory=lambda: Desk(""))
    bookings: Sequence[Document] = ()
    takes: frozenset[str] = frozenset()

    @property
    def now_ms(self) -> int:
        return self.moment.now_ms

    def with_session(self, session: Session) -> TurnContext:
        return replace(self, turn=replace(self.turn, session=session))


def of_one_speaker(turn: Turn) -> Turn:
    """In a group, each member's messages are a turn of their own, with a reply that quotes them: first those
    of whoever has waited longest."""
    events = turn.waiting.events
    if not events or events[0].chat_type == "user":
        return turn
    own = tuple(event for event in events if event.user_id == events[0].user_id)
    return replace(turn, waiting=replace(turn.waiting, events=own))


def is_newcomer(record: TurnRecord) -> bool:
    """Follows and asks at once: the greeting, with the privacy notice, comes before the answer."""
    return any(event.kind == EventKind.FOLLOW for event in record.events)


def draft_of(context: TurnContext, plan: TurnPlan) -> TurnRecord:
    # A group's talk that is not for us came along; its words are nobody's business here.
    turn = context.turn
    stand = as_they_stand(turn.waiting.events)
    kept = [event if event.text in plan.words else replace(event, text="") for event in stand]
    record = record_of(turn.id, turn.conversation, kept, context.now_ms)
    sent = map(journaled, in_order_sent(kept))
    return replace(
        record,
        events=tuple(e if e.id in plan.taken else replace(e, note=None) for e in sent),
        overflow=len(turn.waiting.overflow_ids),
        fence=turn.fence,
        trace=turn.trace,
        clinic_version=context.clinic.version or None,
        outcome=Outcome(opens=not turn.session.exchanges, hour=context.moment.local.hour),
    )


def record_of(
    turn_id: str, conversation: Conversation, events: Sequence[InboundEvent], now_ms: int
) -> TurnRecord:
    """The newest event says who asks and lends its reply token."""
    token = next((event for event in reversed(events) if event.reply_token), None)
    return TurnRecord(
        id=turn_id,
        org_id=conversation.org_id,
        channel=conversation.channel,
        chat_id=conversation.chat_id,
        chat_type=events[-1].chat_type,
        user_id=events[-1].user_id,
        state=TurnState.DRAFT,
        events=tuple(journaled(event) for event in events),
        created_ms=now_ms,
        reply_token=token.reply_token if token else None,
        token_arrived_ms=token.arrived_ms if token else 0,
        read_token=next((event.read_token for event in reversed(events) if event.read_token), None),
        quote_token=_quote_token(events) if events[-1].chat_type != "user" else None,
    )


def _quote_token(events: Sequence[InboundEvent]) -> str | None:
    """Of the newest message with words, else of the newest."""
    quotable = [event for event in events if event.quote_token]
    worded = [event for event in quotable if event.text] or quotable
    return worded[-1].quote_token if worded else None


def prompt_of(
    context: TurnContext, draft: TurnRecord, pictures: Mapping[str, Picture] = NO_PICTURES
) -> Prompt:
    """What the model is told, and by event id what it is shown. In a group a reply is read by all, so nothing
    that is remembered of anybody is used in it."""
    session, known = context.turn.session, context.memory
    if draft.chat_type == "user":
        known = consent.in_prompt(known, session)
    else:
        session, known = as_heard_by(session, draft.user_id), replace(known, facts=())
    session = replace(session, greeted=session.greeted or is_newcomer(draft))
    standing = [booking_from(d) for d in context.bookings] if draft.chat_type == "user" else []
    return build_prompt(
        context.clinic,
        session,
        known,
        words_of(draft),
        context.moment,
        appointments=[b.in_prompt() for b in standing if b.is_ahead(context.now_ms)],
        overflow=draft.overflow,
        also_sent=[note for event in draft.events if (note := note_in_prompt(event))],
        pictures=_placed(draft, pictures),
        quotes=_quotes_in_prompt(context, draft),
        speaker="" if draft.chat_type == "user" else label(session, draft.user_id),
    )


def _placed(record: TurnRecord, pictures: Mapping[str, Picture]) -> list[tuple[int, Picture]]:
    """Each with how many of the turn's words come before it."""
    before, placed = 0, []
    for event in record.events:
        before += bool(event.text)
        if event.id in pictures:
            placed.append((before, pictures[event.id]))
    return placed


def words_of(record: TurnRecord) -> list[str]:
    """The customer's, message by message."""
    return [event.text for event in record.events if event.text]


def _quotes_in_prompt(context: TurnContext, record: TurnRecord) -> list[dict[str, str]]:
    def author(quote: Quote) -> str:
        if quote.is_ours:
            return "us"
        return (record.chat_type != "user" and label(context.turn.session, quote.user_id)) or "the customer"

    return [{"from": author(quote), "text": quote.text} for quote in context.quotes if quote.text]


def session_after(session: Session, record: TurnRecord, oldest_ms: int) -> Session:
    """The conversation after a turn that has ended. Adding the same turn twice changes nothing. What ended
    before `oldest_ms` belongs to a conversation that is over; what staff are told in their desk, to none."""
    ended_ms = record.delivered_ms or record.created_ms
    if not record.state.final or ended_ms < oldest_ms or record.money.reason == DESK:
        return session
    if record.money.decision == Kind.STOP and record.delivered_how == REPLY:
        return replace(session, last_budget_notice_ms=max(ended_ms, session.last_budget_notice_ms or 0))
    if record.state is not TurnState.DELIVERED and record.delivered_how not in {REPLY, PUSH}:
        return session
    session = session.with_sent(record.line_message_ids)
    if not record.reply:  # its words may have been erased since
        return session
    at_ms, said = record.answered_ms or record.created_ms, said_in(record)
    speaker, is_personal = _speaker(record, f"{said}\n{record.reply}")
    if record.money.model and record.state is TurnState.DELIVERED:
        return session.with_turn(
            record.id,
            at_ms=at_ms,
            customer_text=said,
            reply=record.reply,
            updates=record.updates,
            speaker=speaker,
            is_personal=is_personal,
        )
    session = session.with_exchange(Exchange(record.id, at_ms, said, record.reply, speaker, is_personal))
    return replace(session, greeted=session.greeted or is_newcomer(record))


def said_in(record: TurnRecord) -> str:
    """The customer's words, each message on its own line; what had none is a note in square brackets."""
    lines = [line for event in record.events for line in (event.text, event.note and f"[{event.note}]")]
    return "\n".join(filter(None, lines))


def heard(session: Session, draft: TurnRecord, reason: str) -> Session:
    """The conversation after what was not answered: what is said to people, a further picture of a burst."""
    said = said_in(draft)
    if not said:
        return session
    if reason in BY_PEOPLE:
        said = f"[to the clinic's people]\n{said}"
    return session.with_exchange(Exchange(draft.id, draft.created_ms, said, "", *_speaker(draft, said)))


def _speaker(record: TurnRecord, said: str) -> tuple[str, bool]:
    """In a group, who spoke, and whether it is nobody else's business."""
    if record.chat_type == "user":
        return "", False
    return record.user_id or "", bool(record.updates.get("taught")) or tells_of_health(said)
