"""The shaper in Redis: one script call announces events and says when each may run (lua/shape.lua)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.adapters import redis_keys
from core.adapters.redis_backlog import backlog_keys, told_every_ms
from core.adapters.redis_mailbox import KNOWN_MS, encode_event, mailbox_script, own_message_id
from core.domain.errors import RedisUnavailableError
from core.domain.event import MAX_WAITING
from core.domain.settings import default
from core.domain.task import TurnTask
from core.ports.shaper import Arrival, Shaped

_LARGEST_BATCH = 100  # arrivals in one script call; keeps Redis' pause at about a millisecond
_STUCK_S = 1.0  # then the connection is given up
_LATE_S = 10.0  # for how long what nobody waits for any more is announced all the same
_MOST_LATE = 1_000
_PAUSE_S = 0.1
_LOOPS = 10  # turns of the loop in which an answer that has arrived is surely read
_SENDER_WINDOW_US = 10_000_000
_MINUTE_US = 60_000_000


@dataclass(slots=True)
class _Waiting:
    arrivals: Sequence[Arrival]
    answer: asyncio.Future[Shaped]
    since: float

    def let_through(self, exc: Exception | None = None) -> None:
        """Their tasks are due at once."""
        self.arrivals = [replace(arrival, org_per_minute=0) for arrival in self.arrivals]
        if exc and not self.answer.done():
            error = RedisUnavailableError(f"Redis: {exc}")
            error.__cause__ = exc
            self.answer.set_exception(error)
            self.answer.exception()  # whether somebody still looks at it or not


class RedisShaper:
    """Arrivals of concurrent requests share one connection and travel together: while a script call is under
    way the next batch gathers. So a hanging Redis costs each request `timeout_s` at most, those that come
    while a call has been stuck for that long nothing at all, and the process one connection. What was let
    through without an answer is announced all the same as soon as Redis answers: a later message of its
    conversation must find it, whichever task begins first. It is not counted.

    `longest_s` bounds each delay by a clinic's rate: a turn that would have to wait longer is not counted, so
    that nobody waits until it is too late to answer. Those are spread over the second half of that time; past
    a clinic's burst and so much of its rate, the slots alone hold a flood back. A turn whose place in its
    clinic's backlog does not come in that time is due when its `patience_s` ends.

    `redis` is the caller's to close; its own retries should be off.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        sender_per_10s: int = default("SENDER_MESSAGES_PER_10S"),
        longest_s: float = default("PATIENCE_S") - default("SLOT_WAIT_S"),
        patience_s: float = default("PATIENCE_S"),
        dispatches_per_s: float = default("TASKS_DISPATCHES_PER_S"),
        timeout_s: float = 0.030,
    ) -> None:
        self._script = mailbox_script(redis, "backlog.lua", "shape.lua")
        self._rule = (
            sender_per_10s,
            _SENDER_WINDOW_US / sender_per_10s,
            round(longest_s * 1_000_000),
            KNOWN_MS,
            MAX_WAITING,
        )
        self._told = (round(patience_s * 1000), told_every_ms(dispatches_per_s))
        self._generation: bytes = b""
        self._timeout_s = timeout_s
        self._waiting: list[_Waiting] = []
        self._came = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._sent_at = 0.0

    async def shape(self, arrivals: Sequence[Arrival]) -> Shaped:
        """See the port. Raises RedisUnavailableError."""
        loop = asyncio.get_running_loop()
        if self._pump is None or self._pump.done():
            self._pump = loop.create_task(self._run())
            self._sent_at = loop.time()
        waiting = _Waiting(arrivals, loop.create_future(), loop.time())
        self._waiting.append(waiting)
        self._came.set()
        if self._is_stuck():
            await self._read_on(waiting)
        await asyncio.wait({waiting.answer}, timeout=0 if self._is_stuck() else self._timeout_s)
        await self._read_on(waiting)
        if not waiting.answer.done():
            waiting.let_through()
            raise RedisUnavailableError(f"Redis did not answer in {self._timeout_s} s")
        return waiting.answer.result()

    def _is_stuck(self) -> bool:
        return asyncio.get_running_loop().time() - self._sent_at > self._timeout_s

    async def _read_on(self, waiting: _Waiting) -> None:
        """It may be this process that was late, not Redis: what has arrived meanwhile is read first."""
        for _ in range(_LOOPS):
            if waiting.answer.done():
                return
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Give up the call under way."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            self._sent_at = loop.time()
            try:
                async with asyncio.timeout(max(_STUCK_S, self._timeout_s)):
                    now_ms, delays_ms = await self._call([a for w in batch for a in w.arrivals])
            except (RedisError, OSError, TimeoutError) as exc:
                self._fail(batch, exc)
                await self._pause()
                continue
            for waiting in batch:
                mine, delays_ms = delays_ms[: len(waiting.arrivals)], delays_ms[len(waiting.arrivals) :]
                if not waiting.answer.done():
                    waiting.answer.set_result(Shaped(mine, now_ms))

    def _next_batch(self) -> list[_Waiting]:
        """Oldest first, up to the largest batch (one request may exceed it), but none that is too late."""
        oldest = asyncio.get_running_loop().time() - _LATE_S
        self._waiting = [waiting for waiting in self._waiting[-_MOST_LATE:] if waiting.since > oldest]
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and size < _LARGEST_BATCH:
            batch.append(self._waiting.pop(0))
            size += len(batch[-1].arrivals)
        return batch

    def _fail(self, batch: list[_Waiting], exc: Exception) -> None:
        """Their callers go on; they are tried again, which does no harm if Redis has done it after all."""
        for waiting in batch:
            waiting.let_through(exc)
        self._waiting[:0] = batch

    async def _pause(self) -> None:
        """Until somebody new comes, at most."""
        self._sent_at = math.inf
        self._came.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PAUSE_S):
                await self._came.wait()

    async def _call(self, arrivals: Sequence[Arrival]) -> tuple[int, list[int]]:
        keys: list[str] = [redis_keys.GENERATION, *backlog_keys("")[:2]]
        args: list[Any] = [*self._rule, self._generation, *self._told]
        for arrival in arrivals:
            event, rate = arrival.event, arrival.org_per_minute
            keys += (
                redis_keys.shaper_org(event.org_id),
                redis_keys.shaper_sender(event.org_id, event.user_id or event.chat_id),
                *(
                    redis_keys.mailbox(event.conversation, part)
                    for part in ("known", "lead", "events", "done", "announced")
                ),
                *backlog_keys(event.org_id)[2:],
                redis_keys.backlog(event.org_id, "rush"),
            )
            # Rounded down, a minute's worth of messages never exceeds the minute.
            interval_us = _MINUTE_US // rate if rate else 0
            args += (rate, interval_us, event.event_id, event.timestamp_ms, own_message_id(event))
            gather_ms = -1 if arrival.gather_ms is None else arrival.gather_ms
            args += (len(event.text), encode_event(event), gather_ms)
            args += (event.org_id, TurnTask(event, "").name)
        now_ms, self._generation, *delays_ms = await self._script(keys=keys, args=args)
        return now_ms, delays_ms
