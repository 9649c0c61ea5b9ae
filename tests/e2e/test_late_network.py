"""An instance whose network comes late: turn waits for Redis before its port opens, webhook does not."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from core.bootstrap import turn as bootstrap
from core.domain.settings import Settings
from core.local.redis_server import RedisServer
from core.local.stack import LocalStack, StackOptions
from tests.support.late_network import LateNetwork

LATE_S = 6.0


def logged(stack: LocalStack, function: str, event: str) -> dict[str, object]:
    lines = (stack.run_dir / f"{function}.log").read_text().splitlines()
    (found,) = [line for line in map(json.loads, lines) if line["message"] == event]
    return dict(found)


async def test_turn_opens_its_port_once_redis_answers_and_webhook_at_once(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with LateNetwork(redis_server.port) as network:
        environment = {"REDIS_URL": f"redis://{network.address}/0"}
        stack = LocalStack(StackOptions(turns=1, run_dir=tmp_path, environment=environment))
        network.open_after(LATE_S)
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(stack.__aenter__())
            while not (stack.webhooks and stack.webhook_urls):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            webhook = group.create_task(until_it_answers(stack.webhook_url))
        assert webhook.result() - began < LATE_S - 1
        assert time.monotonic() - began >= LATE_S
        assert starting.result() is stack
        awaited = logged(stack, "turn-0", "process.redis_awaited")
        assert awaited["reached"] is True
        assert awaited["severity"] == "INFO"
        assert "process.redis_awaited" not in (tmp_path / "webhook-0.log").read_text()
        await stack.__aexit__()


async def until_it_answers(url: str) -> float:
    """When it did."""
    port = int(url.rpartition(":")[2])
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return time.monotonic()


@pytest.mark.parametrize("refused", [True, False])
async def test_turn_starts_all_the_same_after_its_time_and_says_so(
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refused: bool,
) -> None:
    monkeypatch.setattr(bootstrap, "_REDIS_WAIT_S", 1.5)
    async with LateNetwork(redis_server.port) as network:
        url = "redis://127.0.0.1:9/0" if refused else f"redis://{network.address}/0"
        began = time.monotonic()
        await bootstrap.wait_for_redis(Settings.read({"REDIS_URL": url}, ()))
        assert 1.4 < time.monotonic() - began < 3
    (line,) = caplog.records
    assert (line.getMessage(), line.levelname) == ("process.redis_awaited", "WARNING")
    assert vars(line)["fields"]["reached"] is False


async def test_a_redis_that_answers_with_an_error_is_not_waited_for(tmp_path: Path) -> None:
    async with RedisServer() as server:
        await server.command("CONFIG", "SET", "requirepass", "secret")
        began = time.monotonic()
        await bootstrap.wait_for_redis(Settings.read({"REDIS_URL": f"{server.url}"}, ()))
        assert time.monotonic() - began < 5
