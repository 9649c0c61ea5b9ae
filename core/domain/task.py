"""The body of a task: one event on its way to a turn, and how often it was put back."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, fields, replace
from typing import Any

from core.domain.errors import MalformedTaskError
from core.domain.event import InboundEvent

SCHEMA_VERSION = 1
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")
_SHOWN = 64  # characters of an event's id; LINE's have 26


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
        digest = hashlib.sha256(f"{org_id}\n{event_id}".encode()).hexdigest()[:40]
        shown = _NOT_IN_A_NAME.sub("_", f"{org_id}-{event_id[:_SHOWN]}")
        return f"{digest}-{shown}-{self.hop}"

    def encode(self) -> bytes:
        """JSON, UTF-8. Unset fields are left out."""
        body = {"v": SCHEMA_VERSION, **_set_fields(self), "event": _set_fields(self.event)}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, body: bytes) -> TurnTask:
        """Raises MalformedTaskError when the body is not a task of ours."""
        try:
            raw = json.loads(body)
        except (ValueError, RecursionError) as exc:
            raise MalformedTaskError("the task's body is not JSON") from exc
        if not isinstance(raw, dict) or raw.get("v") != SCHEMA_VERSION:
            raise MalformedTaskError(f"the task's body is not a turn task of version {SCHEMA_VERSION}")
        event = _typed(InboundEvent, raw.get("event"), "event")
        if not (event.event_id and event.org_id and event.chat_id):
            raise MalformedTaskError("the task's event names no event, clinic or chat")
        rest = _checked(cls, {k: v for k, v in raw.items() if k not in {"v", "event"}}, "")
        try:
            return cls(event=event, **rest)
        except TypeError as exc:
            raise MalformedTaskError(f"the task lacks a field: {exc}") from exc


def _set_fields(value: TurnTask | InboundEvent) -> dict[str, Any]:
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
