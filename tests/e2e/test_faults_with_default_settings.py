"""The fault matrix with the settings as deployed: lease 10 s, attempts of 8, 10 and 10 s, deadline 29 s.

See test_faults_of_instances.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from core.local.openai_api import Call, LlmTrouble
from core.local.openai_api import LlmFaultKind as Kind
from tests.e2e.conftest import Reckon
from tests.support.fault_scene import SETTINGS, FaultScene, Row, fault_scene

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

LASTING = {
    "hangs": LlmTrouble(Kind.HANG),
    "drips": LlmTrouble(Kind.DRIP),
    "500 after a while": LlmTrouble(Kind.ERROR_500, late=True),
    "reset after a while": LlmTrouble(Kind.RESET, late=True),
    "also hangs": LlmTrouble(Kind.HANG),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def defaults(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    unset: dict[str, Any] = dict.fromkeys(SETTINGS, "")
    async with fault_scene(tmp_path_factory.mktemp("defaults"), **unset) as scene:
        yield scene


async def test_no_fault_of_the_model_takes_longer_than_30_s(defaults: FaultScene, reckon: Reckon) -> None:
    scene = defaults
    await scene.row("clean")
    rows = [Row(f"model, default limits: {fault}", await scene.clinic()) for fault in LASTING]
    for row, trouble in zip(rows, LASTING.values(), strict=True):

        def of_row(call: Call, name: str = row.name) -> bool:
            return f"{name} 0" in call.last_words

        scene.stack.openai.faults.add(trouble, times=None, when=of_row)
    await asyncio.gather(*map(scene.say, rows))
    for row in rows:
        verdict = await scene.verdict(row, 40)
        answer = scene.sim.answers(row.sent[0].event_id)[0]
        took_s = (answer.at_ms - scene.calls(row)[0].started_ms) / 1000
        reckon(row, verdict, f"busy message after {took_s:.1f} s")
        assert took_s <= 30
        assert verdict.calls == 3


async def test_crash_costs_a_conversation_its_lease_and_two_seconds_at_most(
    defaults: FaultScene, reckon: Reckon
) -> None:
    row = await defaults.row("killed at llm.sent, lease 10 s")
    defaults.kill_at("llm.sent")
    sent = await defaults.say(row)
    verdict = await defaults.verdict(row, 30)
    took_s = (defaults.sim.answers(sent.event_id)[0].at_ms - sent.sent_ms) / 1000
    reckon(row, verdict, f"answered in {took_s:.1f} s")
    assert took_s <= 10 + 2


async def test_sigterm_while_a_call_runs_that_would_take_longer(defaults: FaultScene, reckon: Reckon) -> None:
    scene = defaults
    row = await scene.row("SIGTERM, a call that takes longer")
    scene.stack.openai.faults.add(LlmTrouble(Kind.HANG), times=4)
    await asyncio.gather(*(scene.say(row, user) for user in "abcd"))
    await asyncio.sleep(0.3)
    began = time.monotonic()
    statuses = await asyncio.gather(*map(scene.stack.terminate_turn, range(2)))
    took_s = time.monotonic() - began
    verdict = await scene.verdict(row, 40)
    answered_s = max(scene.sim.answers(s.event_id)[0].at_ms - s.sent_ms for s in row.sent) / 1000
    reckon(row, verdict, f"ended in {took_s:.1f} s, answered in {answered_s:.1f} s")
    assert statuses == [0, 0]
    assert took_s < 10
