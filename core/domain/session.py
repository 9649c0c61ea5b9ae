"""The state of a conversation while it goes on: what the customer wants, and what was said.

Stored in Redis as `conv:{org_id}:{channel}:{user_id}` with a sliding time to live, the same for all
instances. Only the leader of a conversation writes it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from core.domain.memory import Fact, facts_from
from core.domain.stages import Stage, next_stage
from core.domain.tokens import text_bound

SCHEMA_VERSION = 1

HISTORY_TOKENS = 12_000
"""Upper bound of the exchanges' tokens: about 4,000 Thai characters, hence some 2,000 tokens in truth."""

FIELD_CHARS = 200
SENT_IDS = 20


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the customer said in one turn, and the reply; "" where people answered, whose words nobody here
    hears of. What was sent without words stands in square brackets. In a group: `speaker`, who said it, and
    `is_personal`, it is nobody else's business (core.domain.speakers)."""

    turn_id: str
    at_ms: int
    customer_text: str
    reply: str
    speaker: str = ""
    is_personal: bool = False

    @property
    def tokens(self) -> int:
        return text_bound(self.customer_text) + text_bound(self.reply)


@dataclass(frozen=True, slots=True)
class Session:
    """`service`, `area`, `preference`: what the customer wants, in the model's words; `learnt_from`: the turn
    that each comes from. `exchanges`: oldest first. `sent_message_ids`: ours, to know a group's answers to
    us. `awaiting_consent`: health facts that may not be remembered yet; `consent_asked`: since it began.
    `speakers`: user ids of a group's members in the order in which they began to speak. A hand-off outlives
    this state: see core.domain.memory."""

    service: str | None = None
    area: str | None = None
    stage: Stage = Stage.GREETING
    preference: str | None = None
    learnt_from: Mapping[str, str] = field(default_factory=dict)
    exchanges: tuple[Exchange, ...] = ()
    greeted: bool = False
    sent_message_ids: tuple[str, ...] = ()
    last_budget_notice_ms: int | None = None
    awaiting_consent: tuple[Fact, ...] = ()
    consent_asked: bool = False
    speakers: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """JSON, UTF-8, with the schema's version."""
        body = {k: v for k, v in asdict(self).items() if v not in (None, (), False, {})}
        return json.dumps(
            {"v": SCHEMA_VERSION, **body}, ensure_ascii=False, separators=(",", ":"), default=str
        ).encode(errors="replace")

    @classmethod
    def decode(cls, stored: bytes | None) -> Session:
        """A conversation that is not stored, damaged, or of another schema version begins afresh."""
        try:
            raw = json.loads(stored or b"null")
            return cls._from(raw) if isinstance(raw, dict) and raw.get("v") == SCHEMA_VERSION else cls()
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()

    @classmethod
    def _from(cls, raw: Mapping[str, Any]) -> Session:
        notice = raw.get("last_budget_notice_ms")
        return cls(
            service=_text_or_none(raw.get("service")),
            area=_text_or_none(raw.get("area")),
            stage=Stage(raw.get("stage", Stage.GREETING)),
            preference=_text_or_none(raw.get("preference")),
            learnt_from={str(name): str(turn_id) for name, turn_id in raw.get("learnt_from", {}).items()},
            exchanges=tuple(_exchange(entry) for entry in raw.get("exchanges", ())),
            greeted=bool(raw.get("greeted", False)),
            sent_message_ids=tuple(str(sent) for sent in raw.get("sent_message_ids", ())),
            last_budget_notice_ms=None if notice is None else int(notice),
            awaiting_consent=facts_from(raw.get("awaiting_consent")),
            consent_asked=bool(raw.get("consent_asked", False)),
            speakers=tuple(str(user_id) for user_id in raw.get("speakers", ())),
        )

    def with_turn(
        self,
        turn_id: str,
        *,
        at_ms: int,
        customer_text: str,
        reply: str,
        updates: Mapping[str, Any] | None = None,
        speaker: str = "",
        is_personal: bool = False,
    ) -> Session:
        """After a turn; the same turn again changes nothing. `updates` (ModelReply.updates) may set service,
        area, stage and preference; what it does not name stays. An impossible stage is not taken over. A turn
        that is told after a later one takes its place before it, and updates nothing."""
        if any(exchange.turn_id == turn_id for exchange in self.exchanges):
            return self
        exchange = Exchange(turn_id, at_ms, customer_text, reply, speaker, is_personal)
        session = replace(self.with_exchange(exchange), greeted=True)
        if session.exchanges[-1].turn_id != turn_id:
            return session
        wishes = {k: v[:FIELD_CHARS] for k, v in (updates or {}).items() if isinstance(v, str) and v.strip()}
        learnt = {name: wishes[name] for name in ("service", "area", "preference") if name in wishes}
        return replace(
            session,
            service=learnt.get("service", self.service),
            area=learnt.get("area", self.area),
            preference=learnt.get("preference", self.preference),
            learnt_from={**self.learnt_from, **dict.fromkeys(learnt, turn_id)},
            stage=next_stage(self.stage, wishes.get("stage"))[0],
            awaiting_consent=facts_from((updates or {}).get("awaiting_consent")),
            consent_asked=self.consent_asked or bool((updates or {}).get("consent_asked")),
        )

    def with_exchange(self, exchange: Exchange) -> Session:
        """What was said in a turn that no model answered, in its place; once, however often it is told."""
        if any(known.turn_id == exchange.turn_id for known in self.exchanges):
            return self
        exchanges = sorted((*self.exchanges, exchange), key=lambda exchange: exchange.at_ms)
        speaker = exchange.speaker
        is_new = bool(speaker) and speaker not in self.speakers
        return replace(
            self,
            exchanges=_trimmed(tuple(exchanges)),
            speakers=(*self.speakers, speaker) if is_new else self.speakers,
        )

    @property
    def last_told(self) -> Exchange | None:
        """The last one in which we said something."""
        return next((exchange for exchange in reversed(self.exchanges) if exchange.reply), None)

    def with_sent(self, message_ids: Iterable[str]) -> Session:
        """Remembers the newest of our own messages."""
        fresh = [sent for sent in message_ids if sent not in self.sent_message_ids]
        return replace(self, sent_message_ids=(*self.sent_message_ids, *fresh)[-SENT_IDS:])

    def without_turns(self, turn_ids: Collection[str]) -> Session:
        """Without what was said in these turns and what was learnt from it. Where the conversation stands
        (`stage`) is nobody's words, so it stays."""
        if not turn_ids:
            return self
        kept = {name: turn_id for name, turn_id in self.learnt_from.items() if turn_id not in turn_ids}
        return replace(
            self,
            service=self.service if "service" in kept else None,
            area=self.area if "area" in kept else None,
            preference=self.preference if "preference" in kept else None,
            learnt_from=kept,
            exchanges=tuple(e for e in self.exchanges if e.turn_id not in turn_ids),
            awaiting_consent=tuple(f for f in self.awaiting_consent if f.turn_id not in turn_ids),
        )


