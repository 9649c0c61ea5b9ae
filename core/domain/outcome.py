"""What came of a turn, without a word of it, and what that counts in its clinic's day.

`org_stats/{org_id}:{YYYYMMDD}` has the sums, each turn's added in the commits of that turn:

    org_id, day       as in the document's name, for queries
    turns             = answered (by the model) + fixed + fallbacks + stopped (by the budget)
    conversations     turns that began one
    handoffs, bookings, missing, images, voices
    confirmed         bookings that staff confirmed, on the day they did
    pushes            to customers and to the desk, each a paid message; not an operator's own
                      (`conversations resume --notify`)
    stages.{stage}    answered turns, by the stage that they left the conversation at
    reached.{stage}   those of them that brought the conversation there
    hours.{HH}        turns, by the hour of the day in which they began
    waits.{seconds}   answered turns, by the time from the oldest message to the answer: at most so many
                      seconds, and more than the next smaller number

A turn's document says all that it counts (`turn_counts`), so the sums can be counted again from the journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from core.domain.desk import DESK

if TYPE_CHECKING:
    from core.domain.turn import TurnRecord

COLLECTION = "org_stats"
KINDS: Final = ("answered", "fixed", "fallbacks", "stopped")
COUNTERS: Final = (
    "turns",
    *KINDS,
    "conversations",
    "handoffs",
    "bookings",
    "confirmed",
    "missing",
    "pushes",
    "images",
    "voices",
)
BY_NAME: Final = ("stages", "reached", "hours", "waits")
WAITS_S: Final = (1, 2, 3, 5, 8, 12, 20, 30, 45, 60, 90, 120, 180, 300, 600, 3600, 86_400)
NOTHING_LEFT = "nothing_left"
"""Why a turn said nothing: all of its messages were unsent, or its customer has left."""

Counts = Mapping[str, int]
"""By counter, those in a map with their name in it: `stages.booking`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`opens`: the turn begins a conversation, in this `hour` of the day. `stage`: where it left the
    conversation, "" if no model answered; `moved`: it was elsewhere before. `handed_off`: people go on.
    `booked`: an appointment was asked for. `images`, `voices`: how many the model was given."""

    opens: bool = False
    hour: int | None = None
    stage: str = ""
    moved: bool = False
    handed_off: bool = False
    booked: bool = False
    images: int = 0
    voices: int = 0

    def encode(self) -> dict[str, Any]:
        """What differs from nothing."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value or name == "hour"}

    @classmethod
    def decode(cls, data: Mapping[str, Any] | None) -> Outcome:
        return cls(**{name: value for name, value in (data or {}).items() if name in cls.__slots__})


def turn_counts(record: TurnRecord) -> Counts:
    """What the turn counts as it stands; nothing before it has a reply, or if it was met with silence."""
    pushes = {"pushes": 1} if record.delivered_how == "push" else {}
    kind = _kind(record)
    if kind is None or record.money.reason in {DESK, NOTHING_LEFT}:
        return pushes  # what is said in the desk is no customer's turn
    outcome = record.outcome
    counts = {
        "turns": 1,
        kind: 1,
        "conversations": int(outcome.opens),
        "handoffs": int(outcome.handed_off),
        "bookings": int(outcome.booked),
        "missing": int(record.question_id is not None),
        "images": outcome.images,
        "voices": outcome.voices,
        **pushes,
    }
    if outcome.hour is not None:
        counts[f"hours.{outcome.hour:02}"] = 1
    if outcome.stage:
        counts[f"stages.{outcome.stage}"] = 1
        counts[f"reached.{outcome.stage}"] = int(outcome.moved)
    if kind == "answered" and record.events and record.answered_ms:
        counts[f"waits.{_wait_s(record)}"] = 1
    return {name: count for name, count in counts.items() if count}


def difference(before: Counts, after: Counts) -> Counts:
    changed = {name: after.get(name, 0) - before.get(name, 0) for name in {**before, **after}}
    return {name: count for name, count in sorted(changed.items()) if count}


def _kind(record: TurnRecord) -> str | None:
    """Of KINDS, by who made its reply. A reply that LINE did not take was made all the same, and so was one
    whose customer was forgotten afterwards."""
    if record.state in {"draft", "reserved", "ignored"}:
        return None
    decision = record.money.decision
    if decision == "stop":
        return "stopped"
    if record.failed_to_answer:
        return "fallbacks"
    if record.answered_ms is None:
        return None
    if not decision:
        return None
    return "fixed" if decision == "none" else "answered"


def _wait_s(record: TurnRecord) -> int:
    """The smallest of WAITS_S that the wait does not exceed."""
    waited_ms = (record.answered_ms or 0) - min(event.arrived_ms for event in record.events)
    return next((seconds for seconds in WAITS_S if waited_ms <= seconds * 1000), WAITS_S[-1])
