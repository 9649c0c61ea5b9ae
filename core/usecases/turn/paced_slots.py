"""The slots, with the clinic's backlog kept in step: its pace is learnt from grants, and where a slot would
come free for nobody, waiting turns are brought forward."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from core.domain.errors import RedisUnavailableError, TasksUnavailableError
from core.ports import log
from core.ports.backlog import Backlog, Pace
from core.ports.clock import Clock
from core.ports.slots import Slot, SlotRequest, Slots
from core.ports.tasks import TaskQueue

_SMOOTHING = 0.1
_WATCHED_S = 10.0
_UNABLE_S = 60.0  # a queue that runs no task now: what is planned keeps its place in the plan


class PacedSlots:
    """See ports.slots. `at_once`: turns of a clinic that run at once if it has no cap of its own. All that is
    done here for the backlog happens beside the turn and fails in silence: without it turns come when they
    were planned."""

    def __init__(
        self, slots: Slots, backlog: Backlog, tasks: TaskQueue, clock: Clock, *, at_once: int, hold_ms: float
    ) -> None:
        self._slots = slots
        self._backlog = backlog
        self._tasks = tasks
        self._clock = clock
        self._at_once = at_once
        self._hold_ms = hold_ms
        self._seen = False
        self._unable_until = 0.0
        self._watched: dict[str, float] = {}
        self._background: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def hold(
        self, request: SlotRequest, *, on_wait: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[Slot]:
        """See the port."""
        org_id = request.org_id
        if request.planned:
            self._watch(org_id)

        async def waits() -> None:
            self._watch(org_id)
            self._spawn(self._backlog.open(org_id, self._pace(request)))
            if on_wait is not None:
                await on_wait()

        try:
            async with self._slots.hold(request, on_wait=waits) as slot:
                began = self._clock.monotonic()
                if slot.waited_ms and org_id in self._watched:
                    self._spawn(self._refill(org_id, slot.waited_ms))
                yield slot
                self._learn((self._clock.monotonic() - began) * 1000)
        finally:
            if self._is_watched(org_id):
                self._spawn(self._refill(org_id, None))

    def check_now(self) -> None:
        """See the port."""
        self._slots.check_now()
        self._spawn(self._restore())

    async def drain(self) -> None:
        """See the port."""
        await self._slots.drain()

    async def close(self) -> None:
        """See the port."""
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._slots.close()

    def _pace(self, request: SlotRequest) -> Pace:
        return Pace(request.org_cap or self._at_once, self._hold_ms)

    def _learn(self, held_ms: float) -> None:
        self._hold_ms += (held_ms - self._hold_ms) * (_SMOOTHING if self._seen else 1.0)
        self._seen = True

    def _watch(self, org_id: str) -> None:
        """The clinic has a backlog, as far as is known here."""
        self._watched[org_id] = self._clock.monotonic() + _WATCHED_S

    def _is_watched(self, org_id: str) -> bool:
        if self._watched.get(org_id, 0.0) > self._clock.monotonic():
            return True
        self._watched.pop(org_id, None)
        return False

    async def _restore(self) -> None:
        """The queue knows who waits, also when Redis has lost it."""
        for org_id in await self._backlog.restore(self._tasks.scheduled):
            log.info("backlog.restored", org=org_id)
            self._watch(org_id)
            self._spawn(self._refill(org_id, None))

    async def _refill(self, org_id: str, waited_ms: int | None) -> None:
        able = self._clock.monotonic() >= self._unable_until
        found = await self._backlog.next(org_id, waited_ms, forward=able)
        if found.planned:
            self._watch(org_id)
        if not found.names:
            return
        log.info("backlog.forward", org=org_id, tasks=len(found.names), planned=found.planned)
        try:
            await asyncio.gather(*map(self._tasks.run, found.names))
        except TasksUnavailableError as exc:
            self._unable_until = self._clock.monotonic() + _UNABLE_S
            log.warning("backlog.not_forward", detail=str(exc))

    def _spawn(self, work: Awaitable[Any]) -> None:
        async def quietly() -> None:
            try:
                await work
            except (RedisUnavailableError, TasksUnavailableError) as exc:
                log.info("backlog.not_told", detail=str(exc))

        task = asyncio.create_task(quietly())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
