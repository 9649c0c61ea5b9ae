"""What is kept of a customer for long: facts to remember, and a hand-off to people.

This module is the one place that knows the document `customer_memory/{org_id}:{chat_id}` (the chat of one
customer has the customer's user id):

    facts             [{key, value, turn_id, at_ms, because}], oldest first
    handoff_until_ms  the bot is silent until then; handoff_reason says why
    consent           whether health facts may be remembered, decided at consent_ms; see core.domain.consent
    unfollowed_ms     when the customer left (LINE's time), until they come back
    forgotten         by user id, when an operator had all that they said erased; for a week, in which what
                      they said before may still be on its way
    expire_at         the TTL field; stores sweep late, so an expired document is ignored here
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from core.domain.clinic import Retention
from core.domain.event import Conversation, InboundEvent
from core.domain.thai_text import normalized

COLLECTION = "customer_memory"
MAX_FACTS = 20
MAX_CHARS = 200
MAX_KEY_CHARS = 40
FORGOTTEN_FOR_MS = 7 * 86_400_000
_REMEMBERED_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class ProposedFact:
    """What the model wants to remember; `because` are the customer's words it rests on."""

    key: str
    value: str
    because: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """A remembered fact, and the turn that it comes from."""

    key: str
    value: str
    turn_id: str
    at_ms: int
    because: str = ""


@dataclass(frozen=True, slots=True)
class CustomerMemory:
    """`facts`: one a key, oldest first. `unfollowed_ms`: not None while the customer can't be reached.
    `urgent_ms`: when the emergency number was given last while people had the chat; `urgent_told_ms`: when
    staff were told last that something is urgent.
    `consent`: the customer's word on health facts, None before they were asked. `forgotten`: Unix ms by user
    id; what they said before is erased, also what arrives only now."""

    facts: tuple[Fact, ...] = ()
    handoff_until_ms: int | None = None
    handoff_reason: str = ""
    unfollowed_ms: int | None = None
    consent: bool | None = None
    consent_ms: int | None = None
    urgent_ms: int | None = None
    urgent_told_ms: int | None = None
    forgotten: Mapping[str, int] = field(default_factory=dict)

    def in_handoff(self, now_ms: int) -> bool:
        """People answer now, the bot is silent."""
        return self.handoff_until_ms is not None and now_ms < self.handoff_until_ms

    def had_handoff(self, now_ms: int) -> bool:
        """People had the chat, and gave it back within the last day."""
        until_ms = self.handoff_until_ms
        return until_ms is not None and until_ms <= now_ms < until_ms + _REMEMBERED_MS

    def handed_off(self, until_ms: int, reason: str) -> CustomerMemory:
        return replace(self, handoff_until_ms=until_ms, handoff_reason=reason[:MAX_CHARS])

    def resumed(self, now_ms: int) -> CustomerMemory:
        return replace(self, handoff_until_ms=now_ms, handoff_reason="")

    def without_turns(self, turn_ids: Collection[str]) -> CustomerMemory:
        """Without what these turns have taught."""
        return replace(self, facts=tuple(fact for fact in self.facts if fact.turn_id not in turn_ids))

    def is_forgotten(self, event: InboundEvent) -> bool:
        """It was on its way when its sender was forgotten."""
        return event.arrived_ms <= self.forgotten.get(event.user_id or event.chat_id, -1)

    def forgetting(self, user_id: str, at_ms: int) -> CustomerMemory:
        return replace(self, forgotten={**self.forgotten, user_id: at_ms})

    def expire_at(self, now_ms: int, retention: Retention) -> datetime:
        """When a document that is written now goes: so long after this write, or after the customer left."""
        if self.unfollowed_ms is None:
            since_ms, days = now_ms, retention.memory_days
        else:
            since_ms, days = min(self.unfollowed_ms, now_ms), retention.unfollow_days
        return datetime.fromtimestamp(since_ms / 1000, UTC) + timedelta(days=days)

    def encode(self, now_ms: int, retention: Retention) -> dict[str, Any]:
        """The whole document."""
        return {
            **self.encode_facts(),
            "handoff_until_ms": self.handoff_until_ms,
            "handoff_reason": self.handoff_reason,
            "unfollowed_ms": self.unfollowed_ms,
            "consent": self.consent,
            "consent_ms": self.consent_ms,
            "urgent_ms": self.urgent_ms,
            "urgent_told_ms": self.urgent_told_ms,
            "forgotten": dict(self.forgotten),
            "expire_at": self.expire_at(now_ms, retention),
        }

    def encode_facts(self) -> dict[str, Any]:
        """The facts alone: a write that must not prolong anything."""
        return {"facts": [asdict(fact) for fact in self.facts]}

    def changes(self, before: CustomerMemory, now_ms: int, retention: Retention) -> dict[str, Any]:
        """What a turn writes that has read `before`. A hand-off or consent that it did not change stays as it
        is, since staff may change it while the turn runs."""
        data = self.encode(now_ms, retention)
        if (self.handoff_until_ms, self.handoff_reason) == (before.handoff_until_ms, before.handoff_reason):
            del data["handoff_until_ms"], data["handoff_reason"]
        if (self.consent, self.consent_ms) == (before.consent, before.consent_ms):
            del data["consent"], data["consent_ms"]
        for name in ("urgent_ms", "urgent_told_ms"):
            if getattr(self, name) == getattr(before, name):
                del data[name]
        if self.forgotten == before.forgotten:
            del data["forgotten"]
        return data

    @classmethod
    def decode(cls, data: Mapping[str, Any] | None, now_ms: int) -> CustomerMemory:
        """Of a customer without a document, or with an expired one, nothing is known. An entry that can't
        be read is left out: a damaged memory must not cost the customer an answer."""
        if not data:
            return cls()
        expire_at = data.get("expire_at")
        if isinstance(expire_at, datetime) and expire_at.timestamp() * 1000 <= now_ms:
            return cls()
        until, unfollowed = data.get("handoff_until_ms"), data.get("unfollowed_ms")
        consent, consent_ms = data.get("consent"), data.get("consent_ms")
        entries, forgotten = data.get("facts"), data.get("forgotten")
        urgent = {name: data.get(name) for name in ("urgent_ms", "urgent_told_ms")}
        return cls(
            facts=facts_from(entries),
            handoff_until_ms=until if isinstance(until, int) else None,
            handoff_reason=str(data.get("handoff_reason") or ""),
            unfollowed_ms=unfollowed if isinstance(unfollowed, int) else None,
            consent=consent if isinstance(consent, bool) else None,
            consent_ms=consent_ms if isinstance(consent_ms, int) else None,
            **{name: at_ms if isinstance(at_ms, int) else None for name, at_ms in urgent.items()},
            forgotten={
                user: at_ms
                for user, at_ms in (forgotten if isinstance(forgotten, dict) else {}).items()
                if isinstance(at_ms, int) and now_ms - at_ms < FORGOTTEN_FOR_MS
            },
        )


