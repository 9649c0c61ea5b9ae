"""People's names at LINE in Redis, for a day."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.adapters import redis_keys

_DAY_S = 86_400


class RedisNames:
    """`redis` returns bytes and is the caller's to close."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def get(self, org_id: str, user_id: str) -> str | None:
        try:
            name: Any = await self._redis.get(redis_keys.display_name(org_id, user_id))
        except (RedisError, OSError):
            return None
        return None if name is None else str(name.decode())

    async def put(self, org_id: str, user_id: str, name: str) -> None:
        try:
            await self._redis.set(redis_keys.display_name(org_id, user_id), name.encode(), ex=_DAY_S)
        except (RedisError, OSError):
            return
