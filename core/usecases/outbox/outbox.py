"""Enqueue effects. Whoever commits one enqueues it next, and whoever finds it committed does so again: its
name makes one task of it."""

from __future__ import annotations

import asyncio

from core.domain.task import EffectTask
from core.ports.clock import Clock
from core.ports.tasks import TaskQueue

LONGEST_DELAY_MS = 28 * 86_400_000
"""Cloud Tasks schedules 30 days ahead at most: what is due later comes by and goes on waiting."""


class Outbox:
    def __init__(self, tasks: TaskQueue, clock: Clock) -> None:
        self._tasks = tasks
        self._clock = clock

    async def enqueue(self, *effects: EffectTask) -> None:
        """Raises TasksUnavailableError if the queue did not confirm each of them: do it again."""
        now_ms = self._clock.now_ms()

        async def create(effect: EffectTask) -> None:
            delay_ms = min(max(0, effect.due_ms - now_ms), LONGEST_DELAY_MS)
            await self._tasks.create(effect, delay_ms=delay_ms)

        if effects:
            await asyncio.gather(*map(create, effects))
