"""A defect of ours after the model was called: the turn ends, and the model is not called again, however
often the queue brings the task."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

import pytest
import pytest_asyncio

from core.bootstrap.turn import TurnParts
from core.domain.task import TurnTask
from core.edge import turn as edge
from core.usecases.turn.lead import RunTurn
from tests.support.fault_scene import FaultScene
from tests.support.turn_scene import serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Every step after the provider's answer, in this order, and the state in which its turn ends.
STEPS = {
    "core.adapters.openai_llm._answer": "failed",
    "core.usecases.turn.model._log": "failed",
    "core.usecases.turn.model.parse_reply": "failed",
    "core.usecases.turn.effects.next_stage": "failed",
    "core.usecases.turn.effects.consent.learn": "failed",
    "core.usecases.turn.delivery.Delivery.marked": "failed",
    "core.usecases.turn.quote.charge": "failed",
    "core.usecases.turn.quote._total": "failed",
    "core.usecases.journal.journal.Journal.settle": "failed",
    "core.usecases.turn.delivery.Delivery._request": "failed",
    "core.usecases.turn.delivery.Delivery.__call__": "failed",
    "core.usecases.turn.line_delivery.LineDelivery.__call__": "failed",
    "core.usecases.journal.journal.Journal.update": "failed",
    "core.usecases.turn.delivery.Delivery._announce": "delivered",
    "core.usecases.turn.answer.session_after": "delivered",
    "core.adapters.redis_mailbox.RedisMailbox.finish": "delivered",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("turns")) as scene:
        scene.stack.tasks.pause()  # the test is the queue
        yield scene


async def as_the_queue_does(run: RunTurn, task: TurnTask) -> list[int]:
    """Until the task is finished with."""
    statuses: list[int] = []
    with mock.patch.object(edge.PROCESS, "app", return_value=TurnParts(run, mock.Mock())):
        while not statuses or (statuses[-1] != 200 and len(statuses) < 15):
            headers = {"x-cloudtasks-taskretrycount": str(len(statuses))}
            try:
                statuses.append(await edge.execute(task.encode(), headers))
            except Exception:  # the server makes a 500 of it
                statuses.append(500)
    return statuses


def broken(*_: Any, **__: Any) -> Any:
    raise KeyError("a defect")


@pytest.mark.parametrize("step", STEPS)
async def test_defect_after_a_call_ends_its_turn_without_another_call(
    scene: FaultScene, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.stack.tasks.resume()
    row = await scene.row(f"defect at {step}")
    scene.stack.tasks.pause()
    await scene.say(row)
    (stored,) = (t for t in scene.stack.tasks.queue().store.tasks.values() if b'"hop"' in t.body)
    task = TurnTask.decode(stored.body)
    async with serving(scene, SLOT_LEASE_S="1") as run:
        with monkeypatch.context() as patched:
            patched.setattr(step, broken)
            statuses = await as_the_queue_does(run, task)
        assert statuses[-1] == 200
        await as_the_queue_does(run, task)  # it is mended, and the queue brings the task once more
        (turn,) = await scene.turns(row.clinic.org_id)
    assert len(scene.calls(row)) == 1
    assert turn["state"] == STEPS[step]
    assert turn["held_micro_baht"] == 0
    assert turn["cost_micro_baht"] > 0
