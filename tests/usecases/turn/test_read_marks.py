"""What was answered is marked as read at LINE, beside everything else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from core.domain.clinic import Handoff
from core.local.line_api import LineCall, LineTrouble
from core.local.simulator import Sent
from tests.support.fault_scene import FaultScene, Row
from tests.support.turn_scene import serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("turns")) as scene:
        yield scene


def read(scene: FaultScene, row: Row) -> list[str]:
    """Ids of the messages whose tokens were used."""
    channel_id = row.clinic.channel.channel_id
    return [t.message_id for t in scene.stack.line.state.read if t.channel_id == channel_id]


def message_id(sent: Sent) -> str:
    return str(sent.event["message"]["id"])


async def test_the_newest_message_is_marked_as_read_once_its_turn_has_answered(scene: FaultScene) -> None:
    row = await scene.row("read")
    async with serving(scene):
        first, second = scene.message(row), scene.message(row)
        await scene.sim.send(first, second)
        verdict = await scene.verdict(row)
    assert verdict.clean
    assert read(scene, row) == [message_id(second)]


async def test_what_gets_no_answer_stays_unread(scene: FaultScene) -> None:
    row = await scene.row("unread")
    row.clinic = await scene.clinic(handoff=Handoff(("staff",)))
    async with serving(scene):
        asks = await scene.say(row, "a", "staff")
        await scene.verdict(row)
        await scene.say(row, "a", "anybody?")
        await scene.verdict(row)
    assert read(scene, row) == [message_id(asks)], "people see what is theirs to answer"


TROUBLES = [
    LineTrouble.ERROR_BEFORE,
    LineTrouble.HANG_BEFORE,
    LineTrouble.RESET_AFTER,
    LineTrouble.RATE_LIMIT,
]


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_mark_that_fails_costs_no_turn_anything(scene: FaultScene, trouble: LineTrouble) -> None:
    row = await scene.row(f"mark {trouble}")
    scene.stack.line.faults.add(trouble, times=5, when=lambda call: call.call is LineCall.MARK_AS_READ)
    async with serving(scene):
        await scene.say(row)
        assert await scene.sim.wait_answered([row.sent[0].event_id], 5) == []
        began = time.monotonic()
        await scene.say(row)
        assert await scene.sim.wait_answered([row.sent[1].event_id], 5) == []
        assert time.monotonic() - began < 0.9, "the lease was given up before the mark ended"
        verdict = await scene.verdict(row)
    assert verdict.clean
    assert [turn["state"] for turn in verdict.turns] == ["delivered", "delivered"]
