"""The fault matrix: whatever dies, hangs, repeats or lies, nothing is lost, answered twice, or paid twice.

Real processes of the turn function under functions-framework, real Redis, a real queue; LINE and the model
are stand-ins over sockets that count. The table of all rows is printed at the end of the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from core.local.task_dispatcher import DispatchPlan
from tests.e2e.fault_scene import LEASE_S, FaultScene, Row, Verdict, fault_scene

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("fault matrix")]

Reckon = Callable[[Row, Verdict, str], None]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with fault_scene(tmp_path_factory.mktemp("matrix")) as scene:
        yield scene


@pytest.fixture
def reckon(record_property: Callable[[str, object], None]) -> Reckon:
    """Writes the row into the table, then insists on it."""

    def reckon(row: Row, verdict: Verdict, what: str) -> None:
        what = f"{what}; {verdict.calls} calls, {verdict.ambiguous} ambiguous, {verdict.hows}"
        record_property("fault", (row.name, what, verdict.lost, verdict.twice, verdict.paid_twice))
        assert verdict.clean, verdict

    return reckon


# Where a turn dies, how many calls the model then answers, how many of them are charged as ambiguous.
POINTS = {
    "begin.after": (1, 0),
    "slot.granted": (1, 0),
    "claim.before": (1, 0),
    "claim.after": (1, 1),
    "llm.sent": (1, 1),
    "llm.answered": (2, 1),
    "settle.before": (2, 1),
    "settle.after": (1, 0),
    "line.before": (1, 0),
    "line.accepted": (1, 0),
    "delivered.before": (1, 0),
    "delivered.after": (1, 0),
    "finish.before": (1, 0),
    "finish.after": (1, 0),
}


@pytest.mark.parametrize("point", POINTS)
async def test_killed_turn_is_finished_by_another_instance(
    scene: FaultScene, reckon: Reckon, point: str
) -> None:
    row = await scene.row(f"killed at {point}")
    scene.kill_at(point)
    sent = await scene.say(row)
    assert await scene.sim.wait_answered([sent.event_id], 10) == []
    took_s = scene.sim.answers(sent.event_id)[0].at_ms / 1000 - sent.sent_ms / 1000
    verdict = await scene.verdict(row)
    reckon(row, verdict, f"answered in {took_s:.1f} s")
    assert scene.was_killed_at(point)
    answered, ambiguous = POINTS[point]
    assert sum(call.usage is not None for call in scene.calls(row)) == answered
    assert verdict.ambiguous == ambiguous
    assert took_s <= LEASE_S + 2 + 0.5, "a crash costs a conversation at most its lease and two seconds"
