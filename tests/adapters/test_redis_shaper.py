from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from core.adapters.redis_shaper import RedisShaper
from core.domain.errors import RedisUnavailableError
from core.local.redis_server import RedisServer
from core.ports.shaper import Arrival

PATIENT_S = 5.0  # so that a busy machine is not taken for a broken Redis


def client(url: str) -> Redis:
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=2, socket_connect_timeout=2)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    redis = client(redis_url)
    yield redis
    await redis.aclose()


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    server = RedisServer()
    await server.start()
    yield server
    await server.stop()


def arrivals(n: int, *, org: str = "a", sender: str | None = None, rate: int = 30) -> list[Arrival]:
    return [Arrival(org, sender or f"U{i}", rate) for i in range(n)]


def close_to(expected_s: list[float]) -> list[object]:
    return [pytest.approx(s * 1000, abs=60) for s in expected_s]


async def test_a_clinic_has_30_at_once_then_one_every_two_seconds(redis: Redis) -> None:
    shaped = await RedisShaper(redis, timeout_s=PATIENT_S).shape(arrivals(33))
    assert shaped.delays_ms == [0] * 30 + [2000, 4000, 6000]
    assert shaped.now_ms == pytest.approx(time.time() * 1000, abs=2000)


async def test_a_sender_has_5_at_once_then_one_every_two_seconds(redis: Redis) -> None:
    shaped = await RedisShaper(redis, timeout_s=PATIENT_S).shape(arrivals(8, sender="U"))
    assert shaped.delays_ms == [0] * 5 + [2000, 4000, 6000]


async def test_the_rate_holds_over_calls_and_instances(redis: Redis) -> None:
    first, second = (RedisShaper(redis, timeout_s=PATIENT_S) for _ in range(2))
    delays: list[int] = []
    for i in range(32):
        shaped = await (first, second)[i % 2].shape([Arrival("a", f"U{i}", 30)])
        delays += shaped.delays_ms
    assert delays == [*[0] * 30, *close_to([2, 4])]


