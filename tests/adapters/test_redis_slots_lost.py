"""Redis comes back empty while slots are held: nobody may run in the place of those who still call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from core.local.redis_server import RedisServer
from core.ports.slots import SlotLostError
from tests.adapters.slots_scene import Room, process

LEASE_S = 0.9


@pytest.fixture
async def own_redis() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


async def test_a_limit_holds_when_redis_comes_back_empty(own_redis: RedisServer) -> None:
    options = {"global_limit": 3, "per_org_limit": 2, "lease_ms": round(LEASE_S * 1000)}
    room = Room()

    async def holder(slots: object, ticket: str) -> None:
        with pytest.raises(SlotLostError):
            await room.turn(slots, "a", ticket, 20)  # type: ignore[arg-type]

    async with process(own_redis.url, **options) as one, process(own_redis.url, **options) as other:
        # Both have spoken with this Redis before.
        await asyncio.gather(room.turn(one, "a", "first"), room.turn(other, "b", "second"))
        async with asyncio.TaskGroup() as turns:
            for n in range(2):
                turns.create_task(holder(one, f"held{n}"))
            await asyncio.sleep(0.1)
            await own_redis.restart_empty()
            for n in range(4):
                turns.create_task(room.turn(other, "a", f"new{n}", 0.05, wait_s=10))
    assert room.most_of_one == 2
    assert {f"new{n}" for n in range(4)} <= set(room.order)