def document_id(conversation: Conversation) -> str:
    return f"{conversation.org_id}:{conversation.chat_id}"


def merge(
    facts: Iterable[Fact], proposals: Iterable[ProposedFact], *, turn_id: str, at_ms: int, words: str
) -> tuple[Fact, ...]:
    """`facts` with the model's proposals: newest wins, an empty value forgets, the oldest go first.

    A proposal must rest on `words`, what the customer said in this turn: what the model only concludes, or
    took from elsewhere, is not remembered. Merging a turn twice changes nothing.
    """
    said = normalized(words)
    merged = {fact.key: fact for fact in facts}
    for proposal in proposals:
        key = "_".join(proposal.key.lower().split())[:MAX_KEY_CHARS]
        because = normalized(proposal.because)
        if not key or not because or because not in said:
            continue
        merged.pop(key, None)
        if value := proposal.value.strip()[:MAX_CHARS]:
            merged[key] = Fact(key, value, turn_id, at_ms, proposal.because.strip()[:MAX_CHARS])
    return tuple(merged.values())[-MAX_FACTS:]


def facts_from(entries: Any) -> tuple[Fact, ...]:
    """As they were stored; what can't be read is left out."""
    return tuple(filter(None, map(_fact, entries if isinstance(entries, list) else [])))


def _fact(raw: Any) -> Fact | None:
    try:
        return Fact(
            key=str(raw["key"])[:MAX_KEY_CHARS],
            value=str(raw["value"])[:MAX_CHARS],
            turn_id=str(raw["turn_id"]),
            at_ms=int(raw["at_ms"]),
            because=str(raw.get("because", ""))[:MAX_CHARS],
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
