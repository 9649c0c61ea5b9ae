"""The wake channel of this process: one connection on which Redis announces the grants of all its waiters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from core.ports import log
from core.ports.clock import Clock

_QUIET_S = 5.0  # then the connection is tried with a PING: a cut one may never say so
_AGAIN_S = 0.2


class WakeChannel:
    """Published messages cost no round trip, need no key, and leave nothing behind a process that died. What
    is published while the connection is away is lost, so `on_ready` is called whenever it is (back) there.

    Nothing is opened before `start`, so that a process may fork before.
    """

    def __init__(
        self,
        redis: Redis,
        channel: str,
        clock: Clock,
        *,
        on_message: Callable[[bytes], None],
        on_ready: Callable[[], None],
    ) -> None:
        self._redis = redis
        self._channel = channel
        self._clock = clock
        self._on_message = on_message
        self._on_ready = on_ready
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Idempotent."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(self._channel)
                    await self._listen(pubsub)
            except (RedisError, OSError):
                await self._clock.sleep(_AGAIN_S)
            except Exception as exc:  # whatever it is, waiters must be woken again
                log.error("slots.wake_failed", exc=exc)
                await self._clock.sleep(_AGAIN_S)

    async def _listen(self, pubsub: PubSub) -> None:
        tried = False
        while True:
            message = await pubsub.get_message(timeout=_QUIET_S)
            if message is None:
                if tried:
                    raise ConnectionError("the wake channel is silent")
                await pubsub.ping()
                tried = True
                continue
            tried = False
            if message["type"] == "subscribe":
                self._on_ready()
            elif message["type"] == "message":
                self._on_message(message["data"])
