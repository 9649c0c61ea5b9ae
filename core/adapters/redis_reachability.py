"""Is there a way to Redis yet? With Direct VPC egress an instance may have none for its first minute."""

from __future__ import annotations

import asyncio

from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from core.adapters.redis_connection import connect

_TRY_S = 5.0
_PAUSE_S = 0.2


async def answers_within(url: str, ca_cert: str | None, seconds: float) -> bool:
    """Ping over a connection that is made for it alone, again and again. An error is an answer, too."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while (left_s := deadline - loop.time()) > 0:
        try:
            async with asyncio.timeout(left_s), connect(url, ca_cert, timeout_s=_TRY_S, tries=1) as redis:
                await redis.ping()
        except AuthenticationError:  # a connection error by its class
            return True
        except (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError):
            await asyncio.sleep(min(_PAUSE_S, left_s))
        except RedisError:
            return True
        else:
            return True
    return False
