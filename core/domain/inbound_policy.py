"""What is done about each kind of event: the table, and the plan of a turn that takes several of them.

Kinds are LINE's: the message types, and the webhook event types of everything else (LINE Messaging API
reference, "Webhook event objects").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from core.domain import handoff
from core.domain.clinic import Clinic
from core.domain.event import InboundEvent
from core.domain.memory import CustomerMemory
from core.domain.session import Session


class Action(StrEnum):
    ANSWER = "answer"  # by the model
    TEXT = "text"  # a fixed text, see core.domain.texts
    HANDOFF = "handoff"  # the customer asked for people: the text `handoff`, then silence
    FORGET_MESSAGE = "forget_message"  # unsend: out of mailbox, state and journal
    PURGE = "purge"  # the customer has left: the data goes after the retention
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Plan:
    """`text_key` with TEXT and HANDOFF. `reason` is short, for the journal and `turns show`."""

    action: Action
    text_key: str | None = None
    reason: str = ""


TABLE: Final[dict[str, Plan]] = {
    # Messages.
    "text": Plan(Action.ANSWER),
    "location": Plan(Action.ANSWER),
    "sticker": Plan(Action.TEXT, "sticker"),
    "image": Plan(Action.TEXT, "image"),
    "audio": Plan(Action.TEXT, "audio"),
    "video": Plan(Action.TEXT, "video"),
    "file": Plan(Action.TEXT, "file"),
    # Other events.
    "postback": Plan(Action.ANSWER),
    "follow": Plan(Action.TEXT, "greeting"),
    "unsend": Plan(Action.FORGET_MESSAGE),
    "unfollow": Plan(Action.PURGE),
}
"""Every other kind is ignored; the webhook makes no task of it (core.domain.line_events)."""


def takes_back(kind: str) -> bool:
    """Nobody expects an answer to it."""
    return kind in TABLE and TABLE[kind].action in {Action.FORGET_MESSAGE, Action.PURGE}


def plan(event: InboundEvent, clinic: Clinic, session: Session, memory: CustomerMemory, now_ms: int) -> Plan:
    """For one event. In groups and rooms only what addresses us is answered: a mention, or an answer to one
    of our messages. While people have taken over, the bot says nothing."""
    planned = TABLE.get(event.kind, Plan(Action.IGNORE, reason="unknown_kind"))
    if planned.action in {Action.IGNORE, Action.FORGET_MESSAGE, Action.PURGE}:
        return planned
    if event.chat_type != "user" and not _addresses_us(event, session):
        return Plan(Action.IGNORE, reason="group_talk")
    if memory.in_handoff(now_ms):
        return Plan(Action.IGNORE, reason="handoff")
    if planned.action is Action.ANSWER:
        if handoff.asked_for_people(clinic, [event.text]):
            return Plan(Action.HANDOFF, "handoff", reason="keyword")
        if not event.text.strip():
            return Plan(Action.TEXT, "unsupported", reason="empty")
    return planned


@dataclass(frozen=True, slots=True)
class TurnPlan:
    """What a turn does about all events that it takes.

    `action`: HANDOFF, ANSWER, TEXT or IGNORE (nothing is sent). `words`: the customer's, for the prompt, in
    order. `unfollowed_ms`: when the customer left, None if they are here, or here again.
    """

    action: Action
    text_key: str | None = None
    words: tuple[str, ...] = ()
    unfollowed_ms: int | None = None
    reason: str = ""


_PRECEDENCE = (Action.HANDOFF, Action.ANSWER, Action.TEXT)


def plan_turn(
    events: Sequence[InboundEvent], clinic: Clinic, session: Session, memory: CustomerMemory, now_ms: int
) -> TurnPlan:
    """One reply for several events: people if they were asked for, else the model if anything was said, else
    the fixed text of the newest event that has one."""
    ordered = sorted(events, key=lambda event: (event.timestamp_ms, event.event_id))
    unsent = unsent_ids(ordered)
    left = [e for e in ordered if e.kind == "unsend" or e.message_id is None or e.message_id not in unsent]
    unfollowed_ms = _unfollowed_ms(left, memory.unfollowed_ms)
    if unfollowed_ms is not None:
        # Nothing reaches this customer: a call would be paid for nobody.
        return TurnPlan(Action.IGNORE, unfollowed_ms=unfollowed_ms, reason="unfollowed")
    plans = [(event, plan(event, clinic, session, memory, now_ms)) for event in left]
    talk = {Action.ANSWER, Action.HANDOFF}
    turn = TurnPlan(
        Action.IGNORE,
        words=tuple(event.text for event, p in plans if p.action in talk),
        reason=next((p.reason for _, p in reversed(plans) if p.reason), ""),
    )
    for action in _PRECEDENCE:
        newest = next((p for _, p in reversed(plans) if p.action is action), None)
        if newest:
            return replace(turn, action=action, text_key=newest.text_key, reason=newest.reason)
    return turn


def unsent_ids(events: Iterable[InboundEvent]) -> tuple[str, ...]:
    """The messages that these events take back."""
    return tuple(event.message_id for event in events if event.kind == "unsend" and event.message_id)


def _unfollowed_ms(ordered: Iterable[InboundEvent], before_ms: int | None) -> int | None:
    """Whoever writes or follows later than they left is back. The queue may bring what came first last."""
    left_ms = before_ms
    for event in ordered:
        if event.kind == "unfollow":
            left_ms = max(event.timestamp_ms, left_ms or 0)
        elif event.kind != "unsend" and left_ms is not None and event.timestamp_ms > left_ms:
            left_ms = None
    return left_ms


def _addresses_us(event: InboundEvent, session: Session) -> bool:
    # A postback is a tap on something that we sent.
    quoted = event.quoted_message_id in session.sent_message_ids
    return event.kind == "postback" or event.mentioned or quoted
