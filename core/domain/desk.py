"""A clinic's desk: the chat at LINE in which its staff get notices and tap. `desks/{org_id}`.

A chat becomes the desk by a code that an operator draws and that is written there. Only the code's hash is
stored. This module is the one place that knows the document's fields.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from core.domain.event import EventKind, InboundEvent
from core.domain.notice import Action

COLLECTION = "desks"
DESK = "desk"
"""Why a turn said something, or nothing: it was the desk's business."""
CODE_ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
CODE_LENGTH: Final = 8
CODE_LIFE_MS: Final = 30 * 60_000

_CODE = re.compile(r"(?=[A-Za-z0-9]*[0-9])(?=[A-Za-z0-9]*[A-Za-z])[A-Za-z0-9]{8}")
_TAP = "fairlane-desk"


@dataclass(frozen=True, slots=True)
class Desk:
    """`chat_id` "": none is connected. `connected_by`: the event that did it, by which it is recognised when
    it is delivered twice. `code_hash` "": no code is open."""

    org_id: str
    chat_id: str = ""
    chat_type: str = ""
    connected_ms: int | None = None
    connected_by: str = ""
    code_hash: str = ""
    code_expires_ms: int = 0

    @property
    def is_connected(self) -> bool:
        return bool(self.chat_id)

    def with_code(self, code: str, now_ms: int) -> Desk:
        return replace(self, code_hash=code_hash(self.org_id, code), code_expires_ms=now_ms + CODE_LIFE_MS)

    def matches(self, text: str) -> bool:
        """It is the code that was drawn last, whether or not it is still good."""
        return looks_like_code(text) and self.code_hash == code_hash(self.org_id, text)

    def connected(self, event: InboundEvent, now_ms: int) -> Desk:
        """The code is used up."""
        return Desk(self.org_id, event.chat_id, event.chat_type, now_ms, event.event_id)

    def disconnected(self) -> Desk:
        return replace(self, chat_id="", chat_type="", connected_ms=None, connected_by="")

    def encode(self) -> dict[str, Any]:
        """The whole document."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "org_id"}

    @classmethod
    def decode(cls, org_id: str, data: Mapping[str, Any] | None) -> Desk:
        known = data or {}
        return cls(
            org_id, **{name: known[name] for name in cls.__slots__ if name != "org_id" and name in known}
        )


def code_hash(org_id: str, code: str) -> str:
    return hashlib.sha256(f"{org_id}\n{code.strip().upper()}".encode()).hexdigest()


def looks_like_code(text: str) -> bool:
    """Eight letters and digits, at least one of each, and nothing else: so much of a group's own talk is
    looked at."""
    return _CODE.fullmatch(text.strip()) is not None


def tap_data(action: Action, notice_id: str) -> str:
    """What a button's postback says."""
    return f"{_TAP}:{action.value}:{notice_id}"


def is_tap(event: InboundEvent) -> bool:
    """It claims to be a button of ours under a notice; who may tap it is another question."""
    return event.kind == EventKind.POSTBACK and event.text.startswith(f"{_TAP}:")


def tap_of(event: InboundEvent) -> tuple[Action, str] | None:
    """The action and the notice's id; None if no button of ours says that."""
    parts = event.text.split(":", 2)
    if not is_tap(event) or len(parts) != 3 or parts[1] not in set(Action):
        return None
    return Action(parts[1]), parts[2]
