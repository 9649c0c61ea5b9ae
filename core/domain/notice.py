"""A notice to a clinic's staff: `notices/{id}`, written in the commit that causes it, pushed to the desk
once.

States: pending -> sent | kept (it can't be sent now: no desk, or the month's messages are used up) | failed
(LINE refuses it for good). A kept notice is sent when that has become possible. The customer's words are not
copied here: they stand in the turn, and whoever has them erased there has them erased.
This module is the one place that knows the document's fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from core.domain.task import EffectKind, EffectTask

COLLECTION = "notices"
RETENTION = timedelta(days=30)

NO_DESK, NO_QUOTA = "no_desk", "quota"
"""Why a notice is kept."""
UNWANTED = "unwanted"
"""Why one is not sent: the clinic wants none of its kind."""


class NoticeKind(StrEnum):
    HANDOFF = "handoff"
    BOOKING = "booking"
    URGENT = "urgent"
    FAILED = "failed"


class Action(StrEnum):
    """What staff tap under a notice."""

    TAKE = "take"
    RESUME = "resume"
    CONFIRM = "confirm"
    DECLINE = "decline"


ACTIONS: Final[Mapping[str, tuple[Action, ...]]] = {
    NoticeKind.HANDOFF: (Action.TAKE, Action.RESUME),
    NoticeKind.BOOKING: (Action.CONFIRM, Action.DECLINE),
}
"""In the order of the buttons; of other kinds there is nothing to tap."""


class NoticeState(StrEnum):
    PENDING = "pending"
    SENT = "sent"
    KEPT = "kept"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Tap:
    """Who did it first: `by` is their name at LINE, "" if LINE did not say; `event_id` recognises a tap that
    is delivered twice."""

    event_id: str
    at_ms: int
    by: str = ""
    user_id: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """`chat_id` and `user_id`: the customer's, or the group's and the member's. `detail`: why, in a few
    words. `until_ms`: when the matter ends by itself. `has_buttons` False: there is nothing to tap.
    `desk_chat_id`: where it goes or went, fixed with `name` (the customer's) before LINE is called, so that
    whoever tries again says the same. `sent_day` (YYYYMMDD): where its push counts. `count`: how many
    failures it stands for. `is_open`: staff have not dealt with it."""

    id: str
    org_id: str
    kind: str
    created_ms: int
    turn_id: str = ""
    chat_id: str = ""
    chat_type: str = "user"
    user_id: str = ""
    detail: str = ""
    until_ms: int | None = None
    has_buttons: bool = True
    state: NoticeState = NoticeState.PENDING
    reason: str = ""
    desk_chat_id: str = ""
    name: str = ""
    sent_ms: int | None = None
    sent_day: str = ""
    count: int = 1
    is_open: bool = True
    taps: Mapping[str, Tap] = field(default_factory=dict)

    @property
    def actions(self) -> tuple[Action, ...]:
        return ACTIONS.get(self.kind, ()) if self.has_buttons else ()

    @property
    def task(self) -> EffectTask:
        return EffectTask(EffectKind.NOTICE, self.org_id, self.id)

    def is_due_to_staff(self, now_ms: int) -> bool:
        """It still waits for them."""
        return self.is_open and (self.until_ms is None or now_ms < self.until_ms)

    def tapped(self, action: Action, tap: Tap) -> Notice:
        return replace(self, taps={**self.taps, action.value: tap})

    def encode(self) -> dict[str, Any]:
        """The whole document; `created_at` orders listings, `expire_at` is the TTL field."""
        created = datetime.fromtimestamp(self.created_ms / 1000, UTC)
        data = {name: getattr(self, name) for name in _PLAIN}
        taps = {action: {k: getattr(tap, k) for k in _TAP} for action, tap in self.taps.items()}
        return {
            **data,
            "kind": str(self.kind),
            "state": self.state.value,
            "taps": taps,
            "created_at": created,
            "expire_at": created + RETENTION,
        }

    @classmethod
    def decode(cls, notice_id: str, data: Mapping[str, Any]) -> Notice:
        """Fields that an older version did not write keep their defaults."""
        plain: dict[str, Any] = {k: data[k] for k in _PLAIN if k in data}
        taps = data.get("taps") or {}
        return cls(
            id=notice_id,
            state=NoticeState(data.get("state", NoticeState.PENDING)),
            taps={action: Tap(**{k: tap[k] for k in _TAP if k in tap}) for action, tap in taps.items()},
            **plain,
        )


_TAP = ("event_id", "at_ms", "by", "user_id")
_PLAIN = (
    "org_id",
    "kind",
    "created_ms",
    "turn_id",
    "chat_id",
    "chat_type",
    "user_id",
    "detail",
    "until_ms",
    "has_buttons",
    "reason",
    "desk_chat_id",
    "name",
    "sent_ms",
    "sent_day",
    "count",
    "is_open",
)