def _exchange(raw: Mapping[str, Any]) -> Exchange:
    return Exchange(
        turn_id=str(raw["turn_id"]),
        at_ms=int(raw["at_ms"]),
        customer_text=str(raw["customer_text"]),
        reply=str(raw["reply"]),
        speaker=str(raw.get("speaker", "")),
        is_personal=bool(raw.get("is_personal", False)),
    )


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _trimmed(exchanges: tuple[Exchange, ...]) -> tuple[Exchange, ...]:
    """The newest exchanges within the bound, pairs whole. The newest stays in any case, so that its turn
    stays known; its texts are cut if it alone is too long."""
    newest = exchanges[-1]
    if newest.tokens > HISTORY_TOKENS:
        share = HISTORY_TOKENS // 2
        newest = replace(
            newest, customer_text=_head(newest.customer_text, share), reply=_head(newest.reply, share)
        )
    kept = [newest]
    room = HISTORY_TOKENS - newest.tokens
    for exchange in reversed(exchanges[:-1]):
        room -= exchange.tokens
        if room < 0:
            break
        kept.append(exchange)
    return tuple(reversed(kept))


def _head(text: str, tokens: int) -> str:
    """The beginning of `text` that has at most `tokens` UTF-8 bytes."""
    return text.encode(errors="replace")[:tokens].decode(errors="ignore")
