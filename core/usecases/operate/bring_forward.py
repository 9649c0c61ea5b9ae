"""The provider can be called again before anybody expected it: who waits on the queue need not wait on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core.ports import log
from core.ports.backlog import Backlog
from core.ports.clock import Clock
from core.ports.tasks import TaskQueue

_AT_ONCE = 20
_PAUSE_S = 1.0
_LONGEST_S = 120.0  # by then nobody waits who waited when it began


class BringForward:
    """Run the clinics' waiting turns, of each as many at a time as run at once, until none waits."""

    def __init__(self, backlog: Backlog, tasks: TaskQueue, clock: Clock) -> None:
        self._backlog = backlog
        self._tasks = tasks
        self._clock = clock
        self._calls = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, on_progress: Callable[[int, int], None]) -> int:
        """How many there were. `on_progress` hears how many were brought forward and how many still wait.
        Raises RedisUnavailableError and TasksUnavailableError: the others come at their time then."""
        clinics, forward = list(await self._backlog.clinics()), 0
        until = self._clock.monotonic() + _LONGEST_S
        while clinics and self._clock.monotonic() < until:
            waiting = {org_id: await self._backlog.next(org_id) for org_id in clinics}
            names = [name for found in waiting.values() for name in found.names]
            forward += sum(await asyncio.gather(*map(self._run, names)))
            on_progress(forward, sum(found.planned for found in waiting.values()))
            clinics = [org_id for org_id, found in waiting.items() if found.planned]
            if clinics:
                await self._clock.sleep(_PAUSE_S)
        log.info("backlog.brought_forward", tasks=forward)
        return forward

    async def _run(self, name: str) -> bool:
        async with self._calls:
            return await self._tasks.run(name)
