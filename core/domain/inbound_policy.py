"""What is done about each event, and the plan of a turn that takes several of them.

What a kind of event means in itself stands in core.domain.event_kinds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from core.domain import consent, handoff
from core.domain.clinic import Clinic
from core.domain.desk import is_tap
from core.domain.event import EventKind, InboundEvent
from core.domain.event_kinds import Action, asks_model, is_wordless, rules_of
from core.domain.memory import CustomerMemory
from core.domain.opening import SILENT_MODES
from core.domain.session import Session
from core.domain.texts import text

__all__ = ["Action", "Plan", "TurnPlan", "as_they_stand", "plan", "plan_turn", "unsent_ids"]


URGENT = "urgent"
HANDED_OVER, TOLD_ALREADY = "handoff", "told_already"
"""Why the bot says nothing about what belongs to the conversation all the same: people have the chat, or the
fixed text that would answer it was said a moment ago."""

BY_PEOPLE = SILENT_MODES | {HANDED_OVER}
"""The reasons for which it is the clinic's people who answer."""

_BURST_MS, _IMAGE_SET_MS = 10_000, 60_000


@dataclass(frozen=True, slots=True)
class Plan:
    """`text_key` with TEXT and HANDOFF. `reason` is short, for the journal and `turns show`."""

    action: Action
    text_key: str | None = None
    reason: str = ""


def plan(
    event: InboundEvent,
    clinic: Clinic,
    session: Session,
    memory: CustomerMemory,
    now_ms: int,
    silence: str = "",
    takes: Collection[str] = (),
) -> Plan:
    """For one event. `takes`: the kinds without words that a model looks at or listens to. In groups and
    rooms only what addresses us is answered: a mention, or an answer to one of our messages. While people
    have taken over, and for the reason `silence` (core.domain.opening), the bot says nothing but the
    emergency number, where it is urgent. Keywords are words that the customer has written: a postback's data
    is the clinic's."""
    rules = rules_of(event.kind)
    if rules.action is not None:
        return Plan(rules.action)
    is_taken = event.kind in takes
    if reason := _silence(event, clinic, session, memory, now_ms, silence, is_taken=is_taken):
        is_urgent = reason in BY_PEOPLE and handoff.must_name_emergency(event, memory, now_ms)
        return Plan(Action.TEXT, URGENT, URGENT) if is_urgent else Plan(Action.IGNORE, reason=reason)
    if (given := consent.tapped(event)) is not None:
        return Plan(Action.TEXT, "consent_given" if given else "consent_declined")
    if not (is_taken or asks_model(event)):
        return Plan(Action.TEXT, rules.text_key)
    if event.kind != EventKind.POSTBACK and handoff.asked_for_people(clinic, [event.text]):
        return Plan(Action.HANDOFF, "handoff", reason="keyword")
    return Plan(Action.ANSWER)


def _told_already(event: InboundEvent, clinic: Clinic, session: Session) -> bool:
    """One fixed text for a burst of pictures or stickers, also if it goes on after the text."""
    last, key = session.last_told, rules_of(event.kind).text_key
    if last is None or key is None or not is_wordless(event.kind) or asks_model(event):
        return False
    burst_ms = _IMAGE_SET_MS if event.image_set_id else _BURST_MS
    return event.timestamp_ms - last.at_ms < burst_ms and last.reply == text(clinic, key)


def _silence(
    event: InboundEvent,
    clinic: Clinic,
    session: Session,
    memory: CustomerMemory,
    now_ms: int,
    silence: str,
    *,
    is_taken: bool,
) -> str:
    """Why the bot says nothing, "" if it does."""
    if event.chat_type != "user" and not _addresses_us(event, session):
        return "group_talk"
    if is_tap(event):
        return "desk_button"
    if by_people := HANDED_OVER if memory.in_handoff(now_ms) else silence:
        return by_people
    if not is_taken and _told_already(event, clinic, session):
        return TOLD_ALREADY
    if event.kind == EventKind.POSTBACK and clinic.is_silent(event.text):
        return "silent_postback"
    return ""


@dataclass(frozen=True, slots=True)
class TurnPlan:
    """What a turn does about all events that it takes.

    `action`: HANDOFF, ANSWER, TEXT or IGNORE (nothing is sent). `words`: the customer's, for the prompt, in
    order. `taken`: ids of the events that belong to the conversation; the others are a group's own talk, or
    unsent. `unfollowed_ms`: when the customer left, None if they are here, or here again. `consent`: what
    they have decided about health facts, if they have now. `tells_staff`: something is urgent that the bot
    does not answer.
    """

    action: Action
    text_key: str | None = None
    words: tuple[str, ...] = ()
    taken: frozenset[str] = frozenset()
    unfollowed_ms: int | None = None
    consent: bool | None = None
    reason: str = ""
    tells_staff: bool = False


