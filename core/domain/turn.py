"""The journal's record of one turn: `turns/{turn_id}`.

States: draft (in memory alone, never stored) -> reserved (money is held, the model may have been called) ->
answered (the reply is stored; LINE may have been called) -> delivered | failed. A failed turn was answered
with a fallback text, or could not be answered at all; `failure` says why. An ignored turn was met with
silence on purpose; `money.reason` says why.
This module is the one place that knows the document's fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from core.domain.event import EventKind, InboundEvent
from core.domain.event_kinds import note_of
from core.domain.outcome import Outcome
from core.domain.task import EffectTask

COLLECTION = "turns"
CLAIMS = "turn_events"
RETENTION = timedelta(days=30)

UNDELIVERABLE = "undeliverable"
"""A failure that begins with it: the reply is stored, and LINE has not accepted it."""
DELIVERY_UNKNOWN = f"{UNDELIVERABLE}: unknown"
"""LINE may have accepted it: a person decides whether it is sent again."""
FORGOTTEN = "forgotten"
"""The failure of a turn whose customer was forgotten before it was answered."""


RECOVERED, UNSURE = "recovered", "unsure"
"""How a turn went on whose first reply named amounts that nothing covers."""


class TurnState(StrEnum):
    DRAFT = "draft"
    RESERVED = "reserved"
    ANSWERED = "answered"
    DELIVERED = "delivered"
    FAILED = "failed"
    IGNORED = "ignored"

    @property
    def final(self) -> bool:
        return self in {TurnState.DELIVERED, TurnState.FAILED, TurnState.IGNORED}


@dataclass(frozen=True, slots=True)
class TurnEvent:
    """A customer's message as the journal keeps it, so that whoever takes a turn over can answer it.
    `user_id`: who sent it, which a group's chat does not say. `note`: what came besides words; without one
    there is nothing to look at or listen to. `media`: what became of that (core.domain.media), None as long
    as nobody has tried; `duration_ms` and `external` as in InboundEvent."""

    id: str
    kind: EventKind
    text: str
    timestamp_ms: int
    arrived_ms: int
    message_id: str | None = None
    user_id: str | None = None
    note: str | None = None
    media: str | None = None
    duration_ms: int | None = None
    external: bool | None = None


@dataclass(frozen=True, slots=True)
class Money:
    """What the turn holds and has cost, in micro-baht, and the arithmetic behind it.

    `worst`: one call's worst case. `held`: reserved in the day's books now. `cost`: settled, of which
    `ambiguous` was charged at the worst case because nobody knows what the provider billed. `others`: what is
    part of it for calls of other models than `model`, the last one that was asked. `pictures`: how many the
    model was shown. `audio`: what writing voice messages down has cost, with `seconds` and `price`.
    """

    day: str = ""
    decision: str = ""
    reason: str = ""
    flagged: bool = False
    model: str = ""
    worst_micro_baht: int = 0
    held_micro_baht: int = 0
    cost_micro_baht: int = 0
    ambiguous_micro_baht: int = 0
    ambiguous_attempts: int = 0
    swept: bool = False
    usage: Mapping[str, int] = field(default_factory=dict)
    price: Mapping[str, Any] = field(default_factory=dict)
    thb_per_usd: str = ""
    service_tier: str | None = None
    others: Mapping[str, int] = field(default_factory=dict)
    pictures: int = 0
    audio: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """`fence` is the mailbox fence of the leader that wrote it last. `reply` is what goes to LINE, with
    `quick_replies`; `postbacks`: by label, what a tap on one sends instead of words. `updates`: what the
    conversation is to know after the turn. `effects`: what else its commit has caused; whoever ends the turn
    enqueues them. `delivering` is how LINE may have been called already, but if
    `announced` only after the mailbox was told; `presumed`: that it accepted follows only from its refusal of
    the token afterwards. `replayed_as`: the event that an operator's latest replay was enqueued as,
    `replayed_ms` when. `operation`: the id of the journal's commit that wrote it last, by which that commit
    is recognised. `guard`: the `amounts` that nothing covered, and the `outcome`, RECOVERED or UNSURE.
    `question_id`: what the clinic's words did not answer (core.domain.questions). `clinic_version`: which of
    the clinic's versions answered, None before its first. `prompt`: the `day` it was written for, and the
    digests of its part that follows from version and day (`stable`) and of the `rest`. `outcome`: what came
    of it, for the clinic's counters."""

    id: str
    org_id: str
    channel: str
    chat_id: str
    chat_type: str
    state: TurnState
    events: tuple[TurnEvent, ...]
    created_ms: int
    user_id: str | None = None
    overflow: int = 0
    fence: int = 0
    operation: str = ""
    replayed_as: str | None = None
    replayed_ms: int | None = None
    trace: str = ""
    reply_token: str | None = None
    token_arrived_ms: int = 0
    quote_token: str | None = None
    read_token: str | None = None
    money: Money = field(default_factory=Money)
    attempts: int = 0
    waited_ms: int = 0
    reply: str = ""
    quick_replies: tuple[str, ...] = ()
    postbacks: Mapping[str, str] = field(default_factory=dict)
    updates: Mapping[str, Any] = field(default_factory=dict)
    facts_used: tuple[str, ...] = ()
    effects: tuple[EffectTask, ...] = ()
    push_allowed: bool = True
    delivering: str | None = None
    announced: bool = False
    delivered_how: str | None = None
    presumed: bool = False
    line_message_ids: tuple[str, ...] = ()
    failure: str | None = None
    guard: Mapping[str, Any] = field(default_factory=dict)
    question_id: str | None = None
    clinic_version: int | None = None
    prompt: Mapping[str, str] = field(default_factory=dict)
    outcome: Outcome = field(default_factory=Outcome)
    reserved_ms: int | None = None
    answered_ms: int | None = None
    delivered_ms: int | None = None

    @property
    def event_ids(self) -> tuple[str, ...]:
        return tuple(event.id for event in self.events)

    @property
    def failed_to_answer(self) -> bool:
        """Its customer was to get an answer and got an apology at most; not, if only LINE did not take it."""
        failure = self.failure or FORGOTTEN
        return failure != FORGOTTEN and not failure.startswith(UNDELIVERABLE)

    def encode(self) -> dict[str, Any]:
        """The whole document. `created_at` orders listings, `user_ids` finds what a customer said in groups,
        `message_ids` what they take back, `expire_at` is the TTL field."""
        data = {name: getattr(self, name) for name in _PLAIN}
        created = datetime.fromtimestamp(self.created_ms / 1000, UTC)
        return {
            **data,
            "state": self.state.value,
            "events": [{k: getattr(event, k) for k in _EVENT} for event in self.events],
            "user_ids": sorted({event.user_id for event in self.events if event.user_id}),
            "message_ids": [*(e.message_id for e in self.events if e.message_id), *self.line_message_ids],
            "quick_replies": list(self.quick_replies),
            "facts_used": list(self.facts_used),
            "effects": [{k: getattr(effect, k) for k in _EFFECT} for effect in self.effects],
            "line_message_ids": list(self.line_message_ids),
            "postbacks": dict(self.postbacks),
            "updates": dict(self.updates),
            "guard": dict(self.guard),
            "prompt": dict(self.prompt),
            "outcome": self.outcome.encode(),
            **{name: getattr(self.money, name) for name in _MONEY},
            "usage": dict(self.money.usage),
            "price": dict(self.money.price),
            "others": dict(self.money.others),
            "audio": dict(self.money.audio),
            "created_at": created,
            "expire_at": created + RETENTION,
        }

    @classmethod
    def decode(cls, turn_id: str, data: Mapping[str, Any]) -> TurnRecord:
        """Fields that an older version did not write keep their defaults."""
        money = Money(
            **{k: data[k] for k in (*_MONEY, "usage", "price", "others", "audio") if data.get(k) is not None}
        )
        events = tuple(TurnEvent(**{k: event.get(k) for k in _EVENT}) for event in data.get("events", ()))
        lists: dict[str, Any] = {
            k: tuple(data.get(k) or ()) for k in ("quick_replies", "facts_used", "line_message_ids")
        }
        plain: dict[str, Any] = {k: data[k] for k in _PLAIN if k != "id" and data.get(k) is not None}
        caused = [{k: effect[k] for k in _EFFECT} for effect in data.get("effects") or ()]
        return cls(
            id=turn_id,
            state=TurnState(data["state"]),
            events=events,
            money=money,
            postbacks=data.get("postbacks") or {},
            updates=data.get("updates") or {},
            guard=data.get("guard") or {},
            prompt=data.get("prompt") or {},
            outcome=Outcome.decode(data.get("outcome")),
            effects=tuple(
                EffectTask(org_id=plain["org_id"], trace=plain.get("trace", ""), **each) for each in caused
            ),
            **lists,
            **plain,
        )

    def without_words(self, of_user: str | None = None) -> TurnRecord:
        """The turn without what was said in it; ids and money stay. `of_user`: what others in a group said
        stays, too, but not the reply, which may repeat anything."""
        events = tuple(
            replace(e, text="", note=None) if of_user in {None, e.user_id} else e for e in self.events
        )
        return replace(
            self,
            events=events,
            reply="",
            quick_replies=(),
            postbacks={},
            updates={},
            facts_used=(),
            guard={name: value for name, value in self.guard.items() if name != "amounts"},
            prompt={name: value for name, value in self.prompt.items() if name != "rest"},
        )

    def without_message(self, message_id: str) -> TurnRecord:
        """Without an unsent message. The whole exchange goes, since the reply may repeat it; but the other
        messages of a turn that has not ended still want their answer."""
        events = tuple(
            replace(e, text="", note=None) if e.message_id == message_id else e for e in self.events
        )
        left = replace(self, events=events)
        wanted = not self.state.final and any(event.text or event.note for event in events)
        return left if wanted else left.without_words()

    def causing(self, *effects: EffectTask) -> TurnRecord:
        """With these, too, each once."""
        caused = {effect.name: effect for effect in (*self.effects, *effects)}
        traced = (replace(effect, trace=self.trace) for effect in caused.values())
        return replace(self, effects=tuple(traced))

    def with_money(self, **changes: Any) -> TurnRecord:
        return replace(self, money=replace(self.money, **changes))

    def with_outcome(self, **changes: Any) -> TurnRecord:
        return replace(self, outcome=replace(self.outcome, **changes))


