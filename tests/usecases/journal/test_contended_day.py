"""A clinic's day that others write without a pause: its turns are put back, nobody else is held up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from unittest import mock

import pytest
import pytest_asyncio

from core.adapters.system_clock import SystemClock
from core.bootstrap import shared
from core.domain.budget import budget_day
from core.domain.clinic import BudgetPolicy
from core.domain.settings import Settings
from core.ports.documents import DocumentStore
from tests.support.fault_scene import FaultScene
from tests.support.faulty_documents import CommitFaults, Fate, FaultyDocuments
from tests.support.turn_scene import serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("turns")) as scene:
        yield scene


@pytest.mark.parametrize("lasts_s", [6, pytest.param(30, marks=pytest.mark.slow)])
async def test_contended_day_costs_its_clinic_time_and_nobody_else(
    scene: FaultScene, lasts_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fairlane")
    row = await scene.row(f"contended {lasts_s}")
    other = await scene.clinic(budget=BudgetPolicy(Decimal(1_000)))
    day = budget_day(SystemClock().now_ms(), "Asia/Bangkok")
    faults = CommitFaults(contended={f"org_ai_spend/{row.clinic.org_id}:{day}"})
    make = shared.documents

    def faulty(settings: Settings) -> DocumentStore:
        return FaultyDocuments(make(settings), faults)

    with mock.patch.object(shared, "documents", faulty):
        async with serving(scene, CHAT_MAX_CONCURRENT="5"):
            await asyncio.gather(*(scene.say(row, user) for user in "abcde"))
            await asyncio.sleep(1)
            quick = scene.message(row, "f", clinic=other)
            await scene.sim.send(quick)
            assert await scene.sim.wait_answered([quick.event_id], 5) == []
            await asyncio.sleep(lasts_s - 1)
            refused = faults.counts[Fate.CONTENDED]
            assert len(scene.calls(row)) == 1, "nobody calls without a hold"
            faults.contended = ()
            assert await scene.sim.wait_answered([sent.event_id for sent in row.sent], 12) == []
            verdict = await scene.verdict(row)
    assert verdict.clean
    assert (len(scene.calls(row)), verdict.ambiguous) == (6, 0)
    assert refused <= 5 * 4 * lasts_s
    reasons = [fields(record)["reason"] for record in caplog.records if record.getMessage() == "turn.putback"]
    assert "contended" in reasons
    assert "turn.unavailable" not in {record.getMessage() for record in caplog.records}


def fields(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = vars(record)["fields"]
    return found
