"""How a task ends that can't be answered: in the journal, told to its customer, with books that close."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from core.adapters.system_clock import SystemClock
from core.domain.clinic import Clinic
from core.domain.errors import DefectAfterCallError
from core.domain.task import TurnTask
from core.domain.texts import text
from core.domain.turn import TurnRecord, TurnState, journaled
from core.ports.documents import Delete, Key
from core.usecases.clinics.documents import ORGS
from core.usecases.journal.books import Books, day_key
from core.usecases.journal.journal import Journal
from core.usecases.turn.lead import RunTurn
from tests.support.fault_scene import FaultScene, Row
from tests.support.turn_scene import said, serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("turns")) as scene:
        yield scene


async def the_task(scene: FaultScene, row: Row) -> TurnTask:
    """Of one message, which the queue keeps to itself."""
    scene.stack.tasks.pause()
    await scene.say(row)
    (stored,) = scene.stack.tasks.queue().store.tasks.values()
    return TurnTask.decode(stored.body)


async def run_with_a_defect_after_the_call(
    run: RunTurn, task: TurnTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that not even the turn's settlement survives."""

    def broken(*_: Any) -> None:
        raise KeyError("usage")

    with monkeypatch.context() as patched:
        patched.setattr("core.usecases.turn.quote._total", broken)
        with pytest.raises(DefectAfterCallError):
            await run(task)


async def test_defect_before_a_turn_began_is_recorded_and_an_operator_finds_it(scene: FaultScene) -> None:
    row = await scene.row("defect")
    async with serving(scene) as run:
        await run.give_up(await the_task(scene, row), "defect_KeyError")
        scene.stack.tasks.resume()
        verdict = await scene.verdict(row)
    assert [(turn["state"], turn["failure"]) for turn in verdict.turns] == [("failed", "defect_KeyError")]
    assert said(scene, row.sent[0]) == []
    assert verdict.calls == 0


async def test_defect_after_a_call_ends_the_turn_with_the_busy_message_and_books_that_close(
    scene: FaultScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await scene.row("defect after a call")
    async with serving(scene) as run:
        task = await the_task(scene, row)
        await run_with_a_defect_after_the_call(run, task, monkeypatch)
        for _ in range(2):
            await run.give_up(task, "defect_KeyError")
        scene.stack.tasks.resume()  # the queue tries once more, and finds it ended
        verdict = await scene.verdict(row)
    assert [(turn["state"], turn["failure"]) for turn in verdict.turns] == [("failed", "defect_KeyError")]
    assert said(scene, row.sent[0]) == [text(Clinic("any", "Any", "", ""), "busy")]
    assert (verdict.calls, verdict.ambiguous, verdict.books) == (1, 1, "")


async def test_turn_of_a_clinic_that_was_removed_meanwhile_ends_with_books_that_close(
    scene: FaultScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await scene.row("removed during a turn")
    async with serving(scene) as run:
        task = await the_task(scene, row)
        await run_with_a_defect_after_the_call(run, task, monkeypatch)
    await scene.documents.commit([Delete(Key(ORGS, task.event.org_id))])
    async with serving(scene) as run:
        await run(task)
    scene.stack.tasks.resume()
    verdict = await scene.verdict(row)
    assert [(turn["state"], turn["failure"]) for turn in verdict.turns] == [("failed", "no_clinic")]
    assert said(scene, row.sent[0]) == []
    assert (verdict.calls, verdict.ambiguous, verdict.books) == (1, 1, "")


@pytest.mark.parametrize(
    ("delivering", "failure"), [("reply", "undeliverable: unknown"), (None, "undeliverable: defect_KeyError")]
)
async def test_defect_in_delivery_ends_the_turn_that_owns_the_event_and_keeps_its_reply(
    scene: FaultScene, delivering: str | None, failure: str
) -> None:
    row = await scene.row(f"defect in delivery {delivering}")
    async with serving(scene) as run:
        task = await the_task(scene, row)
        event = task.event
        left = TurnRecord(
            id=f"another-{delivering}",
            org_id=event.org_id,
            channel="line",
            chat_id=event.chat_id,
            chat_type="user",
            state=TurnState.ANSWERED,
            events=(journaled(event),),
            created_ms=event.arrived_ms,
            reply="ตอบไว้แล้วค่ะ",
            delivering=delivering,
        )
        books = Books.of(day_key(event.org_id, "20261124"), None)
        await Journal(scene.documents, SystemClock()).answer(left, left.event_ids, None, books)
        await run.give_up(task, "defect_KeyError")
        scene.stack.tasks.resume()
        verdict = await scene.verdict(row)
    (turn,) = verdict.turns
    assert (turn["state"], turn["failure"], turn["reply"]) == ("failed", failure, left.reply)
    assert said(scene, row.sent[0]) == []
    assert verdict.calls == 0


async def test_task_that_is_none_of_ours_is_recorded_once_without_its_words(scene: FaultScene) -> None:
    body = "ข้อความของใครก็ไม่รู้".encode()
    async with serving(scene) as run:
        for _ in range(2):
            await run.record_malformed(body, "the task's body is not JSON")
    found = [d for d in await scene.documents.query("turns") if d.key.id.startswith("malformed-")]
    assert [d.data["failure"] for d in found] == ["malformed: the task's body is not JSON"]
    assert "ข้อความ" not in str(found)
