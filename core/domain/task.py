"""The bodies of tasks, one envelope for all kinds: an event on its way to a turn, or an effect, which a turn
or a person caused besides a reply, to be done exactly once."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from core.domain.errors import MalformedTaskError
from core.domain.event import InboundEvent

SCHEMA_VERSION = 1
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")
_SHOWN = 64  # characters of an id; those of LINE's events have 26
_TURN = "turn"


class EffectKind(StrEnum):
    """Who does an effect: see core.usecases.outbox."""

    NOTICE = "notice"  # `notices/{id}` is pushed to the clinic's desk
    BOOKING_ANSWER = "booking_answer"  # what was decided about `bookings/{id}` is pushed to its customer
    BOOKING_REMINDER = "booking_reminder"  # and a reminder before it begins


@dataclass(frozen=True, slots=True)
class TurnTask:
    """`hop` counts successors (put-backs), `place` is the sequence number that a put-back waiter keeps in
    its clinic's FIFO, `trace` is the correlation id."""

    event: InboundEvent
    trace: str
    hop: int = 0
    place: int | None = None

    def successor(self, place: int | None = None) -> TurnTask:
        """The same event, one hop later: it keeps its place in the queue and its trace."""
        return replace(self, hop=self.hop + 1, place=self.place if place is None else place)

    @property
    def name(self) -> str:
        """The task's id in the queue: the same event and hop always get the same one, so that creating it
        twice creates it once (names are remembered up to 24 h; Cloud Tasks, "Task de-duplication"). The hash
        stands first, since names with a common beginning are slow there; the rest is for people who look for
        a clinic's backlog in the console."""
        org_id, event_id = self.event.org_id, self.event.event_id
        return _name(f"{org_id}\n{event_id}", f"{org_id}-{event_id[:_SHOWN]}", self.hop)

    def encode(self) -> bytes:
        """JSON, UTF-8. Unset fields are left out."""
        body = {"v": SCHEMA_VERSION, **_set_fields(self), "event": _set_fields(self.event)}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, body: bytes) -> TurnTask:
        """Raises MalformedTaskError when the body is not a task of ours."""
        return cls._of(_envelope(body))

    @classmethod
    def _of(cls, raw: dict[str, Any]) -> TurnTask:
        if raw.get("kind", _TURN) != _TURN:
            raise MalformedTaskError("the task is of another kind")
        event = _typed(InboundEvent, raw.get("event"), "event")
        if not (event.event_id and event.org_id and event.chat_id):
            raise MalformedTaskError("the task's event names no event, clinic or chat")
        rest = _checked(cls, {k: v for k, v in raw.items() if k not in {"v", "event"}}, "")
        try:
            return cls(event=event, **rest)
        except TypeError as exc:
            raise MalformedTaskError(f"the task lacks a field: {exc}") from exc


@dataclass(frozen=True, slots=True)
class EffectTask:
    """`kind` and `id` name what is to be done: a document says all of it, and whether it is done already.
    `due_ms`: not before this moment (Unix ms). `hop` counts successors, `trace` is the correlation id."""

    kind: str
    org_id: str
    id: str
    due_ms: int = 0
    trace: str = ""
    hop: int = 0

    def successor(self, due_ms: int) -> EffectTask:
        return replace(self, hop=self.hop + 1, due_ms=due_ms)

    @property
    def name(self) -> str:
        """As of a turn's task: whoever creates the same effect's task again creates none."""
        key = f"{self.kind}\n{self.org_id}\n{self.id}"
        return _name(key, f"{self.org_id}-{self.kind}-{self.id[:_SHOWN]}", self.hop)

    def encode(self) -> bytes:
        """JSON, UTF-8."""
        body = {"v": SCHEMA_VERSION, **_set_fields(self)}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def _of(cls, raw: dict[str, Any]) -> EffectTask:
        fields_ = _checked(cls, raw, "")
        if fields_.get("kind") not in set(EffectKind) or not (fields_.get("org_id") and fields_.get("id")):
            raise MalformedTaskError("the task's kind is not known, or it names no clinic or document")
        return cls(**fields_)


Task = TurnTask | EffectTask


def decode_task(body: bytes) -> Task:
    """Raises MalformedTaskError when the body is not a task of ours, of a kind that is known here."""
    raw = _envelope(body)
    return TurnTask._of(raw) if raw.get("kind", _TURN) == _TURN else EffectTask._of(raw)  # noqa: SLF001  one module


def clinic_of(name: str) -> str | None:
    """Whose turn's task has this name; None of an effect's, or if the event's id is not shown as it is."""
    digest, _, rest = name.partition("-")
    parts = rest.rpartition("-")[0].split("-")
    for i in range(1, len(parts)):
        org_id, event_id = "-".join(parts[:i]), "-".join(parts[i:])
        if _digest(f"{org_id}\n{event_id}") == digest:
            return org_id
    return None


def _envelope(body: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise MalformedTaskError("the task's body is not JSON") from exc
    if not isinstance(raw, dict) or raw.get("v") != SCHEMA_VERSION:
        raise MalformedTaskError(f"the task's body is not a task of version {SCHEMA_VERSION}")
    return raw


def _name(key: str, shown: str, hop: int) -> str:
    return f"{_digest(key)}-{_NOT_IN_A_NAME.sub('_', shown)}-{hop}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:40]


def _set_fields(value: TurnTask | EffectTask | InboundEvent) -> dict[str, Any]:
    # By name, since asdict copies every value deeply: a third of a webhook's time.
    return {name: v for name in value.__slots__ if (v := getattr(value, name)) is not None}


def _typed(kind: type[InboundEvent], raw: Any, where: str) -> InboundEvent:
    if not isinstance(raw, dict):
        raise MalformedTaskError(f"the task's {where} is not an object")
    try:
        return kind(**_checked(kind, raw, f"{where}."))
    except TypeError as exc:
        raise MalformedTaskError(f"the task's {where} lacks a field: {exc}") from exc


_TYPES = {"str": (str,), "int": (int,), "bool": (bool,), "ChatType": (str,), "EventKind": (str,)}


def _checked(kind: type, raw: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Known fields of the right type; unknown ones are left out (a newer sender may add some)."""
    known = {f.name: str(f.type) for f in fields(kind)}
    values = {name: value for name, value in raw.items() if name in known}
    for name, value in values.items():
        expected = _TYPES.get(known[name].removesuffix(" | None"))
        optional = known[name].endswith("| None")
        if expected and not (isinstance(value, expected) or (optional and value is None)):
            raise MalformedTaskError(f"the task's {prefix}{name} is not {known[name]}")
    return values
