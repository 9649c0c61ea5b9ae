"""A Redis server as an operator sees it. Not by CONFIG: Memorystore blocks it, and INFO says the same."""

from __future__ import annotations

import time
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection
from redis.exceptions import RedisError

from core.domain.errors import RedisUnavailableError
from core.ports.inspection import RedisFacts


async def inspect_redis(redis: Redis) -> RedisFacts:
    """Raises RedisUnavailableError."""
    try:
        await redis.ping()  # connects: the round trip is measured without that
        before, began = time.time_ns(), time.perf_counter()
        seconds, micros = await redis.time()
        round_trip_s = time.perf_counter() - began
        info: dict[str, Any] = await redis.info()
    except (RedisError, OSError) as exc:
        raise RedisUnavailableError(f"Redis: {type(exc).__name__}: {exc}") from exc
    here_ms = (before + round_trip_s * 1e9 / 2) / 1e6
    return RedisFacts(
        version=str(info.get("redis_version", "unknown")),
        tls=issubclass(redis.connection_pool.connection_class, SSLConnection),
        policy=info.get("maxmemory_policy"),
        used_bytes=int(info.get("used_memory", 0)),
        max_bytes=int(info.get("maxmemory", 0)),
        round_trip_ms=round_trip_s * 1000,
        clock_ahead_ms=round(here_ms - (seconds * 1000 + micros / 1000)),
    )
