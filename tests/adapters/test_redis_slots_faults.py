"""Slots when processes are killed or paused, and Redis forgets, goes back in time, or is away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from core.adapters import redis_keys
from core.adapters.redis_slots_operator import RedisSlotsOperator
from core.domain.errors import RedisUnavailableError
from core.local.redis_server import RedisServer
from core.ports.slots import SlotLostError
from tests.support.slots_scene import Room, client, process, request, until

ROOT = Path(__file__).parents[2]
LEASE_S = 1.0
QUICK: dict[str, Any] = {"lease_ms": 1000, "claim_ms": 600, "call_ms": 500}


class Worker:
    """Another process that takes slots; its events are read in the order in which they happened."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self.seen: list[tuple[str, str]] = []

    async def says(self, event: str, ticket: str, within_s: float = 8.0) -> None:
        assert self.child.stdout is not None
        async with asyncio.timeout(within_s):
            while (event, ticket) not in self.seen:
                line = await self.child.stdout.readline()
                assert line, f"the worker ended before {event} of {ticket}: {self.seen}"
                told = json.loads(line)
                self.seen.append((told["event"], told["ticket"]))

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.child.pid, number)


@asynccontextmanager
async def worker(url: str, *turns: dict[str, Any], **options: Any) -> AsyncIterator[Worker]:
    plan = json.dumps({"url": url, "options": {**QUICK, **options}, "turns": turns})
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.slots_worker", plan, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Worker(child)
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
        child._transport.close()  # type: ignore[attr-defined]


def turn(org: str, ticket: str, *, wait_s: float = 20, body_s: float = 20) -> dict[str, Any]:
    return {"org": org, "ticket": ticket, "wait_s": wait_s, "body_s": body_s}


@pytest.fixture
async def own_redis() -> AsyncIterator[RedisServer]:
    async with RedisServer(snapshots=True) as server:
        yield server


@asynccontextmanager
async def operating(url: str) -> AsyncIterator[RedisSlotsOperator]:
    connection = client(url)
    yield RedisSlotsOperator(connection)
    await connection.aclose(close_connection_pool=True)


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_the_slot_of_a_killed_holder_is_usable_again_within_its_lease(redis_url: str) -> None:
    room = Room()
    async with (
        worker(redis_url, turn("a", "killed"), global_limit=1) as other,
        process(redis_url, global_limit=1, **QUICK) as slots,
    ):
        await other.says("held", "killed")
        waiter = asyncio.create_task(room.turn(slots, "b", "next"))
        await asyncio.sleep(0.5)  # the claim has become a lease
        other.signal(signal.SIGKILL)
        killed_at = now()
        await waiter
        assert now() - killed_at < LEASE_S + 1
    assert room.order == ["next"]


async def test_a_killed_waiter_is_skipped(redis_url: str) -> None:
    room, gate = Room(), asyncio.Event()
    async with process(redis_url, global_limit=1, **QUICK) as slots, asyncio.TaskGroup() as turns:
        turns.create_task(room.turn(slots, "z", "holder", gate.wait))
        async with worker(redis_url, turn("a", "dead"), global_limit=1) as other:
            await other.says("waiting", "dead")
            turns.create_task(room.turn(slots, "b", "alive"))
            await asyncio.sleep(0.1)
            other.signal(signal.SIGKILL)
        await asyncio.sleep(LEASE_S + 0.1)  # its liveness mark is over
        before = now()
        gate.set()
        await until(lambda: _ran(room, 2))
        assert now() - before < 0.5
    assert room.order == ["holder", "alive"]


async def _ran(room: Room, count: int) -> bool:
    return len(room.order) >= count


