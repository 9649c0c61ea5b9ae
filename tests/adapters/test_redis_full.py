"""A Redis without memory left: what takes is refused, what gives back or keeps is not, and all recovers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.adapters.redis_backlog import RedisBacklog
from core.adapters.redis_connection import Redis, connect
from core.adapters.redis_conversations import RedisConversations
from core.adapters.redis_mailbox import RedisMailbox
from core.adapters.redis_shaper import RedisShaper
from core.adapters.redis_slots_operator import RedisSlotsOperator
from core.adapters.redis_slots_scripts import SlotOptions, SlotScripts
from core.domain.errors import RedisUnavailableError
from core.domain.event import Conversation
from core.domain.task import TurnTask
from core.local.redis_server import RedisServer
from core.ports.backlog import Pace
from core.ports.conversations import Led
from core.ports.mailbox import Lead
from core.ports.shaper import Arrival
from core.ports.slots import Outcome, OutcomeKind, SlotRequest
from tests.adapters.test_redis_failover import an_event


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    async with RedisServer() as server, connect(server.url) as client:
        yield client


async def fill(redis: Redis) -> None:
    await redis.config_set("maxmemory", 1)


async def grow(redis: Redis) -> None:
    await redis.config_set("maxmemory", 0)


@pytest.mark.parametrize("rates", [{}, {"requests_per_minute": 500, "tokens_per_minute": 1000}])
async def test_slots_are_kept_and_given_back_but_not_taken(redis: Redis, rates: dict[str, Any]) -> None:
    scripts = SlotScripts(redis, SlotOptions(global_limit=2, **rates))

    async def ask(ticket: str) -> tuple[str, int]:
        request = SlotRequest("a", ticket, 20, tokens=10)
        got = await scripts.acquire(request, nonce=ticket, channel="c", wait_ms=20_000, place=None)
        return got.status, got.fence

    (_, first), (_, second) = await ask("t1"), await ask("t2")
    assert (await ask("waits"))[0] == "waiting"
    await fill(redis)
    with pytest.raises(RedisUnavailableError, match="maxmemory"):
        await ask("t4")
    renewed = await scripts.renew([("a", "t1", first), ("a", "t2", second)], [("a", "waits", "waits")])
    assert renewed.leases == [True, True]
    await scripts.release("a", "t1", first, Outcome(OutcomeKind.OK, tokens=5))
    (fence,) = (await scripts.renew([], [("a", "waits", "waits")])).waiters
    assert fence > 0  # who waited has it
    await scripts.cancel(SlotRequest("a", "waits", 0, tokens=10), nonce="waits", place=None)
    await scripts.release("a", "t2", second, Outcome(OutcomeKind.QUOTA))
    operator = RedisSlotsOperator(redis)
    assert await operator.close_circuit()
    await operator.set_limit(3)
    await operator.reset_limits()
    assert (await operator.snapshot()).used == 0
    await grow(redis)
    assert (await ask("t5"))[0] == "granted"


async def test_conversations_end_and_are_erased_but_none_begins(redis: Redis) -> None:
    mailbox = RedisMailbox(redis, lease_ms=10_000, session_ttl_s=60)
    conversations = RedisConversations(redis, lease_ms=10_000)
    shaper = RedisShaper(redis, timeout_s=2)
    begun = [await mailbox.begin(an_event(n)) for n in (1, 2)]
    await fill(redis)
    with pytest.raises(RedisUnavailableError, match="maxmemory"):
        await mailbox.begin(an_event(3))
    with pytest.raises(RedisUnavailableError, match="maxmemory"):
        await shaper.shape([Arrival(an_event(4), 30)])
    for n, lead in zip((1, 2), begun, strict=True):
        assert isinstance(lead, Lead)
        here = Conversation("bkk-smile", "line", f"U{n}")
        assert await mailbox.renew(here, lead.fence)
        assert await mailbox.finish(here, lead.fence, [f"E{n}"], session=b"s") is not None
        await mailbox.remove(here, f"M{n}")
        led = await conversations.lead(here)
        assert isinstance(led, Led)
        assert await conversations.erase(here, led.fence, sender=f"U{n}") is not None
        assert (await conversations.look(here)).session is None
    await grow(redis)
    assert isinstance(await mailbox.begin(an_event(5)), Lead)


async def test_whoever_is_refused_a_slot_is_told_when_to_come_but_nobody_is_brought_forward(
    redis: Redis,
) -> None:
    backlog = RedisBacklog(redis, dispatches_per_s=17, pace=Pace(1, 1_000))
    first, second = (TurnTask(an_event(n), "t") for n in (1, 2))
    patience_until_ms = round(time.time() * 1000) + 120_000

    async def again(task: TurnTask) -> int:
        return await backlog.again(task, shut_ms=5_000, patience_until_ms=patience_until_ms)

    await fill(redis)
    first_ms, second_ms = await again(first), await again(second)
    assert 5_000 <= first_ms < second_ms
    with pytest.raises(RedisUnavailableError, match="maxmemory"):
        await backlog.next("bkk-smile")
    await grow(redis)
    assert (await backlog.next("bkk-smile")).names == [first.name, second.name]
