"""Idle instances without CPU, as Cloud Run leaves them: no request that wakes one up is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.local.stack import LocalStack, StackOptions
from tests.support.idleness import Caller, idle


def callers(stack: LocalStack) -> list[Caller]:
    functions = [*stack.webhooks, *stack.turns]
    urls = [*stack.webhook_urls, *stack.turn_urls]
    return [Caller(function, url) for function, url in zip(functions, urls, strict=True)]


async def test_a_time_limit_that_passed_without_cpu_costs_no_request(tmp_path: Path) -> None:
    options = StackOptions(
        webhooks=2, turns=2, run_dir=tmp_path, environment={"CLOUD_RUN_TIMEOUT_SECONDS": "1"}
    )
    async with LocalStack(options) as stack:
        for _ in range(2):
            answers = await idle(callers(stack), 3.0)
            assert answers == [200] * 8
            await asyncio.sleep(1.2)  # gunicorn looks after its workers once a second
        pids = [function.pid for function in (*stack.webhooks, *stack.turns)]
        assert all(function.running for function in (*stack.webhooks, *stack.turns)), pids
        assert "WORKER TIMEOUT" not in "".join(log.read_text() for log in stack.logs)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_twenty_times_fifteen_seconds_without_cpu_lose_nothing(tmp_path: Path) -> None:
    """With the time limits as deployed."""
    async with LocalStack(StackOptions(webhooks=4, turns=1, run_dir=tmp_path)) as stack:
        for _ in range(4):
            assert await idle(callers(stack), 15.0) == [200] * 10
