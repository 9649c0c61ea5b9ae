"""The supervisor: everything starts, misbehaves on command, and is gone afterwards, whatever ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from core.adapters.http_client import HttpClient
from core.local.processes import PartFailedError
from core.local.stack import QUEUE, Function, LocalStack, StackOptions
from core.local.task_store import StoredTask

TINY = """
import os
import functions_framework.aio

@functions_framework.aio.http
async def tiny(request):
    return os.environ["REDIS_URL"] + " " + os.environ.get("EXTRA", "")
"""


@pytest.fixture
def tiny(tmp_path: Path) -> StackOptions:
    source = tmp_path / "main.py"
    source.write_text(TINY)
    function = Function("tiny", str(source))
    return StackOptions(turns=2, run_dir=tmp_path / "run", webhook_function=function, turn_function=function)


def members(*groups: int) -> list[psutil.Process]:
    """Processes of these groups that are not zombies."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) in groups and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def enqueue(stack: LocalStack, count: int) -> None:
    now = time.time()
    queue = stack.tasks.queue()
    for i in range(count):
        name = f"{QUEUE}/tasks/{now}-{i}"
        queue.store.add(StoredTask(name, "POST", f"{stack.turn_urls[0]}/", {}, b"{}", now, now, 600))
    queue.wake()


async def get(url: str) -> str:
    client = HttpClient()
    try:
        return (await client.request("GET", url)).body.decode()
    finally:
        await client.close()


async def test_stack_starts_survives_kills_and_leaves_nothing(tiny: StackOptions) -> None:
    async with LocalStack(tiny) as stack:
        groups = [f.pid for f in (*stack.webhooks, *stack.turns)] + [stack.redis.process.pid]
        assert (await get(stack.webhook_url)).startswith(stack.redis.url)
        assert stack.settings_env["OPENAI_BASE_URL"] == stack.openai.url
        assert f"REDIS_URL={stack.redis.url}" in (stack.run_dir / "env.sh").read_text()
        enqueue(stack, 20)
        await stack.tasks.drained(5)
        assert stack.tasks.stats().succeeded == 20

        await stack.kill_turn(0)
        assert members(groups[1]) == []
        enqueue(stack, 4)
        await stack.tasks.drained(10)
        assert stack.tasks.stats().failed_attempts > 0

        await stack.restart_turn(0, environment={"EXTRA": "again"})
        assert (await get(stack.turn_urls[0])).endswith("again")
        stack.pause_turn(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(get(stack.turn_urls[0]), 0.3)
        stack.resume_turn(0)
        assert await get(stack.turn_urls[0])
        assert await stack.terminate_turn(1) == 0
        groups += [stack.turns[0].pid]
    assert members(*groups) == []


async def test_function_that_cannot_start_is_named_with_its_log(tiny: StackOptions, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('REDIS_URL is missing')")
    options = StackOptions(
        turns=1,
        run_dir=tmp_path / "run",
        webhook_function=tiny.webhook_function,
        turn_function=Function("turn", str(broken)),
    )
    stack = LocalStack(options)
    with pytest.raises(PartFailedError, match=r"turn-0: ended at once\n.*REDIS_URL is missing"):
        await stack.__aenter__()
    assert members(*(f.pid for f in (*stack.webhooks, *stack.turns))) == []


async def test_real_openai_without_a_key_is_refused(
    tiny: StackOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    options = StackOptions(openai_real=True, run_dir=tiny.run_dir)
    with pytest.raises(PartFailedError, match="OPENAI_API_KEY"):
        await LocalStack(options).__aenter__()


SCRIPT = """
import asyncio, sys
from core.local.stack import Function, LocalStack, StackOptions

async def main() -> None:
    tiny = Function("tiny", sys.argv[1])
    async with LocalStack(StackOptions(turns=1, webhook_function=tiny, turn_function=tiny)) as stack:
        children = [*stack.webhooks, *stack.turns, stack.redis.process]
        print(stack.run_dir, *(c.pid for c in children), flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_stack_however_it_ends(tiny: StackOptions, how: signal.Signals) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), tiny.turn_function.source]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with process:
        assert process.stdout
        run_dir, *pids = process.stdout.readline().split()
        groups = [int(pid) for pid in pids]
        assert len(members(*groups)) >= 5  # two masters, two workers, Redis
        process.send_signal(how)
        process.wait(10)
    deadline = time.monotonic() + 5
    while members(*groups) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert members(*groups) == []
    assert not Path(run_dir).exists()
