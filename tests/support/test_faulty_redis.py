"""What stands for a Redis that can't serve refuses what a real one would refuse, and passes on the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.local.redis_server import RedisServer
from tests.support.faulty_redis import FaultyRedis, RedisFault

COMMANDS = {"read": "GET key", "write": "SET key 1", "give back": "DEL key", "ask": "PING"}
REFUSED = {
    RedisFault.READONLY: {"write", "give back"},
    RedisFault.OOM: {"write"},
    RedisFault.LOADING: {"read", "write", "give back", "ask"},
    RedisFault.BUSY: {"read", "write", "give back", "ask"},
    RedisFault.MISCONF: {"write", "give back"},
}


@pytest.fixture
async def faulty(redis_server: RedisServer, redis_url: str) -> AsyncIterator[FaultyRedis]:
    async with FaultyRedis(redis_server.port) as faulty:
        yield faulty


async def refuses(redis: Redis, command: str) -> str:
    try:
        await redis.execute_command(*command.split(" ", 2))
    except RedisError as exc:
        return str(exc)
    return ""


@pytest.mark.parametrize("fault", RedisFault)
async def test_each_fault_refuses_its_kinds_of_commands_on_a_living_connection(
    faulty: FaultyRedis, fault: RedisFault
) -> None:
    async with Redis.from_url(faulty.url, single_connection_client=True) as redis:
        await redis.set("key", "1")
        for kind, command in COMMANDS.items():
            async with faulty.failing(fault):
                said = await refuses(redis, command)
            assert bool(said) == (kind in REFUSED[fault]), (kind, said)
        assert not await refuses(redis, "SET key 2")
        assert await redis.get("key") == b"2"
        assert faulty.refused[fault] == len(REFUSED[fault])


async def test_a_script_that_may_run_without_memory_does(faulty: FaultyRedis) -> None:
    async with Redis.from_url(faulty.url) as redis:
        gives = await redis.script_load("#!lua flags=allow-oom\nreturn redis.call('DEL', KEYS[1])")
        takes = await redis.script_load("return redis.call('SET', KEYS[1], '1')")
        async with faulty.failing(RedisFault.OOM):
            assert await redis.evalsha(gives, 1, "key") == 0
            with pytest.raises(RedisError, match="maxmemory"):
                await redis.evalsha(takes, 1, "key")


async def test_answers_come_in_the_order_of_the_commands(faulty: FaultyRedis) -> None:
    async with Redis.from_url(faulty.url) as redis, faulty.failing(RedisFault.OOM, share=0.5):
        for _ in range(20):
            pipeline = redis.pipeline(transaction=False)
            for n in range(10):
                pipeline.set(f"k{n}", n)
                pipeline.echo(f"{n}")
            answers = await pipeline.execute(raise_on_error=False)
            assert list(answers[1::2]) == [f"{n}".encode() for n in range(10)]
    assert 0 < faulty.refused[RedisFault.OOM] < 200


async def test_a_client_that_leaves_while_it_waits_is_missed_at_the_server(faulty: FaultyRedis) -> None:
    async with Redis.from_url(faulty.url) as redis, Redis(port=faulty.port) as other:
        waiting = asyncio.ensure_future(redis.blpop(["list"], 0))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await redis.connection_pool.disconnect()
        await asyncio.sleep(0.1)
        assert await other.rpush("list", "kept") == 1
        assert await other.llen("list") == 1
