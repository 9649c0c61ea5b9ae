"""A slot that would come free for nobody, with a real Redis and a real queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from core.adapters import redis_keys
from core.adapters.cloudtasks_tasks import CloudTasksQueue
from core.adapters.redis_backlog import RedisBacklog
from core.adapters.redis_shaper import RedisShaper
from core.adapters.system_clock import SystemClock
from core.domain.task import TurnTask
from core.local.cloud_tasks import CloudTasks
from core.local.http_server import HttpServer, Request, Response
from core.ports.backlog import Pace
from core.ports.shaper import Arrival
from core.usecases.turn.paced_slots import PacedSlots
from tests.support.arrivals import event, names
from tests.support.slots_scene import process, request

QUEUE = "projects/p/locations/l/queues/q"
PACE = Pace(1, 60_000)


class Scene:
    """One slot; `dispatched` are the names of the tasks that came to the turn."""

    def __init__(self, slots: PacedSlots, redis: Redis, tasks: CloudTasksQueue, cloud: CloudTasks) -> None:
        self.slots, self.redis, self.tasks, self.cloud = slots, redis, tasks, cloud
        self.dispatched: list[str] = []

    async def planned(self, n: int) -> list[str]:
        """Messages that the webhook plans behind what waits; theirs are tasks for a later time."""
        arrived = [Arrival(event(), 60_000) for _ in range(n)]
        shaped = await RedisShaper(self.redis, timeout_s=5.0).shape(arrived)
        for arrival, delay_ms in zip(arrived, shaped.delays_ms, strict=True):
            await self.tasks.create(TurnTask(arrival.event, "t"), delay_ms=delay_ms)
        assert min(shaped.delays_ms) > 30_000
        return names(arrived)

    async def hold(self, ticket: str, for_s: float) -> None:
        async with self.slots.hold(request("a", ticket)):
            await asyncio.sleep(for_s)


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with _scene(redis_url) as scene:
        yield scene


@asynccontextmanager
async def _scene(redis_url: str) -> AsyncIterator[Scene]:
    redis = Redis.from_url(redis_url)
    async with CloudTasks() as cloud, process(redis_url, global_limit=1) as inner:
        cloud.create_queue(QUEUE)
        tasks = CloudTasksQueue(QUEUE, "http://turn", emulator_host=cloud.address)
        backlog = RedisBacklog(redis, dispatches_per_s=17, pace=PACE)
        slots = PacedSlots(inner, backlog, tasks, SystemClock(), at_once=1, hold_ms=60_000)
        scene = Scene(slots, redis, tasks, cloud)

        async def turn(got: Request) -> Response:
            scene.dispatched.append(TurnTask.decode(got.body).name)
            return Response(200)

        server = HttpServer(turn)
        await server.start()
        cloud.targets = [server.url]
        try:
            yield scene
        finally:
            await slots.close()
            await server.stop()
            await tasks.close()
            await redis.aclose()


async def test_who_is_planned_for_later_comes_as_soon_as_slots_would_be_idle(scene: Scene) -> None:
    first = asyncio.create_task(scene.hold("one", 0.3))
    await asyncio.sleep(0.1)
    waiting = [asyncio.create_task(scene.hold(f"w{i}", 0.1)) for i in range(3)]
    await asyncio.sleep(0.1)
    planned = await scene.planned(4)
    await asyncio.gather(first, *waiting)
    async with asyncio.timeout(5):
        while len(scene.dispatched) < 2:  # noqa: ASYNC110  the far side counts, it does not tell
            await asyncio.sleep(0.02)
    assert scene.dispatched[:2] == planned[:2]


async def test_slots_of_calls_that_fail_are_filled_too(scene: Scene) -> None:
    async def fail(ticket: str) -> None:
        async with scene.slots.hold(request("a", ticket)):
            await asyncio.sleep(0.2)
            raise ValueError("a call")

    running = [asyncio.create_task(fail(f"t{i}")) for i in range(3)]
    await asyncio.sleep(0.1)
    planned = await scene.planned(2)
    await asyncio.gather(*running, return_exceptions=True)
    async with asyncio.timeout(5):
        while len(scene.dispatched) < 2:  # noqa: ASYNC110  the far side counts, it does not tell
            await asyncio.sleep(0.02)
    assert scene.dispatched == planned


async def test_a_queue_that_runs_no_task_before_its_time_costs_no_turn_and_keeps_the_plan(
    scene: Scene,
) -> None:
    first = asyncio.create_task(scene.hold("one", 0.2))
    await asyncio.sleep(0.1)
    waiting = [asyncio.create_task(scene.hold(f"w{i}", 0.1)) for i in range(4)]
    await asyncio.sleep(0.05)
    await scene.planned(8)
    await scene.cloud.stop()
    await asyncio.gather(first, *waiting)
    await asyncio.sleep(0.2)
    assert scene.dispatched == []
    kept = sum([await scene.redis.zcard(redis_keys.backlog("a", part)) for part in ("planned", "parked")])
    assert kept >= 8 - 2 * PACE.at_once - 1


async def test_the_lines_that_redis_lost_are_written_anew_from_the_queue(scene: Scene) -> None:
    """Else they would come when they were planned, or when their patience ends, while slots are free."""
    first = asyncio.create_task(scene.hold("one", 0.3))
    await asyncio.sleep(0.1)
    waiting = [asyncio.create_task(scene.hold(f"w{i}", 0.1)) for i in range(3)]
    await asyncio.sleep(0.1)
    planned = await scene.planned(4)
    await scene.redis.flushall()
    await asyncio.gather(first, *waiting, return_exceptions=True)
    before = len(scene.dispatched)
    for _ in range(2):  # every turn that hears of the loss says so
        scene.slots.check_now()
    await dispatched(scene, before + 2)
    assert set(scene.dispatched) <= set(planned)
    async with scene.slots.hold(replace(request("a", "later", wait_s=30), planned=True)):
        await asyncio.sleep(1.1)  # as long as those who were brought forward count as on their way
    await dispatched(scene, 4)  # also where nobody had to wait
    assert scene.dispatched == planned


async def dispatched(scene: Scene, count: int) -> None:
    async with asyncio.timeout(20):
        while len(scene.dispatched) < count:  # noqa: ASYNC110  the far side counts, it does not tell
            await asyncio.sleep(0.02)


async def test_without_a_backlog_a_slot_costs_no_further_round_trip(scene: Scene) -> None:
    await scene.hold("warm", 0.0)
    before = (await scene.redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    await scene.hold("one", 0.0)
    assert (await scene.redis.info("commandstats"))["cmdstat_evalsha"]["calls"] - before == 2
    assert await scene.redis.keys(redis_keys.backlog("a", "*")) == []
