"""A turn's worker keeps nothing of the turns that it has answered."""

from __future__ import annotations

import pytest

from tests.bench.memory import own_mb
from tests.bench.turn_scene import TurnFunction, TurnScene

BATCH, AT_ONCE = 500, 16


async def answered(scene: TurnScene, turn: TurnFunction, turns: int) -> float:
    """The worker's own memory after so many more turns, in MB."""
    for _ in range(turns // BATCH):
        await turn.cost(scene.tasks(BATCH), at_once=AT_ONCE)
        scene.stack.openai.calls.clear()  # the stand-in keeps every call
    return own_mb(turn)


@pytest.mark.slow
@pytest.mark.timeout(3_000)
async def test_a_worker_does_not_grow_over_20000_turns() -> None:
    async with TurnScene(firestore=False, clinics=20) as scene:
        turn = await scene.turn()
        warm = await answered(scene, turn, 4_000)
        assert await answered(scene, turn, 16_000) - warm < 8
