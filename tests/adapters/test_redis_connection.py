from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from core.adapters.redis_connection import connect
from core.local.processes import ChildProcess, Guard
from core.local.redis_server import find_redis


@pytest.fixture
async def socket_path(tmp_path: Path) -> AsyncIterator[Path]:
    """A real server that listens on a unix socket alone."""
    path = tmp_path / "redis.sock"
    guard = Guard()
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path)]
    process = ChildProcess("redis", [find_redis(), *options], guard=guard, log=tmp_path / "redis.log")
    process.spawn()

    async def there() -> bool:
        return path.exists()

    await process.ready(there, timeout_s=10, remedy="See its log")
    yield path
    await process.kill()
    guard.close()


async def test_a_unix_socket_serves_as_well_as_an_address(socket_path: Path) -> None:
    async with connect(f"unix://{socket_path}?db=1") as redis:
        await redis.set("key", "value")
        assert await redis.get("key") == b"value"


async def test_a_new_connection_sends_nothing_that_redis_refuses(redis_url: str) -> None:
    async with connect(redis_url) as redis:
        await redis.config_resetstat()
        await redis.connection_pool.disconnect()
        await redis.ping()
        assert (await redis.info("stats"))["total_error_replies"] == 0
        assert not any(name.startswith("cmdstat_client") for name in await redis.info("commandstats"))


async def test_writing_to_a_connection_that_was_cut_is_a_lost_connection(redis_url: str) -> None:
    """asyncio's loop loses the words in silence, uvloop refuses them with an error of its own."""
    assert "uvloop" in type(asyncio.get_running_loop()).__module__
    async with connect(redis_url) as redis:
        connection = await redis.connection_pool.get_connection()
        connection._writer.transport.abort()
        with pytest.raises(RedisConnectionError, match="was cut"):
            await connection.send_command("PING")
        await redis.connection_pool.release(connection)
        assert await redis.ping()
