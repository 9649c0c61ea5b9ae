"""Channel access tokens shared by all instances through Redis: a convenience, never a condition.

Whatever goes wrong with Redis here reads as "no token there": LINE issues as many stateless tokens as are
asked for, they only cost a round trip.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.adapters import redis_keys
from core.ports.line import ChannelCredentials


@dataclass(frozen=True, slots=True)
class ChannelToken:
    """A bearer and how long it is good for, in seconds from now."""

    bearer: str = field(repr=False)
    good_for_s: float


class RedisLineTokens:
    """`redis` returns bytes and is the caller's to close."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def get(self, channel: ChannelCredentials) -> ChannelToken | None:
        """One round trip. The time left is Redis' own TTL, so no two clocks are compared."""
        key = _key(channel)
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.get(key)
                pipeline.pttl(key)
                bearer, left_ms = await pipeline.execute()
        except (RedisError, OSError):
            return None
        return ChannelToken(bearer.decode(), left_ms / 1000) if bearer and left_ms > 0 else None

    async def put(self, channel: ChannelCredentials, token: ChannelToken) -> None:
        try:
            await self._redis.set(_key(channel), token.bearer, px=max(1, int(token.good_for_s * 1000)))
        except (RedisError, OSError):
            return

    async def drop(self, channel: ChannelCredentials) -> None:
        try:
            await self._redis.delete(_key(channel))
        except (RedisError, OSError):
            return


def _key(channel: ChannelCredentials) -> str:
    digest = hashlib.sha256(f"{channel.channel_id}\n{channel.channel_secret}".encode()).hexdigest()
    return redis_keys.line_token(channel.channel_id, digest[:16])
