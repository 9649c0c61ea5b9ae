from __future__ import annotations

import logging

import pytest
from pytest_mock import MockerFixture

from core.edge.webhook import PROCESS, STATUSES, acknowledge
from core.usecases.webhook.acknowledge import Ack, Outcome


async def test_what_nobody_foresaw_is_told_of_and_delivered_again(
    mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    app = mocker.AsyncMock(side_effect=ZeroDivisionError("a defect"))
    mocker.patch.object(PROCESS, "app", return_value=app)
    answer = await acknowledge(b"{}", {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    assert answer == (500, "try again")
    [record] = caplog.records
    assert (record.getMessage(), record.levelno) == ("webhook.defect", logging.ERROR)
    assert vars(record)["fields"] == {"trace": "a" * 32, "reason": "ZeroDivisionError"}
    assert record.exc_info


@pytest.mark.parametrize("outcome", Outcome)
async def test_every_outcome_has_its_status_and_only_doubt_is_delivered_again(
    outcome: Outcome, mocker: MockerFixture
) -> None:
    mocker.patch.object(PROCESS, "app", return_value=mocker.AsyncMock(return_value=Ack(outcome, "why")))
    status, text = await acknowledge(b"{}", {})
    assert (status, text) == (STATUSES[outcome], "why")
    assert (status >= 500) == (outcome in {Outcome.IN_DOUBT, Outcome.TOO_MANY_UNKNOWN})
