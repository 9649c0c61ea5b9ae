"""No more is in memory at once than there is room for, and a large one's turn comes."""

from __future__ import annotations

import asyncio
import random

import pytest

from core.usecases.turn.room import Room


async def test_never_more_than_the_room_whoever_is_cancelled_and_all_of_it_is_free_again() -> None:
    room, dice, now, most = Room(30), random.Random(7), 0, 0

    async def take(size: int) -> None:
        nonlocal now, most
        async with room.taking(size):
            now += size
            most = max(most, now)
            try:
                await asyncio.sleep(dice.random() / 100)
            finally:
                now -= size

    tasks = [asyncio.create_task(take(dice.randint(1, 30))) for _ in range(200)]
    await asyncio.sleep(0.01)
    for task in dice.sample(tasks, 60):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most <= 30
    async with asyncio.timeout(1), room.taking(30):
        pass


async def test_a_large_one_is_not_overtaken() -> None:
    room, order = Room(10), list[str]()

    async def take(name: str, size: int) -> None:
        async with room.taking(size):
            order.append(name)

    async with room.taking(5):
        large = asyncio.create_task(take("large", 10))
        await asyncio.sleep(0)
        small = asyncio.create_task(take("small", 1))
        await asyncio.sleep(0)
        assert order == []
    await asyncio.gather(large, small)
    assert order == ["large", "small"]


@pytest.mark.parametrize("size", [0, 10])
async def test_nothing_and_everything_are_taken_at_once(size: int) -> None:
    room = Room(10)
    async with asyncio.timeout(1), room.taking(size):
        pass
