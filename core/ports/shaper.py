"""The shaper: when may a message run, by its clinic's and its sender's rate (audit row 12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message to be shaped. `org_per_minute` is the clinic's own limit."""

    org_id: str
    sender: str
    org_per_minute: int


@dataclass(frozen=True, slots=True)
class Shaped:
    """`delays_ms` in the order of the arrivals; `now_ms` is Redis' clock, the one all instances share."""

    delays_ms: list[int]
    now_ms: int


class Shaper(Protocol):
    async def shape(self, arrivals: Sequence[Arrival]) -> Shaped:
        """Count the arrivals in and say by how long each must be delayed (0 if it conforms).

        Raises RedisUnavailableError within the time box (30 ms): the caller goes on without a delay.
        """
        ...
