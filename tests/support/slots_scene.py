"""Slots for tests: a process's client, and a room that counts what runs at once as a provider would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from core.adapters.redis_connection import Redis, connect
from core.adapters.redis_slots import RedisSlots
from core.adapters.redis_slots_scripts import SlotOptions
from core.adapters.system_clock import SystemClock
from core.ports.slots import NoSlotError, Outcome, OutcomeKind, SlotRequest


def client(url: str) -> Redis:
    """As the functions have it: a connection that went stale in the pool is tried once more."""
    return connect(url, timeout_s=10)


@asynccontextmanager
async def process(url: str, **options: Any) -> AsyncIterator[RedisSlots]:
    """What one process of the turn function has."""
    redis = client(url)
    slots = RedisSlots(redis, SlotOptions(**options), SystemClock(), jitter=lambda: 0.0)
    try:
        yield slots
    finally:
        await slots.close()
        await redis.aclose(close_connection_pool=True)


def request(org: str, ticket: str, wait_s: float = 5.0, **more: Any) -> SlotRequest:
    return SlotRequest(org_id=org, ticket=ticket, wait_s=wait_s, **more)


@dataclass
class Room:
    """Runs turns and keeps what happened: the order of grants, refusals, and the most that ran at once."""

    order: list[str] = field(default_factory=list)
    refused: list[tuple[str, NoSlotError]] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)
    most: int = 0
    most_of_one: int = 0

    async def turn(
        self,
        slots: RedisSlots,
        org: str,
        ticket: str,
        body: Callable[[], Awaitable[Any]] | float = 0.0,
        *,
        outcome: OutcomeKind = OutcomeKind.OK,
        **more: Any,
    ) -> None:
        try:
            async with slots.hold(request(org, ticket, **more)) as slot:
                self.order.append(ticket)
                self.running[org] = self.running.get(org, 0) + 1
                self.most = max(self.most, sum(self.running.values()))
                self.most_of_one = max(self.most_of_one, self.running[org])
                try:
                    await (asyncio.sleep(body) if isinstance(body, float | int) else body())
                    slot.outcome = Outcome(outcome)
                finally:
                    self.running[org] -= 1
        except NoSlotError as exc:
            self.refused.append((ticket, exc))


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 5.0) -> None:
    """Wait for something that must come true soon. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110  what is waited for happens in another process
            await asyncio.sleep(0.01)