async def test_a_waiter_killed_within_its_claim_costs_the_claim_at_most(redis_url: str) -> None:
    room, gate = Room(), asyncio.Event()
    async with process(redis_url, global_limit=1, **QUICK) as slots, asyncio.TaskGroup() as turns:
        turns.create_task(room.turn(slots, "z", "holder", gate.wait))
        async with worker(redis_url, turn("a", "dead"), global_limit=1) as other:
            await other.says("waiting", "dead")
            turns.create_task(room.turn(slots, "b", "alive"))
            await asyncio.sleep(0.1)
            other.signal(signal.SIGSTOP)  # so that it can't take up what it is granted
            before = now()
            gate.set()
            await asyncio.sleep(0.1)
            other.signal(signal.SIGKILL)
        await until(lambda: _ran(room, 2))
        assert now() - before < QUICK["claim_ms"] / 1000 + 1
    assert room.order == ["holder", "alive"]


async def test_a_holder_paused_past_its_lease_is_cancelled_and_changes_nothing(redis_url: str) -> None:
    async with (
        operating(redis_url) as operator,
        worker(redis_url, turn("a", "same-ticket"), global_limit=1) as other,
        process(redis_url, global_limit=1, **QUICK) as slots,
    ):
        await other.says("held", "same-ticket")
        other.signal(signal.SIGSTOP)
        await asyncio.sleep(LEASE_S + 0.2)
        # Even the same ticket: its late renewal and release carry an old fence.
        async with slots.hold(request("a", "same-ticket")):
            other.signal(signal.SIGCONT)
            await other.says("lost", "same-ticket")
            await asyncio.sleep(0.5)
            assert (await operator.snapshot()).used == 1


async def test_a_waiter_paused_past_its_claim_does_not_run_on_it(redis_url: str) -> None:
    room, gate = Room(), asyncio.Event()
    async with (
        worker(redis_url, turn("a", "slept", body_s=0.1), global_limit=1) as other,
        process(redis_url, global_limit=1, **QUICK) as slots,
    ):
        holder = asyncio.create_task(room.turn(slots, "z", "holder", gate.wait))
        await other.says("waiting", "slept")
        other.signal(signal.SIGSTOP)
        gate.set()
        await holder
        await asyncio.sleep(QUICK["claim_ms"] / 1000 + 0.1)
        async with slots.hold(request("b", "meanwhile")):
            other.signal(signal.SIGCONT)
            await asyncio.sleep(0.5)
            assert ("held", "slept") not in other.seen
        await other.says("done", "slept")  # it queued again by itself


async def test_forgotten_scripts_are_loaded_again(redis_url: str) -> None:
    room = Room()
    connection = client(redis_url)
    async with process(redis_url, global_limit=2) as slots:
        turns = [asyncio.create_task(room.turn(slots, f"o{n % 4}", f"t{n}", 0.02)) for n in range(40)]
        for _ in range(20):
            await connection.script_flush()
            await asyncio.sleep(0.01)
        await asyncio.gather(*turns)
    await connection.aclose(close_connection_pool=True)
    assert len(room.order) == 40


async def test_connections_cut_in_the_middle_lose_and_leak_nothing(redis_url: str) -> None:
    """A turn whose connection is cut twice in a row fails and comes again, as the queue would send it."""
    room = Room()
    connection = client(redis_url)

    async def again_and_again(slots: Any, org: str, ticket: str) -> None:
        while ticket not in room.order:
            with suppress(RedisUnavailableError):
                await room.turn(slots, org, ticket, 0.02, wait_s=15)

    patient = {**QUICK, "call_ms": 2000}
    async with process(redis_url, global_limit=2, **patient) as slots, asyncio.TaskGroup() as turns:
        for n in range(40):
            turns.create_task(again_and_again(slots, f"o{n % 4}", f"t{n}"))
        for _ in range(10):
            await asyncio.sleep(0.05)
            for kind in ("normal", "pubsub"):
                await connection.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    async with operating(redis_url) as operator:
        await asyncio.sleep(QUICK["claim_ms"] / 1000)  # a release that was cut ends with its claim
        view = await operator.snapshot()
    await connection.aclose(close_connection_pool=True)
    assert set(room.order) == {f"t{n}" for n in range(40)}
    assert room.most <= 2
    assert (view.used, view.waiting) == (0, 0)


