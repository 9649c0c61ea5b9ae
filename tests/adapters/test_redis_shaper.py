from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from core.adapters import redis_keys
from core.adapters.redis_mailbox import RedisMailbox
from core.adapters.redis_shaper import RedisShaper
from core.domain.errors import RedisUnavailableError
from core.domain.event import EventKind, InboundEvent
from core.local.redis_server import RedisServer
from core.ports.mailbox import Lead
from core.ports.shaper import Arrival, Shaped

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


_ids = count()


def arrival(org: str, sender: str, rate: int = 30, event_id: str = "") -> Arrival:
    """A message that is new, unless it has an `event_id` of its own."""
    event_id = event_id or f"E{next(_ids)}"
    return Arrival(InboundEvent(event_id, org, sender, EventKind.TEXT, round(time.time() * 1000), 1), rate)


def arrivals(n: int, *, org: str = "a", sender: str | None = None, rate: int = 30) -> list[Arrival]:
    return [arrival(org, sender or f"U{i}", rate) for i in range(n)]


def due(shaped: Shaped) -> list[int]:
    """By Redis' clock, so that it does not matter how long a busy machine takes between two calls."""
    return [shaped.now_ms + delay_ms for delay_ms in shaped.delays_ms]


def due_at(first: Shaped, shaped: Shaped, *after_s: float) -> list[object]:
    """So long after the first call, or at once where that is over."""
    # Redis counts in microseconds and says milliseconds.
    moments = [max(shaped.now_ms, first.now_ms + s * 1000) for s in after_s]
    return [pytest.approx(moment, rel=0, abs=2) for moment in moments]


async def test_a_clinic_has_30_at_once_then_one_every_two_seconds(redis: Redis) -> None:
    shaped = await RedisShaper(redis, timeout_s=PATIENT_S).shape(arrivals(33))
    assert shaped.delays_ms == [0] * 30 + [2000, 4000, 6000]
    assert shaped.now_ms == pytest.approx(time.time() * 1000, abs=2000)