_BELONGS = BY_PEOPLE | {TOLD_ALREADY}
_FOR_PEOPLE = BY_PEOPLE | {URGENT}
_PRECEDENCE = (Action.HANDOFF, Action.ANSWER, Action.TEXT)


def plan_turn(
    events: Sequence[InboundEvent],
    clinic: Clinic,
    session: Session,
    memory: CustomerMemory,
    now_ms: int,
    silence: str = "",
    takes: Collection[str] = (),
) -> TurnPlan:
    """One reply for several events: people if they were asked for, else the model if anything was said, else
    the fixed text of the newest event that has one."""
    ordered = as_they_stand(sorted(events, key=_by_time))
    unsent = unsent_ids(ordered)
    left = [e for e in ordered if e.kind == EventKind.UNSEND or e.message_id not in unsent]
    if ordered and all(map(memory.is_forgotten, ordered)):
        return TurnPlan(Action.IGNORE, unfollowed_ms=memory.unfollowed_ms, reason="forgotten")
    left = [event for event in left if not memory.is_forgotten(event)]
    unfollowed_ms = _unfollowed_ms(left, memory.unfollowed_ms)
    if unfollowed_ms is not None:
        # Nothing reaches this customer: a call would be paid for nobody.
        return TurnPlan(Action.IGNORE, unfollowed_ms=unfollowed_ms, reason="unfollowed")
    plans = [(event, plan(event, clinic, session, memory, now_ms, silence, takes)) for event in left]
    talk = {Action.ANSWER, Action.HANDOFF}
    turn = TurnPlan(
        Action.IGNORE,
        words=tuple(event.text for event, p in plans if p.action in talk or p.reason in _FOR_PEOPLE),
        taken=frozenset(e.event_id for e, p in plans if p.action in _PRECEDENCE or p.reason in _BELONGS),
        consent=next((c for e in reversed(left) if (c := consent.tapped(e)) is not None), None),
        reason=next((p.reason for _, p in reversed(plans) if p.reason), ""),
        tells_staff=any(
            p.reason in _FOR_PEOPLE and handoff.must_tell_staff(event, memory, now_ms) for event, p in plans
        ),
    )
    for action in _PRECEDENCE:
        newest = next((p for _, p in reversed(plans) if p.action is action), None)
        if newest:
            return replace(turn, action=action, text_key=newest.text_key, reason=newest.reason)
    return turn


def as_they_stand(events: Sequence[InboundEvent]) -> list[InboundEvent]:
    """The same events, but a message that was edited says what it says last, by LINE's timestamp, and the
    edits say nothing. What an edit corrects and is not among them was answered as it stood."""
    edits = {e.message_id: e for e in sorted(events, key=_by_time) if e.kind == EventKind.EDIT}
    if not edits:
        return list(events)
    return [_as_it_stands(event, edits.get(event.message_id)) for event in events]


def _as_it_stands(event: InboundEvent, edit: InboundEvent | None) -> InboundEvent:
    if event.kind == EventKind.EDIT:
        return replace(event, text="")
    if edit is None or event.kind != EventKind.TEXT:
        return event
    return replace(event, text=edit.text, mentioned=edit.mentioned)


def _by_time(event: InboundEvent) -> tuple[int, str]:
    return event.timestamp_ms, event.event_id


def unsent_ids(events: Iterable[InboundEvent]) -> tuple[str, ...]:
    """The messages that these events take back."""
    return tuple(event.message_id for event in events if event.kind == EventKind.UNSEND and event.message_id)


def _unfollowed_ms(ordered: Iterable[InboundEvent], before_ms: int | None) -> int | None:
    """Whoever writes or follows later than they left is back. The queue may bring what came first last."""
    left_ms = before_ms
    for event in ordered:
        if event.kind == EventKind.UNFOLLOW:
            left_ms = max(event.timestamp_ms, left_ms or 0)
        elif not rules_of(event.kind).everywhere and left_ms is not None and event.timestamp_ms > left_ms:
            left_ms = None
    return left_ms


def _addresses_us(event: InboundEvent, session: Session) -> bool:
    quoted = event.quoted_message_id in session.sent_message_ids
    return rules_of(event.kind).from_us or event.mentioned or quoted
