"""How a turn's cost grows: with the clinics there are, and with the messages that wait in Redis.

Processor time of the function and of Redis, for turns of a hundred clinics that were just served, while the
other clinics have their documents, tokens and places beside them; and what a waiting message takes in Redis.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import psutil
from redis.asyncio import Redis

from core.adapters.redis_shaper import RedisShaper
from core.bootstrap import shared
from core.domain.settings import Settings, required_by
from core.domain.task import TurnTask
from core.ports.shaper import Arrival
from tests.bench.table import Row
from tests.bench.turn_scene import TurnFunction, TurnScene

CLINICS, BACKLOGS = (10, 500, 5_000), (0, 1_000, 10_000)
TARGET = 1.05
ROUNDS, TURNS, SERVED, AT_ONCE = 6, 40, 100, 16


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a turn, in ms of processor time: the function's and Redis'."""

    turn: float
    redis: float

    @property
    def sum(self) -> float:
        return self.turn + self.redis


class Grown:
    """A stack that has grown to its size, and the clinics whose turns are measured there."""

    def __init__(self, scene: TurnScene, turn: TurnFunction, clinics: Sequence[int]) -> None:
        self.scene, self.turn, self.clinics = scene, turn, clinics
        self.redis = psutil.Process(scene.stack.redis.process.pid)

    async def cost(self) -> Cost:
        before, tasks = self._redis_s(), self.scene.tasks_of(random.choices(self.clinics, k=TURNS))
        cost = await self.turn.cost(tasks)
        return Cost(cost.cpu, (self._redis_s() - before) / TURNS * 1000)

    def _redis_s(self) -> float:
        times = self.redis.cpu_times()
        return float(times.user + times.system)


async def _measured(grown: Mapping[int, Grown]) -> dict[int, list[Cost]]:
    """Round by round, each size after the other, so that what else the machine does hits all alike."""
    for size in grown.values():
        await size.turn.cost(size.scene.tasks_of(size.clinics), at_once=AT_ONCE)
    found: dict[int, list[Cost]] = {count: [] for count in grown}
    for _ in range(ROUNDS):
        for count, size in grown.items():
            found[count].append(await size.cost())
    return found


async def by_clinics(counts: Sequence[int] = CLINICS) -> dict[int, list[Cost]]:
    """All but the first turns of a clinic, whose documents and token are read then."""
    async with AsyncExitStack() as exit_:
        grown = {}
        for count in counts:
            scene = await exit_.enter_async_context(TurnScene(firestore=False, clinics=count))
            turn = await scene.turn()
            await turn.cost(scene.tasks_of(range(count)), at_once=AT_ONCE)
            grown[count] = Grown(scene, turn, random.sample(range(count), min(SERVED, count)))
        return await _measured(grown)


async def by_backlog(counts: Sequence[int] = BACKLOGS) -> tuple[dict[int, list[Cost]], float]:
    """While so many messages of other clinics wait; and the bytes that one takes in Redis."""
    async with AsyncExitStack() as exit_:
        grown, bytes_each = {}, 0.0
        for count in counts:
            scene = await exit_.enter_async_context(TurnScene(firestore=False, clinics=2 * SERVED))
            turn = await scene.turn()
            redis = shared.redis(Settings.read(scene.stack.settings_env, required_by("turn")))
            exit_.push_async_callback(redis.aclose)
            before = await _used(redis)
            await _wait(scene, redis, count)
            bytes_each = (await _used(redis) - before) / max(1, count)
            grown[count] = Grown(scene, turn, range(SERVED))
        return await _measured(grown), bytes_each


async def _wait(scene: TurnScene, redis: Redis, count: int) -> None:
    """So many messages of the clinics beyond the first hundred, as the webhook announces them."""
    shaper = RedisShaper(redis, timeout_s=30.0, longest_s=3_600.0, patience_s=7_200.0)
    clinics = [SERVED + n % SERVED for n in range(count)]
    events = [TurnTask.decode(body).event for body in scene.tasks_of(clinics)]
    for start in range(0, count, 100):
        await shaper.shape([Arrival(event, 60_000) for event in events[start : start + 100]])
    await shaper.close()


async def _used(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory"])


def _rows(what: str, found: Mapping[int, Sequence[Cost]], judged: tuple[int, int] | None) -> Iterator[Row]:
    least = min(found)
    for count, costs in found.items():
        turn, redis = (statistics.median(getattr(cost, name) for cost in costs) for name in ("turn", "redis"))
        value = f"{turn:.2f} ms + Redis {redis:.2f} ms"
        grown = f"× {_growth(costs, found[least]):.2f}"
        yield Row(f"a turn's processor time, {count:,} {what}", value, "", grown)
    few, many = judged or (least, max(found))
    growth = _growth(found[many], found[few])
    slope = (growth - 1) * statistics.median(cost.sum for cost in found[few]) / (many - few) * 1_000_000
    target, ok = (f"≤ {TARGET:g}", growth <= TARGET) if judged else ("", None)
    yield Row(f"  {many:,} ÷ {few:,} {what}", f"{growth:.2f}", target, f"{slope:+.0f} µs for 1,000 more", ok)


def _growth(many: Sequence[Cost], few: Sequence[Cost]) -> float:
    """Of each round's pair."""
    return statistics.median(a.sum / b.sum for a, b in zip(many, few, strict=True))


async def rows() -> list[Row]:
    clinics = await by_clinics()
    waiting, bytes_each = await by_backlog()
    return [
        *_rows("clinics", clinics, (500, 5_000)),
        *_rows("waiting messages", waiting, None),
        Row("  Redis memory of a waiting message", f"{bytes_each:,.0f} bytes", ""),
    ]
