"""The shaper: when may a message run, by its clinic's and its sender's rate?

What it was told of has its place: a conversation's events are answered in LINE's order (ports.mailbox).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from core.domain.event import InboundEvent


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event. `org_per_minute` is its clinic's limit; 0: no rate is meant for it, it is not counted.
    `gather_ms`: for how long another is waited for after it; 0: it stands by itself; None: what waits already
    is not its concern."""

    event: InboundEvent
    org_per_minute: int
    gather_ms: int | None = 0


@dataclass(frozen=True, slots=True)
class Shaped:
    """`delays_ms` in the order of the arrivals; `now_ms` is Redis' clock, the one all instances share."""

    delays_ms: list[int]
    now_ms: int


class Shaper(Protocol):
    async def shape(self, arrivals: Sequence[Arrival]) -> Shaped:
        """Put the events in their conversations' mailboxes, count them in, and say by how long each must be
        delayed (0 if it conforms). Whoever leads the conversation before that takes it along. One that was
        announced before is not counted again: it is due when it was.

        Raises RedisUnavailableError within the time box (30 ms): the caller goes on without a delay.
        """
        ...