async def test_a_sender_has_5_at_once_and_more_of_them_go_together_into_the_next_turn(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    first = await shaper.shape(arrivals(8, sender="U"))
    assert first.delays_ms == [0] * 5 + [2000] * 3
    await let_time_pass(redis, 2_000)
    later = await shaper.shape(arrivals(3, sender="U"))
    assert due(later) == due_at(first, later, 2, 2, 2)


async def test_the_rate_holds_over_calls_and_instances(redis: Redis) -> None:
    first, second = (RedisShaper(redis, timeout_s=PATIENT_S) for _ in range(2))
    shaped = [await (first, second)[i % 2].shape([arrival("a", f"U{i}")]) for i in range(32)]
    assert [one.delays_ms for one in shaped[:30]] == [[0]] * 30
    assert due(shaped[30]) == due_at(shaped[0], shaped[30], 2)
    assert due(shaped[31]) == due_at(shaped[0], shaped[31], 4)


async def test_a_clinics_own_limit_counts(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    assert (await shaper.shape(arrivals(4, rate=2))).delays_ms == [0, 0, 30_000, 60_000]
    assert (await shaper.shape(arrivals(1000, org="big", rate=60_000))).delays_ms == [0] * 1000


async def test_clinics_and_their_senders_do_not_touch_each_other(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    await shaper.shape(arrivals(40, org="a"))
    await shaper.shape(arrivals(9, org="b", sender="U1"))
    shaped = await shaper.shape([arrival("b", "U2"), arrival("c", "U1")])
    assert shaped.delays_ms == [0, 0]


async def test_bubbles_of_a_few_do_not_make_everybody_else_wait(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    first = await shaper.shape([arrival("a", sender) for sender in "xyz"])
    for _ in range(60):
        quick = await shaper.shape([arrival("a", sender) for sender in "xyz"])
        assert max(quick.delays_ms) <= 2_000
    others = await shaper.shape(arrivals(27))
    assert others.delays_ms == [0] * 27  # three turns counted, not 180 messages
    following = await shaper.shape([arrival("a", "next")])
    assert due(following) == due_at(first, following, 2)


async def test_a_flood_from_many_senders_is_spread_over_what_time_there_is(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    flood = await shaper.shape(arrivals(1000))
    assert flood.delays_ms[:80] == [0] * 30 + [2000 * n for n in range(1, 51)]
    beyond = [delay_ms // 1000 for delay_ms in flood.delays_ms[80:]]
    assert set(beyond) == set(range(50, 100))
    assert max(beyond.count(second) for second in range(50, 100)) < 40
    await let_time_pass(redis, 10_000)
    later = await shaper.shape([arrival("a", "other")])
    assert due(later) == due_at(flood, later, 102 - 10)  # 80 counted, not 1,000


async def test_what_a_clinic_can_not_take_in_time_keeps_each_senders_order(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    await shaper.shape(arrivals(90))
    delays: list[int] = []
    for _ in range(4):
        shaped = await shaper.shape([arrival("a", "U")])
        delays += [shaped.now_ms + shaped.delays_ms[0]]
    assert delays == sorted(delays)


async def test_a_redelivery_is_due_when_it_was_and_pushes_nothing_back(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    first, *_ = [await shaper.shape([arrival("a", "U", event_id=it)]) for it in ("first", "second") * 3]
    assert (await shaper.shape([arrival("a", "U", event_id="third")])).delays_ms == [0]
    await shaper.shape(arrivals(2, sender="U"))
    delayed = arrival("a", "U", event_id="sixth")
    for _ in range(2):
        again = await shaper.shape([delayed] * 2)
        assert due(again) == due_at(first, again, 2, 2)


async def test_what_is_not_counted_is_not_delayed(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    assert (await shaper.shape([arrival("a", "U", 0) for _ in range(40)])).delays_ms == [0] * 40
    assert (await shaper.shape(arrivals(5, sender="U"))).delays_ms == [0] * 5


async def test_keys_expire_when_the_rate_is_free_again(redis: Redis) -> None:
    shaped = await RedisShaper(redis, timeout_s=PATIENT_S).shape(arrivals(3, sender="U"))
    async with redis.pipeline() as pipe:
        pipe.keys("rate:*")
        pipe.time()
        pipe.pttl(redis_keys.shaper_org("a"))
        pipe.pttl(redis_keys.shaper_sender("a", "U"))
        keys, (now_s, now_us), org_ms, sender_ms = await pipe.execute()
    passed_ms = now_s * 1000 + now_us // 1000 - shaped.now_ms
    assert len(keys) == 2
    assert org_ms == pytest.approx(2_000 - passed_ms, rel=0, abs=2)  # one turn
    assert sender_ms == pytest.approx(6_000 - passed_ms, rel=0, abs=2)
    others = set(await redis.keys("*")) - {redis_keys.GENERATION.encode()}
    assert all([await redis.pttl(key) > 0 for key in others])


async def test_requests_that_come_together_travel_together(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    await shaper.shape(arrivals(1, org="warm"))
    before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    together = await asyncio.gather(*(shaper.shape([arrival("a", f"U{i}")]) for i in range(32)))
    assert [shaped.delays_ms[0] for shaped in together] == [0] * 30 + [2000, 4000]
    assert (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] - before <= 2


async def test_a_script_that_redis_forgot_is_sent_again(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    await shaper.shape(arrivals(1))
    await redis.script_flush()
    assert (await shaper.shape(arrivals(1))).delays_ms == [0]


class Turns:
    """The same rule, written down without Redis: theoretical arrival times in µs, and of each conversation,
    none of which is answered here, when its waiting turn is due, in ms."""

    def __init__(self) -> None:
        self.tat: dict[str, float] = {}
        self.due: dict[str, float] = {}

    def wait(self, key: str, now: float, burst: int, interval: float) -> float:
        self.tat[key] = max(now, self.tat.get(key, now))
        return max(0.0, self.tat[key] - (burst - 1) * interval - now)

    def shape(self, now: float, arrival: Arrival) -> tuple[float, float]:
        """The earliest and the latest delay, in ms: one of what is beyond the clinic's rate is not said."""
        org, sender = arrival.event.org_id, f"{arrival.event.org_id}/{arrival.event.chat_id}"
        if self.due.get(sender, 0) > now / 1000:
            return self.due[sender] - now / 1000, self.due[sender] - now / 1000
        held_back = self.wait(sender, now, 5, 2e6)
        self.tat[sender] += 2e6
        waits, self.due[sender] = sender in self.due, (now + held_back) / 1000
        if held_back or waits:
            return held_back / 1000, held_back / 1000
        interval = 60_000_000 // arrival.org_per_minute
        by_rate = self.wait(org, now, arrival.org_per_minute, interval)
        if by_rate > 100e6:
            return 50_000, 100_000
        self.tat[org] += interval
        self.due[sender] = (now + by_rate) / 1000
        return by_rate / 1000, by_rate / 1000


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  the far side counts, it does not tell
            await asyncio.sleep(0.02)


async def let_time_pass(redis: Redis, ms: int) -> None:
    """Move all that Redis remembers into the past, instead of waiting."""
    rates = await redis.keys("rate:*")
    pipe = redis.pipeline()
    for key in rates:
        pipe.pttl(key)
        pipe.get(key)
    found = await pipe.execute()
    for key, left_ms, at in zip(rates, found[::2], found[1::2], strict=True):
        if left_ms <= ms:
            pipe.delete(key)
        else:
            pipe.set(key, f"{float(at) - ms * 1000:.0f}", px=left_ms - ms)
    for key in await redis.keys("mail:*:lead"):
        if await redis.hexists(key, "turn"):
            pipe.hincrby(key, "turn", -ms)
    await pipe.execute()


RATES = {"a": 30, "b": 7, "c": 1000}
SENDERS = st.one_of(st.sampled_from("xyz"), st.integers(0, 99).map(str))
STEP = st.tuples(
    st.integers(0, 20_000),
    st.lists(st.tuples(st.sampled_from("abc"), SENDERS), min_size=1, max_size=60),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, min_size=1, max_size=6))
async def test_delays_are_those_of_the_model(
    redis: Redis, steps: list[tuple[int, list[tuple[str, str]]]]
) -> None:
    await redis.flushdb()
    shaper, model, passed_ms = RedisShaper(redis, timeout_s=PATIENT_S), Turns(), 0
    for pause_ms, senders in steps:
        await let_time_pass(redis, pause_ms)
        passed_ms += pause_ms
        batch = [arrival(org, sender, RATES[org]) for org, sender in senders]
        shaped = await shaper.shape(batch)
        now = (shaped.now_ms + passed_ms) * 1000.0
        # Redis counts in microseconds and says milliseconds, so the two may be 2 ms apart.
        for delay_ms, a in zip(shaped.delays_ms, batch, strict=True):
            earliest, latest = model.shape(now, a)
            assert earliest - 3 <= delay_ms <= latest + 3


async def test_without_redis_the_caller_knows_at_once(server: RedisServer) -> None:
    redis = client(server.url)
    shaper = RedisShaper(redis)
    await server.stop()
    for _ in range(3):
        started = time.perf_counter()
        with pytest.raises(RedisUnavailableError):
            await shaper.shape(arrivals(1))
        assert time.perf_counter() - started < 1.0
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
    assert max(together) < 1.0
    assert sum(later) < 1.0  # nobody waits 50 × 30 ms behind a call that is stuck already
    server.resume()
    shaper._timeout_s = PATIENT_S
    await asyncio.sleep(0.1)
    assert (await shaper.shape(arrivals(1, org="b"))).delays_ms == [0]
    assert (await redis.info("clients"))["connected_clients"] <= 2
    await shaper.close()
    await redis.aclose()


async def test_a_process_that_was_late_itself_does_not_take_redis_for_slow(redis: Redis) -> None:
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    await shaper.shape(arrivals(1))
    shaper._timeout_s = 0.030
    under_way = asyncio.create_task(shaper.shape(arrivals(1)))
    for _ in range(3):
        await asyncio.sleep(0)  # it is sent
    time.sleep(0.2)  # noqa: ASYNC251  Redis answers, and nobody here reads it
    assert (await shaper.shape(arrivals(1))).delays_ms == [0]
    assert (await under_way).delays_ms == [0]


@pytest.mark.parametrize("outage_s", [0.0, 1.3], ids=["slow", "given up"])
async def test_a_message_that_redis_did_not_take_in_time_has_its_place_before_the_next_one(
    server: RedisServer, outage_s: float
) -> None:
    """Of its conversation, whose task may begin first."""
    redis = client(server.url)
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    mailbox = RedisMailbox(redis, lease_ms=10_000, session_ttl_s=60)
    await shaper.shape(arrivals(1, org="warm"))
    shaper._timeout_s = 0.030
    first, second = arrivals(2, sender="U")
    server.pause()
    for arrived in (arrival("warm", "U1"), first):  # the second one waits behind a call that is stuck
        with pytest.raises(RedisUnavailableError):
            await shaper.shape([arrived])
    await asyncio.sleep(outage_s)
    server.resume()
    shaper._timeout_s = PATIENT_S
    await shaper.shape([second])
    begun = await mailbox.begin(second.event)
    assert isinstance(begun, Lead)
    assert [event.event_id for event in begun.waiting.events] == [first.event.event_id, second.event.event_id]
    await shaper.close()
    await redis.aclose()


async def test_what_was_let_through_takes_no_place_in_the_clinics_rate(server: RedisServer) -> None:
    redis = client(server.url)
    shaper = RedisShaper(redis, timeout_s=PATIENT_S)
    await shaper.shape(arrivals(1, org="warm"))
    shaper._timeout_s = 0.030
    server.pause()
    with pytest.raises(RedisUnavailableError):
        await shaper.shape(arrivals(1, org="warm"))  # is under way
    with pytest.raises(RedisUnavailableError):
        await shaper.shape(arrivals(30))
    server.resume()
    shaper._timeout_s = PATIENT_S
    others = [arrival("a", f"other {n}") for n in range(31)]
    assert (await shaper.shape(others)).delays_ms == [0] * 30 + [2000]
    await shaper.close()
    await redis.aclose()


async def test_a_connection_that_never_answers_is_given_up() -> None:
    connections = 0

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(swallow, "127.0.0.1", 0)
    redis = client(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    shaper = RedisShaper(redis)
    try:
        with pytest.raises(RedisUnavailableError):
            await shaper.shape(arrivals(1))
        await until(lambda: connections == 2)
    finally:
        await shaper.close()
    await redis.aclose()
    listener.close()
    await listener.wait_closed()
