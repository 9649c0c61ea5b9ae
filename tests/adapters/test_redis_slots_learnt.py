"""The limit that finds itself: what a provider takes at once, learnt from refusals and latency."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from core.adapters.redis_slots_operator import SlotsView
from core.adapters.redis_slots_scripts import SlotOptions
from core.ports.slots import Outcome, OutcomeKind, SlotRequest
from tests.support.limited_provider import LimitedProvider, jain, lognormal
from tests.support.slots_clocked import ClockedScripts
from tests.support.slots_scene import client

LONG: dict[str, Any] = {"lease_ms": 600_000, "claim_ms": 500_000, "max_hold_ms": 10**9}


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    connection = client(redis_url)
    yield connection
    await connection.aclose(close_connection_pool=True)


async def view(scripts: ClockedScripts) -> SlotsView:
    return SlotsView.of(await scripts.view())


async def started(redis: Redis, **more: Any) -> LimitedProvider:
    options = SlotOptions(**LONG, adaptive=more.pop("adaptive", True))
    provider = LimitedProvider(redis, options, **more)
    await provider.start()
    return provider


@pytest.mark.parametrize("median_ms", [600, 1200])
async def test_a_provider_that_takes_fewer_calls_gets_as_many_and_more_again_when_it_takes_more(
    redis: Redis, median_ms: float
) -> None:
    provider = await started(redis, allowed=8, latency_ms=lognormal(median_ms))
    await provider.run_until(10)
    seen = await provider.run_until(40)
    assert seen.refused_share <= 0.02
    assert seen.busy_s.total() >= 0.9 * 8 * 30
    assert jain(seen.busy_s) >= 0.99
    assert (await view(provider.scripts)).limit_reason == "refused"
    provider.allowed = 15
    await provider.run_until(52)
    assert provider.limit > 10
    await provider.run_until(60)
    now = await view(provider.scripts)
    assert (now.limit, now.ceiling, now.limit_reason) == (15, 15, "ceiling")
    await provider.close()


async def test_a_sudden_drop_is_followed_and_the_limit_stays_within_its_bounds(redis: Redis) -> None:
    provider = await started(redis, allowed=15, latency_ms=lognormal(500))
    assert (await provider.run_until(10)).refused == 0
    for allowed in (4, 1, 12):
        provider.allowed = allowed
        await provider.run_until(provider.at_s + 20)
        seen = await provider.run_until(provider.at_s + 20)
        assert seen.most <= allowed
        assert seen.busy_s.total() >= 0.85 * allowed * 20
    assert all(1 <= limit <= 15 for _, limit in provider.limits)
    await provider.close()


async def test_off_means_the_configured_limit_whatever_is_refused(redis: Redis) -> None:
    provider = await started(redis, allowed=8, latency_ms=lognormal(1000), adaptive=False)
    await provider.run_until(10)
    seen = await provider.run_until(30)
    assert provider.limits == [(0.0, 15)]
    assert seen.refused_share > 0.2
    await provider.close()


async def test_a_provider_that_refuses_everything_is_not_called_in_a_loop(redis: Redis) -> None:
    provider = await started(redis, allowed=0, latency_ms=lognormal(1000))
    await provider.run_until(10)
    assert (await provider.run_until(40)).calls <= 2 * 30
    assert provider.limit == 1
    provider.allowed = 15
    await provider.run_until(60)
    assert provider.limit == 15
    await provider.close()


async def test_latency_that_grows_with_the_calls_lowers_the_limit_and_more_is_answered(redis: Redis) -> None:
    def crowded(dice: random.Random, running: int) -> float:
        return 800 * max(1.0, (running / 6) ** 2) * dice.lognormvariate(0.0, 0.3)

    answered = {}
    for adaptive in (True, False):
        await redis.flushall()
        provider = await started(redis, allowed=99, latency_ms=lognormal(800, 0.3), adaptive=adaptive)
        await provider.run_until(20)
        provider._latency_ms = crowded
        answered[adaptive] = (await provider.run_until(80)).calls
        if adaptive:
            assert (await view(provider.scripts)).limit_reason == "latency"
        await provider.close()
    assert answered[True] >= 1.2 * answered[False]


async def test_a_provider_that_is_slow_by_itself_keeps_its_slots(redis: Redis) -> None:
    provider = await started(redis, allowed=99, latency_ms=lognormal(800))
    await provider.run_until(20)
    provider._latency_ms = lognormal(3200)
    await provider.run_until(45)
    seen = await provider.run_until(75)
    assert seen.busy_s.total() >= 0.97 * 15 * 30
    await provider.close()


async def one_refused(scripts: ClockedScripts, **outcome: Any) -> None:
    request = SlotRequest("a", "t", 20)
    got = await scripts.acquire(request, nonce="t", channel="c", wait_ms=20_000, place=None)
    assert got.status == "granted"
    await scripts.release("a", "t", got.fence, Outcome(OutcomeKind.RATE_LIMITED, **outcome))


async def hold(scripts: ClockedScripts, count: int) -> None:
    for n in range(count):
        request = SlotRequest(f"o{n}", "h", 20)
        got = await scripts.acquire(request, nonce=f"h{n}", channel="c", wait_ms=20_000, place=None)
        assert got.status == "granted"


async def test_what_was_learnt_survives_a_loss_of_redis(redis: Redis) -> None:
    scripts = ClockedScripts(redis, SlotOptions(**LONG))
    await hold(scripts, 8)
    await one_refused(scripts)
    assert (await view(scripts)).limit == 8
    await redis.flushall()
    scripts.now_ms += 5_000
    await scripts.renew([], [])
    lost = await view(scripts)
    assert (lost.limit, lost.ceiling, lost.limit_reason) == (8, 15, "refused")


async def test_a_refusal_for_calls_at_once_cools_nobody_down_but_a_long_wish_does(redis: Redis) -> None:
    scripts = ClockedScripts(redis, SlotOptions(**LONG))
    await hold(scripts, 8)
    await one_refused(scripts)
    assert (await view(scripts)).cooldown_ms == 0
    await scripts.limit(None, None)
    await one_refused(scripts, retry_after_ms=5_000)
    assert (await view(scripts)).cooldown_ms > 4_000


async def test_an_operators_word_begins_anew(redis: Redis) -> None:
    scripts = ClockedScripts(redis, SlotOptions(**LONG))
    await hold(scripts, 8)
    await one_refused(scripts)
    await scripts.limit(None, 12)
    now = await view(scripts)
    assert (now.limit, now.ceiling, now.limit_reason) == (12, 12, "operator")
    await one_refused(scripts)
    now = await view(scripts)
    assert (now.limit, now.ceiling, now.limit_reason) == (8, 12, "refused")
    await scripts.reset()
    now = await view(scripts)
    assert (now.limit, now.ceiling, now.limit_reason) == (15, 15, "ceiling")


class TestProbes:
    """While there is another provider to go to."""

    OPTIONS = SlotOptions(**LONG, circuit_attempts=4, probe_ms=5_000)

    async def ask(self, scripts: ClockedScripts, ticket: str, *, elsewhere: bool = True) -> Any:
        request = SlotRequest("a", ticket, 20, can_go_elsewhere=elsewhere)
        return await scripts.acquire(request, nonce=ticket, channel="c", wait_ms=20_000, place=None)

    async def end(self, scripts: ClockedScripts, ticket: str, fence: int, kind: OutcomeKind) -> str:
        return (await scripts.release("a", ticket, fence, Outcome(kind))).circuit

    async def opened(self, redis: Redis, kind: OutcomeKind = OutcomeKind.FAILED) -> ClockedScripts:
        scripts = ClockedScripts(redis, self.OPTIONS)
        for n in range(4 if kind is OutcomeKind.FAILED else 1):
            got = await self.ask(scripts, f"f{n}")
            await self.end(scripts, f"f{n}", got.fence, kind)
        assert (await view(scripts)).circuit == "open"
        return scripts

    @pytest.mark.parametrize("kind", [OutcomeKind.FAILED, OutcomeKind.QUOTA])
    async def test_every_five_seconds_without_doubling_one_call_tries(
        self, redis: Redis, kind: OutcomeKind
    ) -> None:
        scripts = await self.opened(redis, kind)
        for n in range(6):
            assert (await self.ask(scripts, f"early{n}")).status == "circuit"
            scripts.now_ms += 5_010
            probe = await self.ask(scripts, f"probe{n}")
            assert probe.status == "granted"
            assert (await self.ask(scripts, f"beside{n}")).status == "circuit"
            scripts.now_ms += 300
            await self.end(scripts, f"probe{n}", probe.fence, OutcomeKind.FAILED)
            scripts.now_ms -= 300
        scripts.now_ms += 5_010
        probe = await self.ask(scripts, "last")
        assert await self.end(scripts, "last", probe.fence, OutcomeKind.OK) == "closed"
        assert (await self.ask(scripts, "after")).status == "granted"

    async def test_a_probe_that_hangs_keeps_no_other_from_trying(self, redis: Redis) -> None:
        scripts = await self.opened(redis)
        scripts.now_ms += 5_010
        hanging = await self.ask(scripts, "hangs")
        scripts.now_ms += 5_010
        second = await self.ask(scripts, "second")
        assert (hanging.status, second.status) == ("granted", "granted")
        assert await self.end(scripts, "second", second.fence, OutcomeKind.OK) == "closed"
        assert await self.end(scripts, "hangs", hanging.fence, OutcomeKind.FAILED) == ""
        assert (await view(scripts)).circuit == "closed"

    async def test_who_has_nowhere_else_to_go_waits(self, redis: Redis) -> None:
        scripts = await self.opened(redis)
        assert (await self.ask(scripts, "waits", elsewhere=False)).status == "waiting"

    async def test_one_provider_s_circuit_and_limit_are_no_other_s(self, redis: Redis) -> None:
        await self.opened(redis)
        other = ClockedScripts(redis, SlotOptions(**LONG, provider="backup"))
        assert (await self.ask(other, "there")).status == "granted"
        assert (await view(other)).circuit == "closed"
