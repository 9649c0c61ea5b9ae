"""Watches the machine and the books while the hour runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.adapters.redis_slots_operator import RedisSlotsOperator
from core.domain.budget import DayBooks
from core.domain.errors import FairlaneError, RedisUnavailableError
from core.local.peak import machine
from core.local.peak.evidence import BooksSeen, Sample
from core.local.stack import LocalStack
from core.ports.documents import DocumentStore, Key

_SAMPLE_S = 0.5
_LAG_STEP_S = 0.02
_SCRIPTS = ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_blpop")


class Observer:
    """`watched`: clinics by the key of their day's books. The first turn instance is never killed."""

    def __init__(self, stack: LocalStack, documents: DocumentStore, watched: Mapping[Key, str]) -> None:
        self._stack = stack
        self._documents = documents
        self._watched = watched
        self._cpu = machine.CpuMeter()
        self._redis = Redis.from_url(stack.redis.url, socket_timeout=0.5)
        self._redis_before = self._redis_now = 0
        self._slots = RedisSlotsOperator(self._redis)
        self._lag_s = 0.0
        self.samples: list[Sample] = []
        self.books: list[BooksSeen] = []

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_loop())
                group.create_task(self._watch_books())
                group.create_task(self._watch_machine())
        finally:
            await self._redis.aclose()

    def cpu_s(self) -> float:
        """Of all turn processes since their start."""
        return self._cpu.read(machine.usage([turn.pid for turn in self._stack.turns]))

    async def _limit(self) -> int | None:
        try:
            return (await self._slots.snapshot()).limit
        except RedisUnavailableError:
            return None

    async def _watch_machine(self) -> None:
        while True:
            used = machine.usage([turn.pid for turn in self._stack.turns])
            steady = self._stack.turns[0]
            memory = {steady.name: used[steady.pid].memory} if steady.pid in used else {}
            lag_s, self._lag_s = self._lag_s, 0.0
            sample = Sample(
                at_ms=time.time_ns() // 1_000_000,
                answered=len(self._stack.line.deliveries),
                turn_cpu_s=self._cpu.read(used),
                turn_memory=memory,
                redis_calls=await self._redis_calls(),
                lag_s=lag_s,
                limit=await self._limit(),
            )
            self.samples.append(sample)
            await asyncio.sleep(_SAMPLE_S)

    async def _redis_calls(self) -> int:
        """Scripts and waits of all clients; goes on counting when Redis starts from nothing."""
        try:
            stats = await self._redis.info("commandstats")
        except (RedisError, OSError):
            return self._redis_before + self._redis_now
        calls = sum(int(stats[name]["calls"]) for name in _SCRIPTS if name in stats)
        if calls < self._redis_now:
            self._redis_before += self._redis_now
        self._redis_now = calls
        return self._redis_before + calls

    async def _watch_books(self) -> None:
        while True:
            try:
                found = await self._documents.get_many(list(self._watched))
            except FairlaneError:
                found = []
            at_ms = time.time_ns() // 1_000_000
            for clinic, document in zip(self._watched.values(), found, strict=False):
                if document is not None:
                    day = DayBooks.parse(document.data)
                    self.books.append(BooksSeen(at_ms, clinic, day.spent, day.held))
            await asyncio.sleep(_SAMPLE_S)

    async def _watch_loop(self) -> None:
        """How late this process's own timers are: the stand-ins and the customers live here."""
        loop = asyncio.get_running_loop()
        while True:
            wanted = loop.time() + _LAG_STEP_S
            await asyncio.sleep(_LAG_STEP_S)
            self._lag_s = max(self._lag_s, loop.time() - wanted)
