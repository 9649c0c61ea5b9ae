"""The slots: caps, order, the waiting room, cancellation. Real Redis, one or two processes' clients."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from core.adapters import redis_keys
from core.adapters.redis_slots_operator import RedisSlotsOperator
from core.domain.errors import InvalidInputError, RedisUnavailableError
from core.ports.slots import NoSlotError, Refusal, SlotLostError
from tests.support.slots_scene import Room, client, process, request, until


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    connection = client(redis_url)
    yield connection
    await connection.aclose(close_connection_pool=True)


@pytest.fixture
def operator(redis: Redis) -> RedisSlotsOperator:
    return RedisSlotsOperator(redis)


async def waiting(operator: RedisSlotsOperator, count: int) -> None:
    async def there() -> bool:
        return (await operator.snapshot()).waiting == count

    await until(there)


async def nothing_is_left(redis: Redis) -> None:
    for part in ("leases", "queue", "waits", "orgs", "tickets"):
        assert not await redis.exists(redis_keys.slots(part)), part


async def test_a_free_slot_is_granted_at_once_and_given_back(
    redis_url: str, redis: Redis, operator: RedisSlotsOperator
) -> None:
    async with process(redis_url) as slots:
        async with slots.hold(request("a", "t")) as slot:
            assert slot.waited_ms < 500
            assert slot.place > 0
            assert (await operator.snapshot()).used == 1
        await nothing_is_left(redis)


async def test_the_limit_holds_for_all_processes_together(redis_url: str, redis: Redis) -> None:
    room = Room()
    async with process(redis_url, global_limit=3) as one, process(redis_url, global_limit=3) as two:
        await asyncio.gather(
            *(room.turn((one, two)[n % 2], f"org-{n % 7}", f"t{n}", 0.02) for n in range(30))
        )
    assert len(room.order) == 30
    assert room.most == 3
    await nothing_is_left(redis)


async def test_a_clinic_never_holds_more_than_the_cap_of_the_deployment(redis_url: str) -> None:
    room = Room()
    async with process(redis_url, global_limit=10, per_org_limit=2) as slots:
        await asyncio.gather(*(room.turn(slots, "a", f"t{n}", 0.02) for n in range(8)))
    assert room.most_of_one == 2


async def test_a_clinics_own_cap_may_exceed_the_deployments_but_not_the_limit(redis_url: str) -> None:
    room = Room()
    async with process(redis_url, global_limit=4, per_org_limit=2) as slots:
        await asyncio.gather(*(room.turn(slots, "a", f"a{n}", 0.05, org_cap=3) for n in range(6)))
        assert room.most_of_one == 3
        await asyncio.gather(*(room.turn(slots, "b", f"b{n}", 0.05, org_cap=9) for n in range(8)))
    assert room.most_of_one == 4


async def test_the_slot_goes_to_the_clinic_that_holds_the_fewest(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    """A campaign of one clinic waits; a message of another that comes later is next."""
    room, gates = Room(), [asyncio.Event() for _ in range(2)]
    async with process(redis_url, global_limit=2) as slots, asyncio.TaskGroup() as turns:
        for n in range(2):
            turns.create_task(room.turn(slots, "big", f"big{n}", gates[n].wait))
        await until(lambda: _ran(room, 2))
        for n in range(2, 6):
            turns.create_task(room.turn(slots, "big", f"big{n}", 0.01))
        await waiting(operator, 4)
        turns.create_task(room.turn(slots, "small", "small0", 0.01))
        await waiting(operator, 5)
        gates[0].set()
        await until(lambda: _ran(room, 3))
        assert room.order[2] == "small0"
        gates[1].set()
    assert sorted(room.order) == ["big0", "big1", "big2", "big3", "big4", "big5", "small0"]


async def _ran(room: Room, count: int) -> bool:
    return len(room.order) >= count


async def test_of_clinics_that_hold_the_same_the_longest_unserved_is_next(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    room, gate = Room(), asyncio.Event()
    async with process(redis_url, global_limit=1) as slots, asyncio.TaskGroup() as turns:
        turns.create_task(room.turn(slots, "z", "first", gate.wait))
        await until(lambda: _ran(room, 1))
        for count, ticket in enumerate(["c0", "a0", "b0", "a1", "c1", "b1"], start=1):
            turns.create_task(room.turn(slots, ticket[0], ticket, 0.001))
            await waiting(operator, count)
        gate.set()
    assert room.order == ["first", "c0", "a0", "b0", "c1", "a1", "b1"]


async def test_a_kept_place_comes_first_in_its_clinic_and_does_not_jump_others(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    room, gate = Room(), asyncio.Event()
    async with process(redis_url, global_limit=1) as slots, asyncio.TaskGroup() as turns:
        turns.create_task(room.turn(slots, "z", "first", gate.wait))
        await until(lambda: _ran(room, 1))
        await room.turn(slots, "a", "early", wait_s=0.05)
        (_, refusal), *_ = room.refused
        assert refusal.reason is Refusal.WAITED
        assert refusal.place is not None
        for count, ticket in enumerate(["b0", "a0", "a1"], start=1):
            turns.create_task(room.turn(slots, ticket[0], ticket, 0.001))
            await waiting(operator, count)
        turns.create_task(room.turn(slots, "a", "early", 0.001, place=refusal.place))
        await waiting(operator, 4)
        gate.set()
    assert room.order == ["first", "b0", "early", "a0", "a1"]


async def test_a_full_room_puts_back_and_an_earlier_place_takes_the_last_ones(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    room, gate = Room(), asyncio.Event()
    async with process(redis_url, global_limit=1, org_room=2) as slots, asyncio.TaskGroup() as turns:
        turns.create_task(room.turn(slots, "a", "first", gate.wait))
        await until(lambda: _ran(room, 1))
        await room.turn(slots, "a", "early", wait_s=0.01)
        for count in (1, 2):
            turns.create_task(room.turn(slots, "a", f"late{count}", 0.001))
            await waiting(operator, count)
        await room.turn(slots, "a", "late3")
        turns.create_task(room.turn(slots, "b", "other", 0.001))
        await waiting(operator, 3)
        early = room.refused[0][1].place
        turns.create_task(room.turn(slots, "a", "early", 0.001, place=early))
        await until(lambda: _refused(room, 3))
        gate.set()
    assert [(ticket, error.reason) for ticket, error in room.refused] == [
        ("early", Refusal.WAITED),
        ("late3", Refusal.ROOM_FULL),
        ("late2", Refusal.ROOM_FULL),
    ]
    assert all(error.retry_after_ms >= 1000 for _, error in room.refused[1:])
    assert room.order == ["first", "early", "other", "late1"]


async def _refused(room: Room, count: int) -> bool:
    return len(room.refused) >= count


async def test_a_wait_ends_at_its_deadline_and_leaves_nothing(
    redis_url: str, redis: Redis, operator: RedisSlotsOperator
) -> None:
    async with process(redis_url, global_limit=1) as slots:
        async with slots.hold(request("a", "holder")):
            before = asyncio.get_running_loop().time()
            with pytest.raises(NoSlotError) as refused:
                async with slots.hold(request("b", "waiter", wait_s=0.2)):
                    pytest.fail("there is no slot")
            assert 0.19 <= asyncio.get_running_loop().time() - before < 1.0
            assert refused.value.reason is Refusal.WAITED
            assert (await operator.snapshot()).waiting == 0
        await nothing_is_left(redis)


async def test_on_wait_is_called_once_and_only_when_a_turn_waits(redis_url: str) -> None:
    called: list[str] = []

    async def on_wait() -> None:
        called.append("waits")

    async with (
        process(redis_url, global_limit=1) as slots,
        slots.hold(request("a", "t1"), on_wait=on_wait),
    ):
        assert called == []
        with pytest.raises(NoSlotError):
            async with slots.hold(request("a", "t2", wait_s=0.1), on_wait=on_wait):
                pass
    assert called == ["waits"]


async def test_the_same_ticket_asked_for_by_two_processes_at_once_is_granted_once(redis_url: str) -> None:
    """Repeated, since it is a race."""
    async with process(redis_url) as one, process(redis_url) as two:
        for n in range(30):
            room = Room()
            await asyncio.gather(*(room.turn(slots, "a", f"t{n}", 0.01) for slots in (one, two)))
            assert len(room.order) == 1
            ((_, error),) = room.refused
            assert error.reason is Refusal.TAKEN


async def test_the_same_ticket_waiting_in_two_processes_is_granted_once(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    room, gate = Room(), asyncio.Event()
    async with (
        process(redis_url, global_limit=1) as one,
        process(redis_url, global_limit=1) as two,
        asyncio.TaskGroup() as turns,
    ):
        turns.create_task(room.turn(one, "z", "first", gate.wait))
        await until(lambda: _ran(room, 1))
        for slots in (one, two):
            turns.create_task(room.turn(slots, "a", "t", 0.01))
        await until(lambda: _refused(room, 1))
        await waiting(operator, 1)
        gate.set()
    assert room.order == ["first", "t"]


async def test_cancelling_at_any_moment_leaves_no_slot_and_no_waiter(redis_url: str, redis: Redis) -> None:
    """Thousands of moments would be better; random ones around the round trips find the same."""
    chance = random.Random(7)
    async with process(redis_url, global_limit=2) as slots:
        room = Room()
        for _ in range(60):
            tasks = [
                asyncio.create_task(room.turn(slots, f"o{n % 3}", f"t{n}", 0.002, wait_s=1)) for n in range(6)
            ]
            for task in tasks:
                await asyncio.sleep(chance.random() * 0.002)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await slots.close()
        await nothing_is_left(redis)
    assert room.most <= 2


async def test_cancelling_twice_still_gives_the_slot_back(redis_url: str, redis: Redis) -> None:
    async with process(redis_url) as slots:
        room = Room()
        task = asyncio.create_task(room.turn(slots, "a", "t", 10))
        await until(lambda: _ran(room, 1))
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await slots.close()
        await nothing_is_left(redis)


async def test_draining_hands_waiters_back_and_lets_holders_go_on(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    room, gate = Room(), asyncio.Event()
    async with process(redis_url, global_limit=1) as slots, asyncio.TaskGroup() as turns:
        turns.create_task(room.turn(slots, "a", "holder", gate.wait))
        await until(lambda: _ran(room, 1))
        for n in range(30):
            turns.create_task(room.turn(slots, f"o{n}", f"t{n}"))
        await waiting(operator, 30)
        async with asyncio.timeout(10):
            await slots.drain()
        view = await operator.snapshot()
        assert (view.used, view.waiting) == (1, 0)
        assert {error.reason for _, error in room.refused} == {Refusal.DRAINING}
        assert all(error.place for _, error in room.refused)
        with pytest.raises(NoSlotError) as refused:
            async with slots.hold(request("a", "new")):
                pass
        assert refused.value.reason is Refusal.DRAINING
        gate.set()
    assert room.order == ["holder"]


async def test_who_is_sent_away_before_redis_answer_is_read_keeps_its_place_too(redis_url: str) -> None:
    """Redis has queued it, its process does not know that yet."""
    queue, room = redis_keys.slots("queue"), Room()
    async with process(redis_url, global_limit=1) as slots, slots.hold(request("a", "holder")):
        with SyncRedis.from_url(redis_url) as observer:
            turn = asyncio.create_task(room.turn(slots, "b", "t"))
            while not observer.zcard(queue):
                await asyncio.sleep(0)
                time.sleep(0.005)  # noqa: ASYNC251  Redis answers, and nobody here reads it
        await slots.drain()
        await turn
    ((_, error),) = room.refused
    assert error.reason is Refusal.DRAINING
    assert error.place


async def test_a_lost_lease_cancels_the_block_and_says_so(redis_url: str, redis: Redis) -> None:
    keys = [redis_keys.slots(part) for part in ("leases", "tickets")]
    async with process(redis_url, lease_ms=600) as slots:
        with pytest.raises(SlotLostError):
            async with slots.hold(request("a", "t")):
                await asyncio.gather(redis.delete(*keys), asyncio.sleep(5))
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_a_lease_is_renewed_for_as_long_as_the_block_runs(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    async with process(redis_url, lease_ms=300) as slots, slots.hold(request("a", "t")):
        for _ in range(10):
            await asyncio.sleep(0.1)
            assert (await operator.snapshot()).used == 1


async def test_who_renews_for_ever_is_cut_off(redis_url: str, operator: RedisSlotsOperator) -> None:
    async with process(redis_url, lease_ms=300, max_hold_ms=700) as slots:
        before = asyncio.get_running_loop().time()
        with pytest.raises(SlotLostError):
            async with slots.hold(request("a", "t")):
                await asyncio.sleep(5)
        assert 0.5 < asyncio.get_running_loop().time() - before < 1.5
        assert (await operator.snapshot()).used == 0


async def test_a_cancellation_from_outside_stays_one_when_the_lease_is_lost_too(redis_url: str) -> None:
    async with process(redis_url, lease_ms=200, max_hold_ms=200) as slots:

        async def body() -> None:
            async with slots.hold(request("a", "t")):
                try:
                    await asyncio.sleep(5)
                except asyncio.CancelledError:
                    await asyncio.sleep(0.5)  # meanwhile the lease is lost
                    raise

        task = asyncio.create_task(body())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_an_override_counts_at_once_for_all(redis_url: str, operator: RedisSlotsOperator) -> None:
    room, gate = Room(), asyncio.Event()
    async with process(redis_url, global_limit=1) as slots, asyncio.TaskGroup() as turns:
        for n in range(4):
            turns.create_task(room.turn(slots, "a", f"t{n}", gate.wait))
        await waiting(operator, 3)
        await operator.set_limit(3)
        await until(lambda: _ran(room, 3))
        await operator.set_limit(2, org_id="a")
        await operator.set_limit(9)
        view = await operator.snapshot()
        assert (view.limit, view.configured_limit, view.overrides) == (9, 1, {"a": 2})
        assert view.waiting == 1
        await operator.set_limit(None, org_id="a")
        await until(lambda: _ran(room, 4))
        await operator.reset_limits()
        assert (await operator.snapshot()).limit == 1
        gate.set()
    with pytest.raises(InvalidInputError):
        await operator.set_limit(0)


async def test_two_hundred_waiters_cost_one_connection(redis_url: str, redis: Redis) -> None:
    """They come ten at a time, since those that ask at the same moment take a connection each to ask."""
    room, gate = Room(), asyncio.Event()
    operator = RedisSlotsOperator(redis)
    before = (await redis.info("clients"))["connected_clients"]
    async with process(redis_url, global_limit=1) as slots, asyncio.TaskGroup() as turns:
        turns.create_task(room.turn(slots, "a", "holder", gate.wait))
        await until(lambda: _ran(room, 1))
        for ten in range(0, 200, 10):
            for n in range(ten, ten + 10):
                turns.create_task(room.turn(slots, f"o{n}", f"t{n}", wait_s=20))
            await waiting(operator, ten + 10)
        channels = await redis.execute_command("PUBSUB", "CHANNELS", redis_keys.slots_wake("*"))
        assert len(channels) == 1
        info = await redis.info("clients")
        # Besides those that asked: the wake-ups', and one for the heartbeat.
        assert info["connected_clients"] - before <= 10 + 2
        gate.set()
    assert len(room.order) == 201


async def test_redis_down_fails_closed(redis_url: str) -> None:
    async with process("redis://127.0.0.1:1/0", call_ms=500) as slots:
        with pytest.raises(RedisUnavailableError):
            async with slots.hold(request("a", "t")):
                pytest.fail("nothing may run unthrottled")
