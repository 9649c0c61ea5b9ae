"""What is kept of a customer for long: facts to remember, and a hand-off to people.

This module is the one place that knows the document `customer_memory/{org_id}:{chat_id}` (the chat of one
customer has the customer's user id):

    facts             [{key, value, turn_id, at_ms, because}], oldest first
    handoff_until_ms  the bot is silent until then; handoff_reason says why
    expire_at         the TTL field; stores sweep late, so an expired document is ignored here
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from core.domain.event import Conversation

COLLECTION = "customer_memory"
RETENTION = timedelta(days=365)
MAX_FACTS = 20
MAX_CHARS = 200
MAX_KEY_CHARS = 40


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
    """`facts`: one a key, oldest first."""

    facts: tuple[Fact, ...] = ()
    handoff_until_ms: int | None = None
    handoff_reason: str = ""

    def in_handoff(self, now_ms: int) -> bool:
        """People answer now, the bot is silent."""
        return self.handoff_until_ms is not None and now_ms < self.handoff_until_ms

    def handed_off(self, until_ms: int, reason: str) -> CustomerMemory:
        return replace(self, handoff_until_ms=until_ms, handoff_reason=reason[:MAX_CHARS])

    def resumed(self) -> CustomerMemory:
        return replace(self, handoff_until_ms=None, handoff_reason="")

    def without_turn(self, turn_id: str) -> CustomerMemory:
        """Without what a turn has taught, for a message that was unsent."""
        return replace(self, facts=tuple(fact for fact in self.facts if fact.turn_id != turn_id))

    def encode(self, now_ms: int, retention: timedelta = RETENTION) -> dict[str, Any]:
        """The whole document; every write prolongs its life."""
        return {
            "facts": [
                {"key": f.key, "value": f.value, "turn_id": f.turn_id, "at_ms": f.at_ms, "because": f.because}
                for f in self.facts
            ],
            "handoff_until_ms": self.handoff_until_ms,
            "handoff_reason": self.handoff_reason,
            "expire_at": expires(now_ms, retention),
        }

    def changes(
        self, before: CustomerMemory, now_ms: int, retention: timedelta = RETENTION
    ) -> dict[str, Any]:
        """What a turn writes that has read `before`. A hand-off that it did not change stays as it is, since
        staff may begin or end one while the turn runs."""
        data = self.encode(now_ms, retention)
        if (self.handoff_until_ms, self.handoff_reason) == (before.handoff_until_ms, before.handoff_reason):
            del data["handoff_until_ms"], data["handoff_reason"]
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
        until = data.get("handoff_until_ms")
        entries = data.get("facts")
        return cls(
            facts=tuple(filter(None, map(_fact, entries if isinstance(entries, list) else []))),
            handoff_until_ms=until if isinstance(until, int) else None,
            handoff_reason=str(data.get("handoff_reason") or ""),
        )


def document_id(conversation: Conversation) -> str:
    return f"{conversation.org_id}:{conversation.chat_id}"


def expires(now_ms: int, retention: timedelta) -> datetime:
    """`expire_at` for a write now. An unfollow writes it alone, with a shorter retention."""
    return datetime.fromtimestamp(now_ms / 1000, UTC) + retention


def merge(
    facts: Iterable[Fact], proposals: Iterable[ProposedFact], *, turn_id: str, at_ms: int, words: str
) -> tuple[Fact, ...]:
    """`facts` with the model's proposals: newest wins, an empty value forgets, the oldest go first.

    A proposal must rest on `words`, what the customer said in this turn: what the model only concludes, or
    took from elsewhere, is not remembered. Merging a turn twice changes nothing.
    """
    said = _plain(words)
    merged = {fact.key: fact for fact in facts}
    for proposal in proposals:
        key = "_".join(proposal.key.lower().split())[:MAX_KEY_CHARS]
        because = _plain(proposal.because)
        if not key or not because or because not in said:
            continue
        merged.pop(key, None)
        if value := proposal.value.strip()[:MAX_CHARS]:
            merged[key] = Fact(key, value, turn_id, at_ms, proposal.because.strip()[:MAX_CHARS])
    return tuple(merged.values())[-MAX_FACTS:]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


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
