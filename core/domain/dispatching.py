"""The queue's rate and room, by the same formulas as terraform/queue.tf."""

from __future__ import annotations

import math

MAX_PER_S = 500
"""Cloud Tasks: dispatches a second, one queue."""
MAX_AT_ONCE = 5_000
"""Cloud Tasks: dispatches at once, one queue."""
_CALL_S = 2


def dispatches_per_s(slots: int, requests_per_minute: int | None) -> int:
    """Twice the provider's rate; without one, twice what the slots can do with calls of 2 s."""
    calls_per_s = requests_per_minute / 60 if requests_per_minute else slots / _CALL_S
    return max(1, min(MAX_PER_S, math.ceil(2 * calls_per_s)))


def waiting_room(slots: int, slot_wait_s: float) -> int:
    """Dispatches that hold a slot, or can expect one within `slot_wait_s`."""
    return math.ceil(slots * (1 + slot_wait_s / _CALL_S))


def room(slots: int, slot_wait_s: float, *, instances: int, concurrency: int) -> int:
    """Dispatches at once: no more than the instances take."""
    return min(waiting_room(slots, slot_wait_s), instances * concurrency, MAX_AT_ONCE)
