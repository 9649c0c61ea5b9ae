"""A turn's processor time ÷ that of a bare turn: the same round trips through the vendors' clients, no logic.

Both are functions-framework processes as deployed, given tasks in turns: what else the machine does hits both
alike. Processor time holds where others take the cores; wall time is for a quiet machine.

    python -m tests.bench.floor --beside CHECKOUT   another checkout's turn, in the same rounds
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from core.local.openai_api import Latency
from tests.bench.table import Row, show
from tests.bench.turn_scene import Cost, TurnFunction, TurnScene

ROUNDS, TURNS, WARM_UP = 8, 25, 40
TURN_TARGET, PUT_BACK_TARGET = 0.8, 0.15


@dataclass(frozen=True, slots=True)
class Measured:
    """One cost a round, of each function; of ours also what is not answered."""

    ours: Sequence[Cost]
    bare: Sequence[Cost]
    before: Sequence[Cost]
    put_back: Cost
    duplicate: Cost


async def measure(*, firestore: bool, beside: Path | None = None, rounds: int = ROUNDS) -> Measured:
    async with TurnScene(firestore=firestore) as scene:
        turn = await scene.turn()
        await turn.cost(scene.tasks(WARM_UP))
        bare = await scene.bare()
        before = await scene.turn(beside) if beside else None
        functions = [turn, bare, *([before] if before else [])]
        for function in functions[1:]:
            await function.cost(scene.tasks(WARM_UP))
        costs: list[list[Cost]] = [[] for _ in functions]
        for _ in range(rounds):
            for function, found in zip(functions, costs, strict=True):
                found.append(await function.cost(scene.tasks(TURNS)))
        answered = len(scene.stack.line.deliveries)
        expected = len(functions) * (WARM_UP + rounds * TURNS)
        assert answered == expected, f"{answered} of {expected} turns were answered"
        duplicate, put_back = await _duplicates(turn, scene), await _put_backs(turn, scene)
    return Measured(costs[0], costs[1], costs[2] if before else (), put_back, duplicate)


async def _duplicates(turn: TurnFunction, scene: TurnScene) -> Cost:
    """Tasks of events that were answered before."""
    (task,) = scene.tasks(1)
    await turn.post(task)
    return await turn.cost([task] * 200)


async def _put_backs(turn: TurnFunction, scene: TurnScene) -> Cost:
    """Tasks of a conversation that is led meanwhile: the model takes its time with the first one's answer."""
    scene.stack.openai.latency = Latency(8.0, 0.0)
    first, *others = scene.tasks(201, customer="busy")
    leading = asyncio.create_task(turn.post(first))
    await asyncio.sleep(0.3)
    cost = await turn.cost(others)
    leading.cancel()
    return cost


def rows_of(store: str, found: Measured) -> Iterator[Row]:
    ratio = _ratio(found.ours, found.bare, "cpu")
    ours, bare = _median(found.ours, "cpu"), _median(found.bare, "cpu")
    yield Row(
        f"a turn's processor time ÷ a bare turn's, {store}",
        f"{ratio:.2f} ({ours:.1f} ms)",
        f"≤ {TURN_TARGET:g}",
        f"bare {bare:.1f} ms",
        ratio <= TURN_TARGET,
    )
    wall, bare_wall = _median(found.ours, "wall"), _median(found.bare, "wall")
    yield Row(
        f"  the same by wall time, {store}",
        f"{_ratio(found.ours, found.bare, 'wall'):.2f} ({wall:.1f} ms)",
        "",
        f"bare {bare_wall:.1f} ms",
    )
    if found.before:
        yield Row(
            f"  and ÷ the other checkout's turn, {store}",
            f"{_ratio(found.ours, found.before, 'cpu'):.2f}",
            "",
            f"other {_median(found.before, 'cpu'):.1f} ms",
        )
    put_back = found.put_back.cpu / ours
    yield Row(
        f"  a put-back's processor time ÷ a turn's, {store}",
        f"{put_back:.2f} ({found.put_back.cpu:.2f} ms)",
        f"≤ {PUT_BACK_TARGET:g}",
        "",
        put_back <= PUT_BACK_TARGET,
    )
    duplicate = found.duplicate.cpu
    yield Row(f"  a duplicate's ÷ a turn's, {store}", f"{duplicate / ours:.2f} ({duplicate:.2f} ms)", "")


def _median(costs: Sequence[Cost], name: str) -> float:
    return statistics.median(float(getattr(cost, name)) for cost in costs)


def _ratio(ours: Sequence[Cost], theirs: Sequence[Cost], name: str) -> float:
    """Of each round's pair."""
    pairs = zip(ours, theirs, strict=True)
    return statistics.median(float(getattr(a, name)) / float(getattr(b, name)) for a, b in pairs)


async def rows(beside: Path | None = None, rounds: int = ROUNDS) -> list[Row]:
    found = list(rows_of("SQLite", await measure(firestore=False, beside=beside, rounds=rounds)))
    if shutil.which("gcloud") is None:
        return [*found, Row("the same, Firestore emulator", "not measured: no gcloud here", "")]
    emulator = await measure(firestore=True, beside=beside, rounds=rounds)
    return [*rows_of("Firestore emulator", emulator), *found]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    show("The floor", uvloop.run(rows(asked.beside, asked.rounds)))
