"""A cold start, to what counts: the first acknowledged webhook, the first delivered turn.

From the start of the process, with requests from then on, beside the bare relay's and the bare turn's, which
use the vendors' clients alone. Processes are started one after another, in turns.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress

from core.adapters.http_client import NotSentError
from core.local.stack import ROOT
from tests.bench.table import Row
from tests.bench.turn_scene import MODEL_S, Cost, TurnFunction, TurnScene

ROUNDS, LIMIT_S = 5, 60.0
TARGET = 1.1

Start = Callable[[], Awaitable[TurnFunction]]
Request = Callable[[], tuple[dict[str, str], bytes]]


async def cold(scene: TurnScene, start: Start, request: Request) -> Cost:
    """Until the first request is answered with 200, which is sent as soon as the port is open."""
    began = time.perf_counter()
    function = await start()
    headers, body = request()
    async with asyncio.timeout(LIMIT_S):
        while True:
            with suppress(NotSentError):
                answered = await scene.http.request("POST", function.url, headers=headers, body=body)
                break
            await asyncio.sleep(0.005)
    cost = Cost(function.cpu_s() * 1000, (time.perf_counter() - began) * 1000)
    assert answered.status == 200, f"{function.child.name} answered {answered.status}"
    await function.child.kill()
    return cost


async def measure(*, firestore: bool, rounds: int = ROUNDS) -> dict[str, list[Cost]]:
    async with TurnScene(firestore=firestore) as scene:
        await (await scene.turn()).cost(scene.tasks(3))  # compiles what is not compiled, and makes a call

        def task() -> tuple[dict[str, str], bytes]:
            return {"content-type": "application/json"}, scene.tasks(1)[0]

        webhook, relay = ROOT / "functions/webhook/main.py", ROOT / "tests/bench/bare_function.py"
        path = {"PYTHONPATH": str(ROOT)}
        kinds: dict[str, tuple[Start, Request]] = {
            "webhook": (
                lambda: scene.function("webhook", webhook, path, until_ready=False),
                scene.webhook_request,
            ),
            "bare relay": (
                lambda: scene.function("bare", relay, path, until_ready=False),
                scene.webhook_request,
            ),
            "turn": (lambda: scene.turn(until_ready=False), task),
            "bare turn": (lambda: scene.bare(until_ready=False), task),
        }
        for start, request in kinds.values():
            await cold(scene, start, request)
        found: dict[str, list[Cost]] = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, (start, request) in kinds.items():
                found[name].append(await cold(scene, start, request))
    return found


def rows_of(found: dict[str, list[Cost]]) -> Iterator[Row]:
    for name, bare, until, less_ms in (
        ("webhook", "bare relay", "the first acknowledged webhook", 0.0),
        ("turn", "bare turn", "the first delivered turn less the model's time", MODEL_S * 1000),
    ):
        ours, theirs = (_times(found[kind], less_ms) for kind in (name, bare))
        wall = statistics.median(a.wall / b.wall for a, b in zip(ours, theirs, strict=True))
        cpu = statistics.median(a.cpu / b.cpu for a, b in zip(ours, theirs, strict=True))
        took, took_bare = (statistics.median(cost.wall for cost in costs) / 1000 for costs in (ours, theirs))
        used, used_bare = (statistics.median(cost.cpu for cost in costs) / 1000 for costs in (ours, theirs))
        yield Row(
            f"start to {until} ÷ the {bare}'s",
            f"{wall:.2f} ({took:.2f} s)",
            f"≤ {TARGET:g}",
            f"bare {took_bare:.2f} s",
            wall <= TARGET,
        )
        yield Row("  the same by processor time", f"{cpu:.2f} ({used:.2f} s)", "", f"bare {used_bare:.2f} s")


def _times(costs: Sequence[Cost], less_ms: float) -> list[Cost]:
    return [Cost(cost.cpu, cost.wall - less_ms) for cost in costs]


async def rows(rounds: int = ROUNDS) -> list[Row]:
    """With Firestore's emulator where it is installed: what is deployed imports its client."""
    return list(rows_of(await measure(firestore=shutil.which("gcloud") is not None, rounds=rounds)))
