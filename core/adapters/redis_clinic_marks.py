"""The clinics' marks in Redis. The mailbox's scripts hand them out (lua/mailbox_begin.lua)."""

from __future__ import annotations

import uuid

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.adapters import redis_keys
from core.domain.errors import RedisUnavailableError

_KEPT_S = 120
"""By then every process has read the clinic anew of its own accord."""


class RedisClinicMarks:
    """`redis` is the caller's to close."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def renew(self, org_id: str) -> None:
        """See the port."""
        try:
            await self._redis.set(redis_keys.clinic_mark(org_id), uuid.uuid4().hex, ex=_KEPT_S)
        except (RedisError, OSError) as exc:
            raise RedisUnavailableError(f"Redis: {type(exc).__name__}: {exc}") from exc
