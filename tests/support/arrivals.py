"""Messages that have just come, and the names of their tasks."""

from __future__ import annotations

import time
from itertools import count

from core.domain.event import EventKind, InboundEvent
from core.domain.task import TurnTask
from core.ports.shaper import Arrival

_ids = count()


def event(sender: str = "", org: str = "a") -> InboundEvent:
    number = next(_ids)
    now_ms = time.time_ns() // 1_000_000
    return InboundEvent(f"E{number}", org, sender or f"U{number}", EventKind.TEXT, now_ms, now_ms, text="?")


def names(arrived: list[Arrival]) -> list[str]:
    return [TurnTask(arrival.event, "").name for arrival in arrived]
