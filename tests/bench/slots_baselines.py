"""What the slots are measured against: a polling sorted-set semaphore, and a round-robin order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

_TAKE = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1] - ARGV[4])
if redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
  return 1
end
return 0
"""


class PollingSemaphore:
    """The usual design: one sorted set of holders, and everybody asks again every `poll_s`."""

    def __init__(self, redis: Redis, limit: int, *, poll_s: float = 0.05, lease_s: float = 10.0) -> None:
        self._take = redis.register_script(_TAKE)
        self._redis = redis
        self._limit = limit
        self._poll_s = poll_s
        self._lease_s = lease_s
        self.trips = 0

    @asynccontextmanager
    async def hold(self, ticket: str) -> AsyncIterator[None]:
        while True:
            self.trips += 1
            if await self._take(keys=["polling"], args=[time.time(), ticket, self._limit, self._lease_s]):
                break
            await asyncio.sleep(self._poll_s)
        try:
            yield
        finally:
            self.trips += 1
            await self._redis.zrem("polling", ticket)


class RoundRobin:
    """In one process, no Redis: a free slot goes to the next clinic in turn, however many slots it holds."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._turns: deque[str] = deque()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def hold(self, org: str) -> AsyncIterator[None]:
        waiter = asyncio.get_running_loop().create_future()
        if org not in self._waiting:
            self._waiting[org] = deque()
            self._turns.append(org)
        self._waiting[org].append(waiter)
        self._grant()
        await waiter
        try:
            yield
        finally:
            self._free += 1
            self._grant()

    def _grant(self) -> None:
        for _ in range(len(self._turns)):
            if not self._free:
                return
            org = self._turns.popleft()
            self._turns.append(org)
            if self._waiting[org]:
                self._free -= 1
                self._waiting[org].popleft().set_result(None)
