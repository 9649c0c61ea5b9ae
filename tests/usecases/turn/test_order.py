"""Messages of one conversation are answered in LINE's order, whatever comes late, hangs or is lost between
the acknowledgement and the turn. The use case in this process, with real parts around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from core.local.openai_api import Latency
from core.local.task_dispatcher import Attempt, DispatchPlan
from tests.support.fault_scene import FaultScene, Row
from tests.support.turn_scene import serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("turns")) as scene:
        yield scene


async def working(scene: FaultScene, row: Row) -> None:
    async with asyncio.timeout(5):
        while not scene.calls(row):  # noqa: ASYNC110  the stand-in counts, it does not tell
            await asyncio.sleep(0.01)


async def in_order(scene: FaultScene, row: Row, within_s: float = 5) -> bool:
    """Each was answered, once, none before one that was sent earlier."""
    assert await scene.sim.wait_answered([sent.event_id for sent in row.sent], within_s) == []
    answers = [scene.sim.answers(sent.event_id) for sent in row.sent]
    at_ms = [found[0].at_ms for found in answers]
    return all(len(found) == 1 for found in answers) and at_ms == sorted(at_ms)


async def test_a_message_whose_dispatch_is_late_is_not_overtaken(scene: FaultScene) -> None:
    row = await scene.row("late dispatch")
    late = scene.message(row)

    def plan(attempt: Attempt) -> DispatchPlan:
        first = late.event_id.encode() in attempt.body and attempt.number == 1
        return DispatchPlan(delay_s=0.6 if first else 0.0)

    async with serving(scene):
        scene.stack.tasks.on_dispatch = plan
        await scene.sim.send(late)
        await scene.say(row)
        assert await in_order(scene, row)


async def test_a_message_that_is_delayed_is_not_overtaken_by_one_that_redis_could_not_delay(
    scene: FaultScene,
) -> None:
    row = await scene.row("Redis hangs at the webhook")
    async with serving(scene):
        for _ in range(6):
            await scene.say(row)
        scene.stack.redis.pause()
        await scene.say(row)
        scene.stack.redis.resume()
        assert await in_order(scene, row)


@pytest.mark.parametrize("restarted", [False, True], ids=["emptied", "restarted empty"])
async def test_what_runs_when_redis_loses_its_data_goes_on_and_is_not_overtaken(
    scene: FaultScene, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    row = await scene.row(f"Redis lost {restarted}")
    monkeypatch.setattr(scene.stack.openai, "latency", Latency(1.0, 0.0))
    async with serving(scene, SLOT_LEASE_S="1"):
        await scene.say(row)
        await working(scene, row)
        await (scene.stack.redis.restart_empty() if restarted else scene.stack.redis.command("FLUSHALL"))
        await scene.say(row)
        assert await in_order(scene, row)


async def test_mailboxes_and_slots_recover_from_a_loss_at_the_same_time(scene: FaultScene) -> None:
    """Nothing runs, but nobody knows: a third of a lease and a little, not twice that."""
    row = await scene.row("Redis lost while idle")
    async with serving(scene, SLOT_LEASE_S="6"):
        await scene.say(row)
        assert await in_order(scene, row)
        await scene.stack.tasks.drained(5)  # until then the first one's lease is held
        await scene.stack.redis.command("FLUSHALL")
        began = asyncio.get_running_loop().time()
        await scene.say(row)
        assert await in_order(scene, row, within_s=8)
        assert 2 < asyncio.get_running_loop().time() - began < 4.5
