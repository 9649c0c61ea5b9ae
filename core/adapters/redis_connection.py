"""How fairlane connects to Redis (Memorystore in production)."""

from __future__ import annotations

from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.maint_notifications import MaintNotificationsConfig

__all__ = ["Redis", "connect"]

_MOST_CONNECTIONS = 64
"""Of a process. An instance may have hundreds of turns in hand: a call then waits for a connection."""


def connect(url: str, ca_cert: str | None = None, *, timeout_s: float = 2.0, tries: int = 2) -> Redis:
    """A pooled client; nothing is sent until it is used. `url`: `redis://`, `rediss://` or `unix://`;
    `ca_cert`: PEM of the CA, for `rediss://`.

    `timeout_s` for a free connection, for connecting, and for each answer; `tries` in all, so that a
    connection that went stale in the pool does no harm. Only for operations that may be repeated, as all of
    ours may.
    """
    network: dict[str, Any] = {}
    if not url.startswith("unix://"):
        network["socket_keepalive"] = True
    if ca_cert and url.startswith("rediss://"):
        network["ssl_ca_data"] = ca_cert
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_MOST_CONNECTIONS,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), tries - 1),
        # Memorystore blocks some CLIENT commands; naming ourselves, and word of maintenance that only Redis
        # Enterprise sends, are not worth a round trip anyway.
        driver_info=None,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        **network,
    )
    return Redis.from_pool(pool)
