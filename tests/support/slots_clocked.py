"""The slots' scripts on a real Redis whose clock stands still until it is told to go on."""

from __future__ import annotations

import hashlib
from typing import Any

from redis.asyncio import Redis

from core.adapters.redis_slots_scripts import SlotOptions, SlotScripts, _Script

CLOCK = "clock"
START_MS = 1_795_478_400_000


class ClockedScripts(SlotScripts):
    """`now_ms` is what Redis' TIME would say."""

    def __init__(self, redis: Redis, options: SlotOptions) -> None:
        super().__init__(redis, options)
        self.now_ms = START_MS
        self._micros = 0
        for name in ("_acquire", "_renew", "_release", "_cancel", "_view", "_limit"):
            source = getattr(self, name).source.replace(
                "call('TIME')", f"call('HMGET', '{CLOCK}', 's', 'us')"
            )
            assert CLOCK in source
            sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            setattr(self, name, _Script(source, sha))

    async def _run(self, script: Any, numbers: Any, *words: Any) -> Any:
        micros = 1000 * self.now_ms + self._micros
        await self._redis.hset(CLOCK, mapping={"s": micros // 1_000_000, "us": micros % 1_000_000})
        try:
            return await super()._run(script, numbers, *words)
        finally:
            # Some microseconds lie between two operations, as in a real Redis; they pass after this one, so
            # that `now_ms` is what it saw, not a millisecond less.
            self._micros += 10
            self.now_ms, self._micros = self.now_ms + self._micros // 1000, self._micros % 1000
