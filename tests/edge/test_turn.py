"""The statuses that tell the queue whether to send a task again."""

from __future__ import annotations

import pytest
from pytest_mock import MockerFixture

from core.bootstrap.turn import TurnParts
from core.domain.errors import (
    DefectAfterCallError,
    InvalidInputError,
    LineUnavailableError,
    RedisUnavailableError,
)
from core.domain.event import EventKind, InboundEvent
from core.domain.task import EffectTask, TurnTask
from core.edge import turn

BODY = TurnTask(InboundEvent("E1", "bkk-smile", "U1", EventKind.TEXT, 0, 0), "trace").encode()


@pytest.mark.parametrize(
    ("failure", "retries", "giving_up", "status"),
    [
        (None, 0, None, 200),
        (RedisUnavailableError("down"), 99, None, 503),
        (KeyError("defect"), turn.DEFECT_RETRIES - 1, None, 500),
        (KeyError("defect"), turn.DEFECT_RETRIES, None, 200),
        (KeyError("defect"), turn.DEFECT_RETRIES, LineUnavailableError("down"), 503),
        (DefectAfterCallError("defect_KeyError"), 0, None, 200),
        (DefectAfterCallError("defect_KeyError"), 0, LineUnavailableError("down"), 503),
        (InvalidInputError("a document"), 0, None, 200),
        (InvalidInputError("a document"), 0, RedisUnavailableError("down"), 503),
    ],
)
async def test_status_says_whether_the_task_is_finished_with(
    mocker: MockerFixture,
    failure: Exception | None,
    retries: int,
    giving_up: Exception | None,
    status: int,
) -> None:
    run = mocker.AsyncMock(side_effect=failure)
    parts = TurnParts(run, run)
    run.give_up = mocker.AsyncMock(side_effect=giving_up)
    gives_up = giving_up is not None or (failure is not None and status == 200)
    mocker.patch.object(turn.PROCESS, "app", return_value=parts)
    assert await turn.execute(BODY, {"x-cloudtasks-taskretrycount": str(retries)}) == status
    assert run.give_up.called == gives_up


@pytest.mark.parametrize(
    ("failure", "retries", "given_up", "status"),
    [
        (None, 0, False, 200),
        (LineUnavailableError("down"), 99, False, 503),
        (KeyError("defect"), turn.DEFECT_RETRIES - 1, False, 500),
        (KeyError("defect"), turn.DEFECT_RETRIES, True, 200),
    ],
)
async def test_an_effects_task_goes_to_its_executor(
    mocker: MockerFixture, failure: Exception | None, retries: int, given_up: bool, status: int
) -> None:
    task = EffectTask("notice", "bkk-smile", "E1-handoff")
    effects = mocker.AsyncMock(side_effect=failure)
    mocker.patch.object(turn.PROCESS, "app", return_value=TurnParts(mocker.AsyncMock(), effects))
    assert await turn.execute(task.encode(), {"x-cloudtasks-taskretrycount": str(retries)}) == status
    effects.assert_awaited_once_with(task)
    assert effects.give_up.called == given_up


async def test_a_stray_kind_ends_recorded(mocker: MockerFixture) -> None:
    turns = mocker.AsyncMock()
    mocker.patch.object(turn.PROCESS, "app", return_value=TurnParts(turns, mocker.AsyncMock()))
    body = EffectTask("stray", "bkk-smile", "E1").encode()
    assert await turn.execute(body, {}) == 200
    turns.record_malformed.assert_awaited_once()
