"""A heartbeat that runs when it is due: at the earliest time anybody asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Pulse:
    """`beat` never runs twice at once; a time that falls into a beat is made up for after it."""

    def __init__(self, beat: Callable[[], Awaitable[None]]) -> None:
        self._beat = beat
        # uvloop makes a plain Handle, which has no `when()`, of a timer that is due: the time is kept here.
        self._timer: asyncio.Handle | None = None
        self._due_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._missed = False

    def ask(self, delay_s: float) -> None:
        """Beat in `delay_s` at the latest."""
        loop = asyncio.get_running_loop()
        at = loop.time() + delay_s
        if self._timer is not None:
            if self._due_at <= at:
                return
            self._timer.cancel()
        self._timer, self._due_at = loop.call_at(at, self._fire), at

    def _fire(self) -> None:
        self._timer = None
        if self._task is not None:
            self._missed = True
            return
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._beat()
        finally:
            self._task = None
            if self._missed:
                self._missed = False
                self.ask(0)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._missed = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