_EFFECT = ("kind", "id", "due_ms")
_EVENT = (
    "id",
    "kind",
    "text",
    "timestamp_ms",
    "arrived_ms",
    "message_id",
    "user_id",
    "note",
    "media",
    "duration_ms",
    "external",
)
_MONEY = (
    "day",
    "decision",
    "reason",
    "flagged",
    "model",
    "worst_micro_baht",
    "held_micro_baht",
    "cost_micro_baht",
    "ambiguous_micro_baht",
    "ambiguous_attempts",
    "swept",
    "thb_per_usd",
    "service_tier",
    "pictures",
)
_PLAIN = (
    "id",
    "org_id",
    "channel",
    "chat_id",
    "chat_type",
    "user_id",
    "created_ms",
    "overflow",
    "fence",
    "operation",
    "replayed_as",
    "replayed_ms",
    "trace",
    "reply_token",
    "token_arrived_ms",
    "quote_token",
    "read_token",
    "attempts",
    "waited_ms",
    "reply",
    "push_allowed",
    "delivering",
    "announced",
    "delivered_how",
    "presumed",
    "failure",
    "question_id",
    "clinic_version",
    "reserved_ms",
    "answered_ms",
    "delivered_ms",
)


def journaled(event: InboundEvent) -> TurnEvent:
    return TurnEvent(
        event.event_id,
        event.kind,
        event.text,
        event.timestamp_ms,
        event.arrived_ms,
        event.message_id,
        event.user_id,
        note_of(event) or None,
        duration_ms=event.duration_ms,
        external=event.external or None,
    )


def claim(turn: TurnRecord) -> dict[str, Any]:
    """`turn_events/{event_id}`: who answers the event."""
    expires = datetime.fromtimestamp(turn.created_ms / 1000, UTC) + RETENTION
    return {"turn_id": turn.id, "org_id": turn.org_id, "expire_at": expires}
