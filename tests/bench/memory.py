"""Memory of a turn's worker: at rest beside a bare turn's, and with 80 turns at once, as many as an instance
is given. What is the process' own (USS): pages that it shares with others are not counted."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from core.local import deployment
from core.local.openai_api import Latency
from tests.bench.table import Row
from tests.bench.turn_scene import TurnFunction, TurnScene

TURNS, TARGET = 200, 1.1
AT_ONCE = deployment.TURN_CONCURRENCY


@dataclass(frozen=True, slots=True)
class Megabytes:
    rest: float
    bare: float
    busy: float
    after: float


def own_mb(function: TurnFunction) -> float:
    """Of the server and its worker."""
    return sum(process.memory_full_info().uss for process in function.processes) / 2**20


async def measure(*, firestore: bool) -> Megabytes:
    slots: dict[str, Any] = {"CHAT_MAX_CONCURRENT": str(AT_ONCE), "CHAT_MAX_CONCURRENT_PER_ORG": str(AT_ONCE)}
    async with TurnScene(firestore=firestore, **slots) as scene:
        turn = await scene.turn()
        await turn.cost(scene.tasks(TURNS))
        bare = await scene.bare()
        await bare.cost(scene.tasks(TURNS))
        rest, at_rest = own_mb(turn), own_mb(bare)
        scene.stack.openai.latency = Latency(4.0, 0.0)
        many = asyncio.gather(*(turn.post(task) for task in scene.tasks(AT_ONCE)))
        busy = rest
        while not many.done():
            busy = max(busy, own_mb(turn))
            await asyncio.sleep(0.05)
        await many
        return Megabytes(rest, at_rest, busy, own_mb(turn))


def rows_of(found: Megabytes) -> Iterator[Row]:
    ratio = found.rest / found.bare
    yield Row(
        "memory of a turn's worker at rest ÷ a bare turn's",
        f"{ratio:.2f} ({found.rest:.0f} MB)",
        f"≤ {TARGET:g}",
        f"bare {found.bare:.0f} MB",
        ratio <= TARGET,
    )
    each = (found.busy - found.rest) * 1024 / AT_ONCE
    busy = f"{found.busy:.0f} MB, {each:.0f} KB a turn"
    yield Row(f"  with {AT_ONCE} turns at once", busy, "", f"after them {found.after:.0f} MB")


async def rows() -> list[Row]:
    return list(rows_of(await measure(firestore=shutil.which("gcloud") is not None)))
