"""What the slots learn from the provider: circuit, cooldown after a 429, requests and tokens a minute."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from core.adapters import redis_keys
from core.adapters.redis_slots import RedisSlots
from core.adapters.redis_slots_operator import RedisSlotsOperator
from core.ports.slots import NoSlotError, Outcome, OutcomeKind, Refusal
from tests.support.slots_scene import Room, client, process, request, until

QUICK: dict[str, Any] = {
    "circuit_window_ms": 2_000,
    "circuit_attempts": 4,
    "circuit_open_ms": 300,
    "circuit_longest_ms": 1_000,
}


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    connection = client(redis_url)
    yield connection
    await connection.aclose(close_connection_pool=True)


@pytest.fixture
def operator(redis: Redis) -> RedisSlotsOperator:
    return RedisSlotsOperator(redis)


async def call(slots: RedisSlots, kind: OutcomeKind, ticket: str = "t", **outcome: Any) -> None:
    async with slots.hold(request("a", ticket)) as slot:
        slot.outcome = Outcome(kind, **outcome)


async def refusal(slots: RedisSlots, wait_s: float = 0.05, **more: Any) -> NoSlotError:
    with pytest.raises(NoSlotError) as refused:
        async with slots.hold(request("a", "refused", wait_s=wait_s, **more)):
            pytest.fail("this must not run")
    return refused.value


async def test_the_circuit_opens_when_half_of_enough_calls_failed(
    redis_url: str, operator: RedisSlotsOperator, caplog: pytest.LogCaptureFixture
) -> None:
    async with process(redis_url, **QUICK) as slots, process(redis_url, **QUICK) as another:
        for kind in (OutcomeKind.FAILED, OutcomeKind.OK, OutcomeKind.OK):
            await call(slots, kind)
        assert (await operator.snapshot()).circuit == "closed"
        await call(slots, OutcomeKind.FAILED)
        view = await operator.snapshot()
        assert (view.circuit, view.circuit_reason) == ("open", "failures")
        error = await refusal(another)
        assert error.reason is Refusal.CIRCUIT
        assert 0 < error.retry_after_ms <= 300
    assert "circuit.opened" in caplog.messages


async def test_too_few_calls_or_too_few_failures_leave_it_closed(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    async with process(redis_url, **QUICK) as slots:
        for kind in (*[OutcomeKind.OK] * 4, *[OutcomeKind.FAILED] * 3):
            await call(slots, kind)
        # 3 of 7; our own mistakes, 429s and cancelled calls say nothing about failures.
        for kind in (OutcomeKind.NEUTRAL,) * 5:
            await call(slots, kind)
        view = await operator.snapshot()
        assert (view.circuit, view.attempts, view.failures) == ("closed", 7, 3)


async def test_failures_older_than_the_window_are_forgotten(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    options = {**QUICK, "circuit_window_ms": 300}
    async with process(redis_url, **options) as slots:
        for _ in range(3):
            await call(slots, OutcomeKind.FAILED)
        await asyncio.sleep(0.35)
        await call(slots, OutcomeKind.FAILED)
        assert (await operator.snapshot()).circuit == "closed"


async def opened(slots: RedisSlots) -> None:
    for _ in range(4):
        await call(slots, OutcomeKind.FAILED)


async def test_half_open_lets_exactly_one_call_try_and_its_success_closes(
    redis_url: str, operator: RedisSlotsOperator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    room, gate = Room(), asyncio.Event()
    async with process(redis_url, **QUICK) as slots, asyncio.TaskGroup() as turns:
        await opened(slots)
        for n in range(6):
            turns.create_task(room.turn(slots, f"o{n}", f"t{n}", gate.wait))
        await asyncio.sleep(0.2)
        assert room.order == []
        await until(lambda: _ran(room, 1))  # nobody released anything: time alone did it
        await asyncio.sleep(0.1)
        assert len(room.order) == 1
        assert (await operator.snapshot()).circuit == "half-open"
        gate.set()
    assert len(room.order) == 6
    assert (await operator.snapshot()).circuit == "closed"
    assert "circuit.closed" in caplog.messages


async def _ran(room: Room, count: int) -> bool:
    return len(room.order) >= count


async def test_a_failed_probe_opens_for_twice_as_long_up_to_the_longest(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    async with process(redis_url, **QUICK) as slots:
        await opened(slots)
        spans = []
        for _ in range(3):
            await call(slots, OutcomeKind.FAILED)
            spans.append((await operator.snapshot()).circuit_open_ms)
        assert 500 < spans[0] <= 600
        assert 900 < spans[1] <= 1000
        assert 900 < spans[2] <= 1000


async def test_a_probe_that_says_nothing_is_followed_by_another(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    async with process(redis_url, **QUICK) as slots:
        await opened(slots)
        await call(slots, OutcomeKind.NEUTRAL)
        assert (await operator.snapshot()).circuit == "half-open"
        await call(slots, OutcomeKind.OK)
        assert (await operator.snapshot()).circuit == "closed"


async def test_calls_from_before_the_opening_do_not_decide_about_it(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    async with process(redis_url, **QUICK) as slots:
        async with slots.hold(request("b", "old")) as old:
            await opened(slots)
            old.outcome = Outcome(OutcomeKind.OK)
        assert (await operator.snapshot()).circuit == "open"


async def test_a_quota_code_opens_at_once_until_an_operator_closes(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    room = Room()
    async with process(redis_url) as slots:
        await call(slots, OutcomeKind.QUOTA)
        view = await operator.snapshot()
        assert (view.circuit, view.circuit_reason) == ("open", "quota")
        assert 599_000 < view.circuit_open_ms <= 600_000
        error = await refusal(slots, wait_s=20)
        assert error.reason is Refusal.CIRCUIT
        assert await operator.close_circuit()
        assert not await operator.close_circuit()
        await room.turn(slots, "a", "now")
    assert room.order == ["now"]


async def test_waiters_are_put_back_when_the_circuit_opens_past_their_deadline(redis_url: str) -> None:
    room = Room()
    async with process(redis_url, global_limit=1, lease_ms=900) as slots, asyncio.TaskGroup() as turns:
        async with slots.hold(request("a", "fatal")) as slot:
            turns.create_task(room.turn(slots, "b", "waiter", wait_s=30))
            await asyncio.sleep(0.1)
            slot.outcome = Outcome(OutcomeKind.QUOTA)
        await until(lambda: _refused(room), within_s=2)
    assert room.refused[0][1].reason is Refusal.CIRCUIT


async def _refused(room: Room) -> bool:
    return bool(room.refused)


async def test_a_429_cools_all_processes_down_and_waiters_run_when_it_is_over(
    redis_url: str, operator: RedisSlotsOperator, caplog: pytest.LogCaptureFixture
) -> None:
    room = Room()
    loop = asyncio.get_running_loop()
    async with process(redis_url) as slots, process(redis_url) as another, asyncio.TaskGroup() as turns:
        await call(slots, OutcomeKind.RATE_LIMITED, retry_after_ms=600)
        began = loop.time()
        assert 0 < (await operator.snapshot()).cooldown_ms <= 600
        assert (await refusal(another)).reason is Refusal.COOLDOWN
        turns.create_task(room.turn(another, "b", "waiter"))
        await until(lambda: _ran(room, 1))
        assert 0.5 < loop.time() - began < 1.0
    assert "llm.rate_limited" in caplog.messages


async def test_a_429_without_retry_after_cools_down_for_the_default(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    async with process(redis_url) as slots:
        await call(slots, OutcomeKind.RATE_LIMITED)
        assert 900 < (await operator.snapshot()).cooldown_ms <= 1000


@pytest.mark.parametrize("asked_ms", [86_400_000, 10**303])
async def test_a_strange_retry_after_stops_nobody_for_long_and_an_operator_can_lift_it(
    redis_url: str, operator: RedisSlotsOperator, asked_ms: int
) -> None:
    async with process(redis_url) as slots:
        await call(slots, OutcomeKind.RATE_LIMITED, retry_after_ms=asked_ms)
        assert 110_000 < (await operator.snapshot()).cooldown_ms <= 120_000
        assert await operator.close_circuit()
        assert (await operator.snapshot()).cooldown_ms == 0
        await call(slots, OutcomeKind.OK, "t2")


async def test_requests_a_minute_are_never_exceeded(redis_url: str, operator: RedisSlotsOperator) -> None:
    async with process(redis_url, requests_per_minute=3) as slots:
        for n in range(3):
            await call(slots, OutcomeKind.OK, f"t{n}")
        error = await refusal(slots, wait_s=20)
        assert error.reason is Refusal.RATE
        assert 55_000 < error.retry_after_ms <= 60_000
        assert (await operator.snapshot()).requests == 3


async def test_a_request_a_minute_ago_makes_room(redis_url: str, redis: Redis) -> None:
    room = Room()
    async with process(redis_url, requests_per_minute=1) as slots:
        await call(slots, OutcomeKind.OK)
        # A minute passes: the entry's time is moved instead.
        starts = redis_keys.slots("starts")
        found: list[Any] = list(await redis.zrange(starts, 0, -1, withscores=True))
        ((entry, at),) = found
        await redis.zadd(starts, {entry: at - 59_700})
        await room.turn(slots, "b", "next", wait_s=2)
    assert (room.order, room.refused) == (["next"], [])


async def test_tokens_a_minute_count_estimates_and_then_what_was_used(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    async with process(redis_url, tokens_per_minute=1000) as slots:
        async with slots.hold(request("a", "t1", tokens=800)) as slot:
            assert (await refusal(slots, tokens=300)).reason is Refusal.RATE
            slot.outcome = Outcome(OutcomeKind.OK, tokens=100)
        assert (await operator.snapshot()).tokens == 100
        async with slots.hold(request("a", "t2", tokens=900)):
            pass
        assert (await operator.snapshot()).tokens == 1000


async def test_a_call_larger_than_the_token_rate_is_told_at_once_and_stops_nobody(redis_url: str) -> None:
    room = Room()
    async with process(redis_url, tokens_per_minute=1000) as slots:
        error = await refusal(slots, wait_s=20, tokens=1001)
        assert error.reason is Refusal.TOO_LARGE
        await room.turn(slots, "a", "largest", tokens=1000)
    assert room.order == ["largest"]


async def test_a_grant_that_is_cancelled_unused_does_not_count(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    room = Room()
    async with process(redis_url, requests_per_minute=5, global_limit=1) as slots:
        async with slots.hold(request("a", "holder")):
            waiter = asyncio.create_task(room.turn(slots, "b", "waiter"))
            await asyncio.sleep(0.1)
        waiter.cancel()  # the grant is on its way
        await asyncio.gather(waiter, return_exceptions=True)
        await slots.close()
        assert (await operator.snapshot()).requests in (1, 2)
        assert (await operator.snapshot()).used == 0


async def test_whoever_is_refused_a_place_in_the_room_is_not_told_to_come_before_the_provider_allows_it(
    redis_url: str, operator: RedisSlotsOperator
) -> None:
    room = Room()

    async def waiting(count: int) -> None:
        async def there() -> bool:
            return (await operator.snapshot()).waiting == count

        await until(there)

    async with process(redis_url, global_limit=1, org_room=1) as slots, asyncio.TaskGroup() as turns:
        async with slots.hold(request("a", "holder")) as slot:
            place = (await refusal(slots)).place
            slot.outcome = Outcome(OutcomeKind.RATE_LIMITED, retry_after_ms=10_000)
        evicted = turns.create_task(room.turn(slots, "a", "evicted", wait_s=20))
        await waiting(1)
        await room.turn(slots, "a", "late", wait_s=20)
        early = turns.create_task(room.turn(slots, "a", "early", wait_s=20, place=place))
        await evicted
        early.cancel()
    assert [ticket for ticket, _ in room.refused] == ["late", "evicted"]
    for _, error in room.refused:
        assert error.reason is Refusal.ROOM_FULL
        assert error.retry_after_ms > 5_000