async def test_a_clinics_own_limit_counts(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    assert (await shaper.shape(arrivals(4, rate=2))).delays_ms == [0, 0, 30_000, 60_000]
    assert (await shaper.shape(arrivals(1000, org="big", rate=60_000))).delays_ms == [0] * 1000


async def test_clinics_and_their_senders_do_not_touch_each_other(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    await shaper.shape(arrivals(40, org="a"))
    await shaper.shape(arrivals(9, org="b", sender="U1"))
    shaped = await shaper.shape([Arrival("b", "U2", 30), Arrival("c", "U1", 30)])
    assert shaped.delays_ms == [0, 0]


async def test_a_flood_from_one_sender_waits_together_and_does_not_use_up_the_clinic(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    flood = await shaper.shape(arrivals(1000, sender="U"))
    assert flood.delays_ms[5:35] == [2000 * n for n in range(1, 31)]
    assert set(flood.delays_ms[35:]) == {60_000}
    another = await shaper.shape([Arrival("a", "other", 30)])
    assert another.delays_ms == close_to([12])  # 35 counted, not 1,000


async def test_a_flood_from_many_senders_waits_a_minute_at_most(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    flood = await shaper.shape(arrivals(150))
    assert flood.delays_ms[:60] == [0] * 30 + [2000 * n for n in range(1, 31)]
    assert set(flood.delays_ms[60:]) == {60_000}
    await let_time_pass(redis, 10_000)
    later = await shaper.shape([Arrival("a", "other", 30)])
    assert later.delays_ms == close_to([52])  # 60 counted, not 150


async def test_keys_expire_when_the_rate_is_free_again(redis: Redis) -> None:
    await RedisShaper(redis, timeout_s=PATIENT_S).shape(arrivals(3, sender="U"))
    keys = await redis.keys("*")
    assert len(keys) == 2
    for key in keys:
        assert 5_000 < await redis.pttl(key) <= 6_000


async def test_requests_that_come_together_travel_together(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    await shaper.shape(arrivals(1, org="warm"))
    before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    together = await asyncio.gather(*(shaper.shape([Arrival("a", f"U{i}", 30)]) for i in range(32)))
    assert [shaped.delays_ms[0] for shaped in together] == [0] * 30 + [2000, 4000]
    assert (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] - before <= 2


async def test_a_script_that_redis_forgot_is_sent_again(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    await shaper.shape(arrivals(1))
    await redis.script_flush()
    assert (await shaper.shape(arrivals(1))).delays_ms == [0]


class Gcra:
    """The same rule, written down without Redis: a theoretical arrival time for each key, in µs."""

    def __init__(self) -> None:
        self.tat: dict[str, float] = {}

    def wait(self, key: str, now: float, burst: int, interval: float) -> float:
        return max(0.0, max(now, self.tat.get(key, now)) - (burst - 1) * interval - now)

    def shape(self, now: float, arrival: Arrival) -> int:
        org, sender = arrival.org_id, f"{arrival.org_id}/{arrival.sender}"
        interval = 60_000_000 // arrival.org_per_minute
        org_wait = self.wait(org, now, arrival.org_per_minute, interval)
        sender_wait = self.wait(sender, now, 5, 2e6)
        delay = max(org_wait, sender_wait)
        if delay <= 60e6:
            self.tat[org] = max(now, self.tat.get(org, now)) + interval
            self.tat[sender] = max(now, self.tat.get(sender, now)) + 2e6
        return math.ceil(min(delay, 60e6) / 1000)


async def let_time_pass(redis: Redis, ms: int) -> None:
    """Move all that Redis remembers into the past, instead of waiting."""
    for key in await redis.keys("*"):
        left_ms = await redis.pttl(key) - ms
        if left_ms <= 0:
            await redis.delete(key)
        else:
            await redis.set(key, f"{float(await redis.get(key)) - ms * 1000:.0f}", px=left_ms)


RATES = {"a": 30, "b": 7, "c": 1000}
STEP = st.tuples(
    st.integers(0, 20_000),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=60),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, min_size=1, max_size=6))
async def test_delays_are_those_of_the_model(
    redis: Redis, steps: list[tuple[int, list[tuple[str, str]]]]
) -> None:
    await redis.flushdb()
    shaper, model, passed_ms = RedisShaper(redis, timeout_s=PATIENT_S), Gcra(), 0
    for pause_ms, senders in steps:
        await let_time_pass(redis, pause_ms)
        passed_ms += pause_ms
        batch = [Arrival(org, sender, RATES[org]) for org, sender in senders]
        shaped = await shaper.shape(batch)
        now = (shaped.now_ms + passed_ms) * 1000.0
        # Redis counts in microseconds and says milliseconds, so the two may be 2 ms apart.
        assert shaped.delays_ms == [pytest.approx(model.shape(now, a), abs=3) for a in batch]


async def test_without_redis_the_caller_knows_at_once(server: RedisServer) -> None:
    redis = client(server.url)
    shaper = RedisShaper(redis)
    await server.stop()
    for _ in range(3):
        started = time.perf_counter()
        with pytest.raises(RedisUnavailableError):
            await shaper.shape(arrivals(1))
        assert time.perf_counter() - started < 0.2
    await redis.aclose()


async def test_a_hanging_redis_costs_one_short_wait_and_one_connection(server: RedisServer) -> None:
    redis = client(server.url)
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    await shaper.shape(arrivals(1))
    shaper._timeout_s = 0.030
    server.pause()

    async def ask() -> float:
        started = time.perf_counter()
        with pytest.raises(RedisUnavailableError):
            await shaper.shape(arrivals(1))
        return time.perf_counter() - started

    together = await asyncio.gather(*(ask() for _ in range(50)))
    later = [await ask() for _ in range(50)]
    assert max(together) < 0.2
    assert sum(later) < 0.2  # nobody waits behind a call that is stuck already
    server.resume()
    shaper._timeout_s = PATIENT_S
    await asyncio.sleep(0.1)
    assert (await shaper.shape(arrivals(1, org="b"))).delays_ms == [0]
    assert (await redis.info("clients"))["connected_clients"] <= 2
    await shaper.close()
    await redis.aclose()


async def test_a_connection_that_never_answers_is_given_up() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(swallow, "127.0.0.1", 0)
    redis = client(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    shaper = RedisShaper(redis)
    for _ in range(2):
        with pytest.raises(RedisUnavailableError):
            await shaper.shape(arrivals(1))
        await asyncio.sleep(1.1)
        assert shaper._pump is not None
        assert shaper._pump.done()
    await shaper.close()
    await redis.aclose()
    listener.close()
    await listener.wait_closed()
