"""One effect's task of the queue: done, found done, or put off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from core.domain.task import EffectTask
from core.ports import log
from core.ports.clock import Clock
from core.usecases.outbox.outbox import Outbox

_EARLY_MS = 1_000
"""The queue's clock and ours may differ by so much."""


class Executor(Protocol):
    """Does the effects of one kind. Its document says whether one is done: a task may come twice, late, or at
    the same time as another one."""

    async def __call__(self, task: EffectTask) -> int | None:
        """None if there is nothing more to do, else when to come again (Unix ms). Raises UnavailableError:
        the queue sends the task again."""
        ...

    async def give_up(self, task: EffectTask, reason: str) -> None:
        """Record that it can't be done. Raises UnavailableError."""
        ...


class RunEffect:
    def __init__(self, executors: Mapping[str, Executor], outbox: Outbox, clock: Clock) -> None:
        self._executors = executors
        self._outbox = outbox
        self._clock = clock

    async def __call__(self, task: EffectTask) -> None:
        """Raises UnavailableError."""
        again_ms: int | None = task.due_ms
        if task.due_ms <= self._clock.now_ms() + _EARLY_MS:
            again_ms = await self._executors[task.kind](task)
        if again_ms is not None:
            log.info("effect.putback", kind=task.kind, hop=task.hop + 1)
            await self._outbox.enqueue(task.successor(again_ms))

    async def give_up(self, task: EffectTask, reason: str) -> None:
        log.error("effect.failed", kind=task.kind, id=task.id, reason=reason)
        await self._executors[task.kind].give_up(task, reason)
