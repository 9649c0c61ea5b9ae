from __future__ import annotations

import logging

import pytest
from pytest_mock import MockerFixture

from core.edge.webhook import PROCESS, acknowledge
from core.usecases.webhook.acknowledge import Ack


async def test_what_nobody_foresaw_is_told_of_and_delivered_again(
    mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    app = mocker.AsyncMock(side_effect=ZeroDivisionError("a defect"))
    mocker.patch.object(PROCESS, "app", return_value=app)
    ack = await acknowledge(b"{}", {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    assert ack == Ack(500, "try again")
    [record] = caplog.records
    assert (record.getMessage(), record.levelno) == ("webhook.defect", logging.ERROR)
    assert vars(record)["fields"] == {"trace": "a" * 32, "reason": "ZeroDivisionError"}
    assert record.exc_info
