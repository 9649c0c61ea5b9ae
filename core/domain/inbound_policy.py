"""What is done about each kind of event: the table, and the plan of a turn that takes several of them.

Kinds are LINE's: the message types, and the webhook event types of everything else (LINE Messaging API
reference, "Webhook event objects"). LINE adds types without notice: an unknown event is ignored, an unknown
message gets a truthful line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    PURGE = "purge"  # the customer or group has left: the data goes after the retention
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
    "join": Plan(Action.TEXT, "group_greeting"),
    "unsend": Plan(Action.FORGET_MESSAGE),
    "unfollow": Plan(Action.PURGE),
    "leave": Plan(Action.PURGE),
    # Deliberately ignored: nobody has said anything, or LINE only reports.
    "memberJoined": Plan(Action.IGNORE),
    "memberLeft": Plan(Action.IGNORE),
    "videoPlayComplete": Plan(Action.IGNORE),
    "beacon": Plan(Action.IGNORE),
    "accountLink": Plan(Action.IGNORE),
    "membership": Plan(Action.IGNORE),
    "delivery": Plan(Action.IGNORE),
    "things": Plan(Action.IGNORE),
    "module": Plan(Action.IGNORE),
    "activated": Plan(Action.IGNORE),
    "deactivated": Plan(Action.IGNORE),
    "botSuspended": Plan(Action.IGNORE),
    "botResumed": Plan(Action.IGNORE),
}


def needs_no_turn(event: InboundEvent) -> bool:
    """True if nothing can make this event worth a task, whatever the conversation's state is."""
    if _by_kind(event).action is Action.IGNORE:
        return True
    return _is_talk(event) and event.chat_type != "user" and not _may_address_us(event)


def plan(event: InboundEvent, clinic: Clinic, session: Session, memory: CustomerMemory, now_ms: int) -> Plan:
    """For one event. In groups and rooms only what addresses us is answered: a mention, or an answer to one
    of our messages. While people have taken over, the bot says nothing."""
    planned = _by_kind(event)
    if planned.action in {Action.IGNORE, Action.FORGET_MESSAGE, Action.PURGE}:
        return planned
    if _is_talk(event) and event.chat_type != "user" and not _addresses_us(event, session):
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
    order. `forget`: message ids that were unsent. `purge`: the customer has left, and not come back since.
    """

    action: Action
    text_key: str | None = None
    words: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()
    purge: bool = False
    reason: str = ""


_PRECEDENCE = (Action.HANDOFF, Action.ANSWER, Action.TEXT)


def plan_turn(
    events: Sequence[InboundEvent], clinic: Clinic, session: Session, memory: CustomerMemory, now_ms: int
) -> TurnPlan:
    """One reply for several events: people if they were asked for, else the model if anything was said, else
    the fixed text of the newest event that has one."""
    ordered = sorted(events, key=lambda event: (event.timestamp_ms, event.event_id))
    unsent = tuple(e.message_id for e in ordered if e.kind == "unsend" and e.message_id)
    left = [e for e in ordered if e.kind == "unsend" or e.message_id is None or e.message_id not in unsent]
    plans = [(event, plan(event, clinic, session, memory, now_ms)) for event in left]
    presence = [p for e, p in plans if p.action is Action.PURGE or e.kind in {"follow", "join"}]
    purge = bool(presence) and presence[-1].action is Action.PURGE
    for action in _PRECEDENCE:
        chosen = [(event, p) for event, p in plans if p.action is action]
        if chosen:
            newest = chosen[-1][1]
            words = tuple(e.text for e, p in plans if p.action in {Action.ANSWER, Action.HANDOFF})
            return TurnPlan(action, newest.text_key, words, unsent, purge, newest.reason)
    reason = next((p.reason for _, p in reversed(plans) if p.reason), "")
    return TurnPlan(Action.IGNORE, None, (), unsent, purge, reason)


def _by_kind(event: InboundEvent) -> Plan:
    known = TABLE.get(event.kind)
    if known is not None:
        return known
    # An unknown kind with a message id is a message of a new type: a customer must not meet silence.
    return Plan(Action.TEXT, "unsupported") if event.message_id else Plan(Action.IGNORE, reason="unknown")


def _is_talk(event: InboundEvent) -> bool:
    """Something a person said in the chat, as opposed to something that happened to it."""
    return event.kind == "postback" or (event.message_id is not None and event.kind != "unsend")


def _may_address_us(event: InboundEvent) -> bool:
    return event.kind == "postback" or event.mentioned or event.quoted_message_id is not None


def _addresses_us(event: InboundEvent, session: Session) -> bool:
    # A postback is a tap on something that we sent.
    quoted = event.quoted_message_id in session.sent_message_ids
    return event.kind == "postback" or event.mentioned or quoted