@pytest.mark.parametrize("lease_ms", [QUICK["lease_ms"], 9_000])
async def test_a_wake_up_that_is_lost_costs_a_claim_at_most(redis_url: str, lease_ms: int) -> None:
    """The grant is announced while this process's wake channel is not there, and nobody else asks or gives
    back meanwhile: only the waiter's own heartbeat can find it."""
    room, gate = Room(), asyncio.Event()
    options = {**QUICK, "lease_ms": lease_ms}
    async with process(redis_url, global_limit=1, **options) as slots, asyncio.TaskGroup() as turns:
        turns.create_task(room.turn(slots, "a", "holder", gate.wait))
        await until(lambda: _ran(room, 1))
        turns.create_task(room.turn(slots, "b", "waiter"))
        await asyncio.sleep(0.1)
        assert slots._room._wake is not None
        await slots._room._wake.close()
        gate.set()
        before = now()
        await until(lambda: _ran(room, 2))
        assert now() - before < QUICK["claim_ms"] / 1000


async def _restart_empty(redis: RedisServer) -> None:
    await redis.restart_empty()


async def _flush(redis: RedisServer) -> None:
    """Its scripts stay known."""
    connection = client(redis.url)
    await connection.flushall()
    await connection.aclose(close_connection_pool=True)


async def _flush_and_look(redis: RedisServer) -> None:
    """An operator's command is the first to come."""
    await _flush(redis)
    async with operating(redis.url) as operator:
        assert (await operator.snapshot()).used == 0


@pytest.mark.parametrize("lose", [_restart_empty, _flush, _flush_and_look])
async def test_who_holds_a_slot_keeps_it_when_redis_lost_its_data_and_nobody_comes_on_top(
    own_redis: RedisServer, lose: Callable[[RedisServer], Awaitable[None]]
) -> None:
    """Holders are taken in again, waiters queue again, newcomers wait, and then the limit holds as before."""
    room, gate = Room(), asyncio.Event()
    async with (
        process(own_redis.url, global_limit=2, **QUICK) as slots,
        process(own_redis.url, global_limit=2, **QUICK) as other,
        asyncio.TaskGroup() as turns,
    ):
        await room.turn(other, "z", "warm")
        for ticket in ("h1", "h2"):
            turns.create_task(room.turn(slots, "a", ticket, gate.wait, wait_s=10))
        await until(lambda: _ran(room, 3))
        turns.create_task(room.turn(slots, "b", "waiter", 0.1, wait_s=10))
        await asyncio.sleep(0.1)
        await lose(own_redis)
        for n in range(3):
            turns.create_task(room.turn(other, f"o{n}", f"t{n}", 0.1, wait_s=10))
        await asyncio.sleep(1.5 * LEASE_S)
        assert sorted(room.order) == ["h1", "h2", "warm"]
        gate.set()
        before = now()
        await until(lambda: _ran(room, 7))
        assert now() - before < LEASE_S
    assert room.most == 2
    assert not room.refused


async def test_slots_of_those_who_died_with_redis_are_usable_within_a_lease(
    own_redis: RedisServer,
) -> None:
    room = Room()
    async with process(own_redis.url, global_limit=1, **QUICK) as slots:
        await room.turn(slots, "a", "before")
        await own_redis.restart_empty()
        before = now()
        await room.turn(slots, "a", "after")
        assert 0.9 * LEASE_S < now() - before < LEASE_S + 0.5
    assert room.order == ["before", "after"]


async def test_a_first_start_waits_for_nobody(own_redis: RedisServer) -> None:
    room = Room()
    async with process(own_redis.url, **QUICK) as slots:
        before = now()
        await room.turn(slots, "a", "first")
        assert now() - before < 0.5


