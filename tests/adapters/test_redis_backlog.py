"""A clinic's backlog in a real Redis: new turns are planned, refused ones come back, slots filled."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from redis.asyncio import Redis

from core.adapters import redis_keys
from core.adapters.redis_backlog import RedisBacklog
from core.adapters.redis_mailbox import RedisMailbox
from core.adapters.redis_shaper import RedisShaper
from core.domain.errors import TasksUnavailableError
from core.domain.task import EffectTask, TurnTask
from core.ports.backlog import Pace
from core.ports.shaper import Arrival
from core.ports.tasks import Scheduled
from tests.support.arrivals import event, names

PACE = Pace(at_once=5, hold_ms=4_000)  # a place every 0.8 s, five in the room
DISPATCHES_PER_S = 16


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    redis = Redis.from_url(redis_url)
    yield redis
    await redis.aclose()


@pytest.fixture
def shaper(redis: Redis) -> RedisShaper:
    return RedisShaper(redis, dispatches_per_s=DISPATCHES_PER_S, timeout_s=5.0)


@pytest.fixture
def backlog(redis: Redis) -> RedisBacklog:
    return RedisBacklog(redis, dispatches_per_s=DISPATCHES_PER_S, pace=PACE)


def arrivals(n: int) -> list[Arrival]:
    return [Arrival(event(), 60_000) for _ in range(n)]


async def in_the_room(redis: Redis, n: int, org: str = "a") -> None:
    """`n` turns of the clinic wait for a slot."""
    members = {f"{org} {1_000_000 + i:016d} t{i}": 0 for i in range(n)}
    await redis.zadd(redis_keys.slots("queue"), members)


async def test_lost_lines_are_restored_once_by_what_the_queue_has(
    redis: Redis, backlog: RedisBacklog
) -> None:
    now_ms = round(time.time() * 1000)
    soon, planned, parked = names(arrivals(3))
    listed = [
        Scheduled(soon, now_ms, now_ms + 1_000),
        Scheduled(planned, now_ms - 50_000, now_ms + 40_000),
        Scheduled(parked, now_ms - 80_000, now_ms + 40_000),
        Scheduled(EffectTask("notice", "a", "n1").name, now_ms, now_ms + 60_000),
        Scheduled(names([Arrival(event(org="b-c"), 30)])[0], now_ms, now_ms + 60_000),
    ]
    reads = 0

    async def read() -> list[Scheduled]:
        nonlocal reads
        reads += 1
        return listed

    assert await backlog.restore(read) == ["a", "b-c"]
    assert await backlog.restore(read) == []
    assert reads == 1
    assert await redis.zrange(redis_keys.backlog("a", "planned"), 0, -1) == [planned.encode()]
    assert await redis.zrange(redis_keys.backlog("a", "parked"), 0, -1) == [parked.encode()]
    assert (await backlog.next("a")).names == [planned, parked]


async def test_a_queue_that_does_not_tell_what_waits_is_asked_again(backlog: RedisBacklog) -> None:
    async def fails() -> list[Scheduled]:
        raise TasksUnavailableError("PERMISSION_DENIED")

    async def nothing() -> list[Scheduled]:
        return []

    with pytest.raises(TasksUnavailableError):
        await backlog.restore(fails)
    assert await backlog.restore(nothing) == []


async def test_while_no_turn_waits_nothing_is_planned(shaper: RedisShaper, backlog: RedisBacklog) -> None:
    assert (await shaper.shape(arrivals(100))).delays_ms == [0] * 100
    assert (await backlog.next("a")).names == []


async def test_a_flood_takes_half_of_the_queue_before_it_is_known_whether_its_turns_wait(
    shaper: RedisShaper,
) -> None:
    delays = [(await shaper.shape(arrivals(1))).delays_ms[0] for _ in range(60)]
    assert delays[:30] == [0] * 30
    assert delays[59] == pytest.approx(30 * 1000 * 2 / DISPATCHES_PER_S, rel=0.5)
    assert (await shaper.shape([Arrival(event(org="b"), 30)])).delays_ms == [0]


async def test_a_new_turn_is_due_when_its_place_is(
    redis: Redis, shaper: RedisShaper, backlog: RedisBacklog
) -> None:
    await backlog.open("a", PACE)
    await in_the_room(redis, 3)
    delays = (await shaper.shape(arrivals(8))).delays_ms
    assert delays == [0, 0, 800, 1600, 2400, 3200, 4000, 4800]
    assert (await shaper.shape([Arrival(event(org="b"), 30)])).delays_ms == [0]
    (later,) = (await shaper.shape(arrivals(1))).delays_ms
    assert later == pytest.approx(5600, abs=100)  # another request's places count


async def test_whose_place_does_not_come_in_time_is_told_so_at_its_patience_and_leaves_the_queue_room(
    redis: Redis, shaper: RedisShaper, backlog: RedisBacklog
) -> None:
    await backlog.open("a", PACE)
    await in_the_room(redis, 5)
    delays = (await shaper.shape(arrivals(325))).delays_ms
    reached, told = delays[:125], delays[125:]
    assert max(reached) == 100_000
    assert min(told) >= 120_000
    gaps = [b - a for a, b in pairwise(told)]
    assert set(gaps) == {1000 * 2 // DISPATCHES_PER_S}, "half of the queue's rate"
    await backlog.open("b", PACE)
    await in_the_room(redis, 5, "b")
    other = [Arrival(event(org="b"), 60_000) for _ in range(127)]
    assert (await shaper.shape(other)).delays_ms[-1] > told[-1], "one line for all clinics"


async def test_the_pace_is_learnt_from_what_is_granted_while_others_wait(
    redis: Redis, shaper: RedisShaper, backlog: RedisBacklog
) -> None:
    await backlog.open("a", PACE)
    await in_the_room(redis, 5)
    for _ in range(30):
        await backlog.next("a", waited_ms=20)  # faster than a place in 20 ms
    delays = (await shaper.shape(arrivals(10))).delays_ms
    assert delays[-1] < 3_000
    plan = redis_keys.backlog("a", "plan")
    for _ in range(3):
        await redis.hset(plan, "last", 0)
        await backlog.next("a", waited_ms=60_000)
    slower = (await shaper.shape(arrivals(1))).delays_ms
    assert slower[0] >= 100_000


async def test_slots_that_come_free_early_are_filled_in_order_once_and_as_far_as_the_room_wants(
    redis: Redis, shaper: RedisShaper, backlog: RedisBacklog
) -> None:
    await backlog.open("a", PACE)
    await in_the_room(redis, 5)
    arrived = arrivals(140)
    await shaper.shape(arrived)
    assert (await backlog.next("a")).names == []
    await redis.delete(redis_keys.slots("queue"))
    first, second = await backlog.next("a"), await backlog.next("a")
    assert (list(first.names), list(second.names)) == (names(arrived)[:5], [])
    assert first.planned == 135
    brought = list(first.names)
    while brought[-1] != names(arrived)[-1]:
        await redis.delete(redis_keys.backlog("a", "sent"))
        brought += (await backlog.next("a")).names
    assert brought == names(arrived), "also those whose place did not come in time"
    await redis.delete(redis_keys.backlog("a", "sent"))
    assert (await backlog.next("a")).names == []


async def test_bubbles_of_a_conversation_take_one_place(
    redis: Redis, shaper: RedisShaper, backlog: RedisBacklog
) -> None:
    await backlog.open("a", PACE)
    await in_the_room(redis, 8)
    opens, joins = (Arrival(event("U"), 60_000) for _ in range(2))
    others = arrivals(2)
    delays = (await shaper.shape([opens, joins, *others])).delays_ms
    assert delays == [3200, 3200, 4000, 4800]
    await redis.delete(redis_keys.slots("queue"))
    brought = await backlog.next("a")
    assert list(brought.names) == names([opens, *others]), "whoever leads takes the bubbles along"


async def test_refused_turns_come_back_one_after_another_at_the_clinics_pace(
    redis: Redis, backlog: RedisBacklog
) -> None:
    await in_the_room(redis, 20)
    until = time.time_ns() // 1_000_000 + 60_000
    back = [
        await backlog.again(TurnTask(event(), "t", hop=1), shut_ms=0, patience_until_ms=until)
        for _ in range(5)
    ]
    assert back == [pytest.approx(12_000 + 800 * i, abs=150) for i in range(5)]
    while back[-1] < 59_000:
        back.append(await backlog.again(TurnTask(event(), "t"), shut_ms=0, patience_until_ms=until))
    told = [
        await backlog.again(TurnTask(event(), "t"), shut_ms=0, patience_until_ms=until) for _ in range(20)
    ]
    assert told[-1] == pytest.approx(60_000 + 1000 * 2 / DISPATCHES_PER_S * 19, abs=1_500)


async def test_nobody_comes_back_before_the_provider_allows_it(redis: Redis, backlog: RedisBacklog) -> None:
    until = time.time_ns() // 1_000_000 + 60_000
    back = [
        await backlog.again(TurnTask(event(), "t"), shut_ms=10_000, patience_until_ms=until) for _ in range(3)
    ]
    assert back == [pytest.approx(10_000 + 800 * i, abs=150) for i in range(3)]


async def test_a_message_joins_its_conversations_turn_that_comes_back_until_it_runs(
    redis: Redis, shaper: RedisShaper, backlog: RedisBacklog
) -> None:
    first = event("U")
    until = first.arrived_ms + 60_000
    back_ms = await backlog.again(TurnTask(first, "t"), shut_ms=5_000, patience_until_ms=until)
    joins = Arrival(event("U"), 60_000)
    assert (await shaper.shape([joins])).delays_ms == [pytest.approx(back_ms, abs=150)]
    mailbox = RedisMailbox(redis, lease_ms=10_000, session_ttl_s=60)
    begun = await mailbox.begin(joins.event)
    assert hasattr(begun, "fence")
    await mailbox.finish(first.conversation, begun.fence, [joins.event.event_id], session=b"")
    assert (await shaper.shape([Arrival(event("U"), 60_000)])).delays_ms == [0]


async def test_a_backlog_is_forgotten(redis: Redis, shaper: RedisShaper, backlog: RedisBacklog) -> None:
    await backlog.open("a", PACE)
    await in_the_room(redis, 5)
    await shaper.shape(arrivals(140))
    await backlog.again(TurnTask(event(), "t"), shut_ms=0, patience_until_ms=0)
    kept = await redis.keys("backlog:*")
    assert len(kept) == 4
    assert all([0 < await redis.pttl(key) <= 600_000 for key in kept])
