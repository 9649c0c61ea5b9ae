"""A defect of ours after the model was called: the turn ends, and the model is not called again, however
often the queue brings the task."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

import pytest
import pytest_asyncio

from core.bootstrap.turn import TurnParts
from core.domain.clinic import Clinic
from core.domain.task import TurnTask
from core.domain.texts import text
from core.edge import turn as edge
from core.usecases.turn.lead import RunTurn
from tests.support.fault_scene import FaultScene, Row
from tests.support.turn_scene import said, serving, turn_scene

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


async def the_task(scene: FaultScene, row: Row) -> TurnTask:
    """Of one message, which the queue keeps to itself."""
    await scene.say(row)
    bodies = [stored.body for stored in scene.stack.tasks.queue().store.tasks.values()]
    (task,) = (TurnTask.decode(body) for body in bodies if row.clinic.org_id.encode() in body)
    return task


async def a_row(scene: FaultScene, name: str) -> Row:
    scene.stack.tasks.resume()
    row = await scene.row(name)
    scene.stack.tasks.pause()
    return row


@pytest.mark.parametrize("step", STEPS)
async def test_defect_after_a_call_ends_its_turn_without_another_call(
    scene: FaultScene, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await a_row(scene, f"defect at {step}")
    task = await the_task(scene, row)
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


async def test_defect_of_the_books_ends_its_turn_too_and_its_hold_stands_until_it_runs_out(
    scene: FaultScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await a_row(scene, "defect of the books")
    task = await the_task(scene, row)
    async with serving(scene, SLOT_LEASE_S="1") as run:
        with monkeypatch.context() as patched:
            patched.setattr("core.usecases.journal.books.settle", broken)
            assert await as_the_queue_does(run, task) == [200]
        await as_the_queue_does(run, task)
        (turn,) = await scene.turns(row.clinic.org_id)
        (day,) = [d for d in await scene.documents.query("org_ai_spend") if turn["org_id"] in d.key.id]
    assert len(scene.calls(row)) == 1
    assert (turn["state"], turn["failure"]) == ("failed", "defect_KeyError")
    assert said(scene, row.sent[0]) == [text(Clinic("any", "Any", "", ""), "busy")]
    assert turn["held_micro_baht"] == day.data["held"] > 0
    assert [hold["amount"] for hold in day.data["holds"].values()] == [turn["held_micro_baht"]]