async def test_a_snapshot_restored_heals_within_a_lease(own_redis: RedisServer) -> None:
    """A failover that lost the last writes: leases that were given back and waiters that left are there
    again, a lease and a waiter that came since are not."""
    room = Room()
    lost: list[str] = []
    async with process(own_redis.url, global_limit=2, **QUICK) as slots, asyncio.TaskGroup() as turns:
        gate = asyncio.Event()
        old = [turns.create_task(room.turn(slots, "a", f"old{n}", gate.wait)) for n in range(2)]
        gone = turns.create_task(room.turn(slots, "b", "gone", 0.0, wait_s=0.3))
        await asyncio.sleep(0.1)
        await own_redis.snapshot()
        await gone
        gate.set()
        await asyncio.gather(*old)

        async def holder() -> None:
            try:
                async with slots.hold(request("c", "new")):
                    await asyncio.sleep(20)
            except SlotLostError:
                lost.append("new")

        turns.create_task(holder())
        await asyncio.sleep(0.1)
        before = now()
        await own_redis.restart()
        for n in range(3):
            turns.create_task(room.turn(slots, f"o{n}", f"t{n}", 0.05, wait_s=10))
        await until(lambda: _ran(room, 5), within_s=6)
        assert now() - before < 2 * LEASE_S + 1
        assert lost == ["new"]
    assert room.most <= 2


async def test_a_strange_message_does_not_end_the_wake_channel(redis_url: str) -> None:
    room, gate = Room(), asyncio.Event()
    connection = client(redis_url)
    async with process(redis_url, global_limit=1) as slots, asyncio.TaskGroup() as turns:
        turns.create_task(room.turn(slots, "a", "holder", gate.wait))
        await until(lambda: _ran(room, 1))
        turns.create_task(room.turn(slots, "b", "waiter"))
        await asyncio.sleep(0.1)
        (waiter,) = slots._room.waiting.values()
        await connection.publish(slots._room.channel, f"{waiter.nonce} no numbers")
        await asyncio.sleep(0.4)  # the channel is opened again
        gate.set()
        before = now()
        await until(lambda: _ran(room, 2))
        assert now() - before < 0.5
    await connection.aclose(close_connection_pool=True)


async def test_redis_gone_for_longer_than_a_lease_ends_waits_and_blocks(own_redis: RedisServer) -> None:
    """Nothing goes on unthrottled; when Redis is back, so are the slots."""
    room = Room()
    ended: list[BaseException] = []

    async def one(slots: Any, org: str) -> None:
        try:
            async with slots.hold(request(org, "t", wait_s=20)):
                await asyncio.sleep(20)
        except (SlotLostError, RedisUnavailableError) as exc:
            ended.append(exc)

    async with process(own_redis.url, global_limit=1, **QUICK) as slots:
        tasks = [asyncio.create_task(one(slots, "a"))]
        await asyncio.sleep(0.1)
        tasks.append(asyncio.create_task(one(slots, "b")))
        await asyncio.sleep(0.1)
        await own_redis.kill()
        before = now()
        await asyncio.gather(*tasks)
        assert now() - before < LEASE_S + 4
        assert {type(exc) for exc in ended} == {SlotLostError, RedisUnavailableError}
        await own_redis.restart()
        await room.turn(slots, "c", "after")
    assert room.order == ["after"]


async def test_a_redis_that_hangs_fails_closed_in_time(own_redis: RedisServer) -> None:
    async with process(own_redis.url, **QUICK) as slots:
        async with slots.hold(request("a", "warm")):
            pass
        own_redis.pause()
        before = now()
        with pytest.raises(RedisUnavailableError):
            async with slots.hold(request("a", "t")):
                pytest.fail("nothing may run unthrottled")
        assert now() - before < 1.0
        own_redis.resume()


async def test_the_keys_of_an_idle_room_are_few(redis_url: str) -> None:
    room = Room()
    async with process(redis_url) as slots:
        await asyncio.gather(*(room.turn(slots, f"o{n}", f"t{n}", 0.001) for n in range(50)))
    connection: Redis = client(redis_url)
    found: list[Any] = await connection.keys("*")
    keys = {key.decode() for key in found}
    await connection.aclose(close_connection_pool=True)
    assert keys <= {redis_keys.slots(part) for part in ("state", "caps", "calls")}
