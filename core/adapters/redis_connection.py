"""How fairlane connects to Redis (Memorystore in production)."""

from __future__ import annotations

import re
from typing import Any

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.maint_notifications import MaintNotificationsConfig

__all__ = ["ALLOWED_WHEN_FULL", "REFUSED_WHEN_FULL", "Redis", "connect"]

_MAX_CONNECTIONS = 64
"""Of a process. An instance may have hundreds of turns in hand: a call then waits for a connection."""

REFUSED_WHEN_FULL = "#!lua\n"
"""First line of a script that takes: a Redis without memory left refuses it before it begins."""
ALLOWED_WHEN_FULL = "#!lua flags=allow-oom\n"
"""First line of one that gives memory or slots back, or keeps what is held."""

_UNFIT = re.compile(
    r"(?:^|[\s-])(?:READONLY|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|MISCONF|LOADING|BUSY|UNKILLABLE|TRYAGAIN|UNBLOCKED)\s"
)
"""Answers by which a server says that it can't serve now, whatever is asked: a replica that was the primary
before a failover, a server that loads its data, can't save or hangs in a script. Redis before 7 puts the word
behind others when a script meets it. OOM is none of them: whoever gives memory back is served then, too."""


class _Fit:
    """Part of a connection: it is dropped when its server says that it can't serve now. After a failover a
    connection lives on to the server that was demoted, where all later calls would fail as well; a new one
    leads to the new primary. The call fails as on a lost connection, so that it is tried again, too."""

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().read_response(*args, **kwargs)  # type: ignore[misc]
        except ResponseError as exc:
            said = f"{exc.status_code or ''} {exc} "
            if not _UNFIT.search(said):
                raise
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise RedisConnectionError(f"the server can't serve now: {said.strip()}") from exc

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().send_packed_command(*args, **kwargs)  # type: ignore[misc]
        except RuntimeError as exc:
            if "the handler is closed" not in str(exc):
                raise
            # What uvloop says of a connection that was cut; asyncio's own loop says nothing.
            raise RedisConnectionError(f"the connection was cut: {exc}") from exc


class _Tcp(_Fit, Connection):
    pass


class _Tls(_Fit, SSLConnection):
    pass


class _Unix(_Fit, UnixDomainSocketConnection):
    pass


_FIT = {Connection: _Tcp, SSLConnection: _Tls, UnixDomainSocketConnection: _Unix}


def connect(url: str, ca_cert: str | None = None, *, timeout_s: float = 2.0, tries: int = 2) -> Redis:
    """A pooled client; nothing is sent until it is used. `url`: `redis://`, `rediss://` or `unix://`;
    `ca_cert`: PEM of the CA, for `rediss://`.

    `timeout_s` for a free connection, for connecting, and for each answer; `tries` in all, so that a
    connection that went stale in the pool does no harm, nor one to a server that was demoted. Only for
    operations that may be repeated, as all of ours may.
    """
    network: dict[str, Any] = {}
    if not url.startswith("unix://"):
        network["socket_keepalive"] = True
    if ca_cert and url.startswith("rediss://"):
        network["ssl_ca_data"] = ca_cert
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_MAX_CONNECTIONS,
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
    pool.connection_class = _FIT[pool.connection_class]
    return Redis.from_pool(pool)
