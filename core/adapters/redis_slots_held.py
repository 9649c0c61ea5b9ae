"""One ticket of this process: while it waits, and while its slot is held."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from core.adapters.redis_slots_scripts import Outlook
from core.domain.errors import RedisUnavailableError
from core.ports.slots import Outcome, Refusal, SlotLostError, SlotRequest


@dataclass(frozen=True, slots=True)
class Grant:
    """`good_until` is the loop's time at which it ends by itself. `stale`: it was heard of so late that only
    Redis can say whether it still holds (this process was paused)."""

    fence: int
    good_until: float
    used: int
    waiting: int
    limit: int
    stale: bool = False

    @classmethod
    def of(cls, fence: int, good_until: float, outlook: Outlook) -> Self:
        return cls(fence, good_until, outlook.used, outlook.waiting, outlook.limit)


@dataclass(frozen=True, slots=True)
class SentAway:
    """Why this process or Redis no longer lets a waiter wait, and for how long no grant is certain."""

    reason: Refusal
    shut_ms: int = 0


class Waiter:
    """A request on its way to a slot. `queued`: Redis has it; `good_until`: its liveness mark there."""

    def __init__(self, request: SlotRequest) -> None:
        loop = asyncio.get_running_loop()
        self.request = request
        self.nonce = uuid.uuid4().hex
        self.place = request.place
        self.began_at = loop.time()
        self.deadline = self.began_at + request.wait_s
        self.good_until = self.began_at
        self.queued = False
        self.clock_ms: float | None = None  # Redis' clock less the loop's, as of the last answer
        self.call: asyncio.Task[Any] | None = None
        self.woken: asyncio.Future[Grant | SentAway | None] = loop.create_future()

    def wake(self, word: Grant | SentAway | None) -> None:
        """Granted, sent away, or (None) unknown to Redis: ask again. It may come before Redis' answer, which
        says what place is to be kept."""
        if not self.woken.done():
            self.woken.set_result(word)

    def fail(self, error: RedisUnavailableError) -> None:
        if not self.woken.done():
            self.woken.set_exception(error)
            self.woken.exception()  # whether somebody still looks at it or not


class HeldSlot:
    """A slot while its block runs (`with slot:` around the block). When the lease ends without having been
    renewed, or Redis says it is lost, the block is cancelled and the cancellation becomes SlotLostError."""

    def __init__(self, waiter: Waiter, grant: Grant, *, last_until: float) -> None:
        loop = asyncio.get_running_loop()
        self.outcome: Outcome | None = None
        self.request = waiter.request
        self.nonce = waiter.nonce
        self.fence = grant.fence
        self._place = waiter.place or 0
        self._waited_ms = round(1000 * (loop.time() - waiter.began_at))
        self._last_until = last_until
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self.lost = False
        self._timer = loop.call_at(grant.good_until, self.lose)

    @property
    def waited_ms(self) -> int:
        return self._waited_ms

    @property
    def place(self) -> int:
        return self._place

    def prolong(self, good_until: float) -> None:
        self._timer.cancel()
        if not self.lost:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(min(good_until, self._last_until), self.lose)

    def lose(self) -> None:
        self._timer.cancel()
        if self._task is not None and not self.lost:
            self.lost = True
            self._task.cancel()

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        assert self._task is not None  # noqa: S101  a coroutine runs in a task
        self._cancelling = self._task.cancelling()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        self._timer.cancel()
        if task is None or not self.lost:
            return
        # As in asyncio.timeout: if nobody else cancelled the task, the cancellation was ours.
        ours = task.uncancel() <= self._cancelling
        if ours and (exc_type is None or issubclass(exc_type, asyncio.CancelledError)):
            raise SlotLostError(f"the slot of {self.request.org_id} was lost") from exc
