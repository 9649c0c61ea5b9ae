"""What a turn's worker keeps of the turns that it has answered.

python -m tests.bench.leak [TURNS]
"""

from __future__ import annotations

import asyncio
import sys

from tests.bench.memory import own_mb
from tests.bench.turn_scene import TurnFunction, TurnScene

WARM, TURNS, BATCH, AT_ONCE = 2_000, 20_000, 500, 16


async def grown_mb(turns: int) -> float:
    """How much more the worker has after so many turns, beyond the first 2,000."""
    async with TurnScene(firestore=False, clinics=20) as scene:
        turn = await scene.turn()
        warm = await _answered(scene, turn, WARM)
        return await _answered(scene, turn, turns) - warm


async def _answered(scene: TurnScene, turn: TurnFunction, turns: int) -> float:
    for _ in range(turns // BATCH):
        await turn.cost(scene.tasks(BATCH), at_once=AT_ONCE)
        scene.stack.openai.calls.clear()  # the stand-in keeps every call
    return own_mb(turn)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else TURNS
    print(f"{asyncio.run(grown_mb(count)):+.1f} MB after {count:,} turns")
