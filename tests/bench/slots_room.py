"""The waiting room under load, with real clients: how busy, how fair, how many round trips, how quick."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from core.adapters.redis_slots import RedisSlots
from core.ports.slots import Outcome, OutcomeKind
from tests.bench.slots_baselines import PollingSemaphore, RoundRobin
from tests.support.slots_scene import client, process, request

Hold = Callable[[str, str], Any]
"""A context manager that holds a slot for (org, ticket)."""


@asynccontextmanager
async def holding(slots: RedisSlots, org: str, ticket: str) -> AsyncIterator[None]:
    async with slots.hold(request(org, ticket, 600)) as slot:
        yield
        slot.outcome = Outcome(OutcomeKind.OK)


async def shares(
    hold: Callable[[int], Hold], turn_s: dict[str, float], *, clients: int, seconds: float
) -> dict[str, float]:
    """Slot-seconds by clinic in a window of `seconds`, while `clients` coroutines of every clinic keep
    asking. `hold(n)`: how client number n holds."""
    loop = asyncio.get_running_loop()
    busy: dict[str, float] = defaultdict(float)
    opens = loop.time() + min(1.0, seconds / 10)
    closes = opens + seconds

    async def customer(org: str, number: int) -> None:
        count = 0
        while loop.time() < closes:
            count += 1
            async with hold(number)(org, f"{org}-{number}-{count}"):
                began = loop.time()
                try:
                    await asyncio.sleep(turn_s[org])
                finally:
                    busy[org] += max(0.0, min(loop.time(), closes) - max(began, opens))

    customers = [asyncio.create_task(customer(org, number)) for number in range(clients) for org in turn_s]
    await asyncio.sleep(max(0.0, closes - loop.time()))
    for task in customers:
        task.cancel()
    await asyncio.gather(*customers, return_exceptions=True)
    return busy


async def fair_shares(
    url: str, turn_s: dict[str, float], *, clients: int, seconds: float
) -> dict[str, float]:
    """With two processes' clients."""
    async with AsyncExitStack() as stack:
        rooms = [
            await stack.enter_async_context(process(url, org_room=1000, call_ms=10_000)) for _ in range(2)
        ]

        def hold(number: int) -> Hold:
            return lambda org, ticket: holding(rooms[number % 2], org, ticket)

        return await shares(hold, turn_s, clients=clients, seconds=seconds)


async def round_robin_shares(turn_s: dict[str, float], *, clients: int, seconds: float) -> dict[str, float]:
    order = RoundRobin(15)
    return await shares(lambda _: lambda org, _: order.hold(org), turn_s, clients=clients, seconds=seconds)


async def polling_shares(
    url: str, turn_s: dict[str, float], *, clients: int, seconds: float
) -> dict[str, float]:
    redis = client(url)
    semaphore = PollingSemaphore(redis, 15)
    try:
        return await shares(
            lambda _: lambda _, ticket: semaphore.hold(ticket), turn_s, clients=clients, seconds=seconds
        )
    finally:
        await redis.aclose(close_connection_pool=True)


def jain(values: list[float]) -> float:
    """1: all got the same."""
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


async def commands(redis: Redis) -> int:
    """Round trips that clients made so far; what scripts do inside is not one."""
    stats = await redis.info("commandstats")
    asked = ("evalsha", "eval", "subscribe", "ping")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in asked)


async def trips_uncontended(url: str, pairs: int = 500) -> float:
    redis = client(url)
    async with process(url) as slots:
        async with holding(slots, "a", "warm"):
            pass
        before = await commands(redis)
        for n in range(pairs):
            async with holding(slots, "a", f"t{n}"):
                pass
        trips = (await commands(redis) - before) / pairs
    await redis.aclose(close_connection_pool=True)
    return trips


async def trips_with_waiters(url: str, *, waiters: int = 200, turn_s: float = 0.1) -> tuple[float, float]:
    """Ours and the polling semaphore's, a turn, each with `waiters` waiting for 15 slots."""
    redis = client(url)
    orgs = [f"o{n % 40}" for n in range(waiters + 15)]

    async def all_of(hold: Hold) -> float:
        async def one(number: int) -> None:
            async with hold(orgs[number], f"t{number}"):
                await asyncio.sleep(turn_s)

        before = await commands(redis)
        await asyncio.gather(*(one(number) for number in range(len(orgs))))
        return (await commands(redis) - before) / len(orgs)

    async with process(url, org_room=1000, call_ms=10_000) as slots:
        ours = await all_of(lambda org, ticket: holding(slots, org, ticket))
    await redis.delete("polling")
    semaphore = PollingSemaphore(redis, 15)
    await all_of(lambda _, ticket: semaphore.hold(ticket))
    theirs = semaphore.trips / len(orgs)
    await redis.aclose(close_connection_pool=True)
    return ours, theirs


@dataclass(frozen=True, slots=True)
class HandOff:
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, gaps: list[float]) -> HandOff:
        """From seconds."""
        gaps = sorted(gaps)
        return cls(gaps[len(gaps) // 2] * 1000, gaps[int(len(gaps) * 0.99)] * 1000)


async def hand_off(url: str, *, turns: int = 1000, waiters: int = 20) -> tuple[HandOff, HandOff]:
    """From the end of a turn to the beginning of the next one in the other process's client; ours and the
    polling semaphore's (fewer turns: it is slow)."""
    redis = client(url)
    semaphore = PollingSemaphore(redis, 1)
    async with (
        process(url, global_limit=1, org_room=10_000, call_ms=10_000) as one,
        process(url, global_limit=1, org_room=10_000, call_ms=10_000) as two,
    ):
        rooms = (one, two)
        ours = await _gaps(
            lambda number: lambda ticket: holding(rooms[number % 2], f"o{number}", ticket), turns, waiters
        )
    theirs = await _gaps(lambda _: semaphore.hold, min(turns, 60), waiters)
    await redis.aclose(close_connection_pool=True)
    return ours, theirs


async def bare_publish(url: str, *, messages: int = 1000) -> HandOff:
    """The least that a hand-off takes here: from publishing to the message being read, nothing else."""
    redis = client(url)
    gaps: list[float] = []
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe("bare")
        await pubsub.get_message(timeout=1)
        for _ in range(messages):
            began = time.perf_counter()
            await redis.publish("bare", "message")
            await pubsub.get_message(timeout=1)
            gaps.append(time.perf_counter() - began)
            await asyncio.sleep(0.001)
    await redis.aclose(close_connection_pool=True)
    return HandOff.of(gaps)


async def _gaps(hold: Callable[[int], Callable[[str], Any]], turns: int, waiters: int) -> HandOff:
    gaps: list[float] = []
    ended_at = 0.0

    async def customer(number: int) -> None:
        nonlocal ended_at
        for count in range(turns // waiters):
            async with hold(number)(f"t{number}-{count}"):
                if ended_at:
                    gaps.append(time.perf_counter() - ended_at)
                await asyncio.sleep(0.002)
                ended_at = time.perf_counter()

    await asyncio.gather(*(customer(number) for number in range(waiters)))
    return HandOff.of(gaps)
