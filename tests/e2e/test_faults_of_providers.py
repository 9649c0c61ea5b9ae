"""The fault matrix, the model and LINE: whatever they answer, or don't, the customer is answered once.

See test_faults_of_instances.py.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from core.local.line_api import CallSeen, LineCall, LineTrouble
from core.local.openai_api import LlmFaultKind as Kind
from core.local.openai_api import LlmTrouble
from tests.e2e.conftest import Reckon
from tests.support.fault_scene import FaultScene

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = {"LLM_ATTEMPT_TIMEOUTS_S": "1.5,1.5,1.5", "LLM_DEADLINE_S": "6"}

PASSING = {
    "429 with Retry-After": (LlmTrouble(Kind.RATE_LIMIT, retry_after_s=1), 0),
    "429 without Retry-After": (LlmTrouble(Kind.RATE_LIMIT), 0),
    "500": (LlmTrouble(Kind.ERROR_500), 0),
    "503": (LlmTrouble(Kind.UNAVAILABLE, late=True), 0),
    "connection reset": (LlmTrouble(Kind.RESET, late=True), 1),
    "accepted, never answered": (LlmTrouble(Kind.HANG), 1),
    "dripping bytes": (LlmTrouble(Kind.DRIP), 1),
    "body cut short": (LlmTrouble(Kind.CUT_BODY), 1),
    "truncated JSON": (LlmTrouble(Kind.TRUNCATED_JSON), 0),
    "wrong schema": (LlmTrouble(Kind.WRONG_SCHEMA), 0),
}
LASTING = {
    "500": (LlmTrouble(Kind.ERROR_500), 3, 0),
    "connection reset": (LlmTrouble(Kind.RESET), 3, 3),
    "accepted, never answered": (LlmTrouble(Kind.HANG), 3, 3),
    "wrong schema": (LlmTrouble(Kind.WRONG_SCHEMA), 2, 0),
    "400": (LlmTrouble(Kind.BAD_REQUEST), 1, 0),
    "401": (LlmTrouble(Kind.UNAUTHORIZED), 1, 0),
    "quota": (LlmTrouble(Kind.QUOTA), 1, 0),
}


@pytest.mark.parametrize("fault", PASSING)
async def test_model_fails_once_and_is_asked_again(scene: FaultScene, reckon: Reckon, fault: str) -> None:
    trouble, ambiguous = PASSING[fault]
    row = await scene.row(f"model, once: {fault}")
    scene.stack.openai.faults.add(trouble)
    await scene.say(row)
    verdict = await scene.verdict(row)
    reckon(row, verdict)
    assert (verdict.calls, verdict.ambiguous, verdict.hows) == (2, ambiguous, "reply")


@pytest.mark.parametrize("fault", LASTING)
async def test_model_fails_for_good_and_the_customer_hears_so_once(
    scene: FaultScene, reckon: Reckon, fault: str
) -> None:
    trouble, calls, ambiguous = LASTING[fault]
    row = await scene.row(f"model, always: {fault}")
    scene.stack.openai.faults.add(trouble, times=None)
    sent = await scene.say(row)
    verdict = await scene.verdict(row)
    took_s = (scene.sim.answers(sent.event_id)[0].at_ms - scene.calls(row)[0].started_ms) / 1000
    reckon(row, verdict, f"busy message after {took_s:.1f} s")
    assert (verdict.calls, verdict.ambiguous) == (calls, ambiguous)
    assert [turn["state"] for turn in verdict.turns] == ["failed"]
    assert took_s <= 7, "the deadline (6 s here), and delivery"


async def test_quota_opens_the_circuit_for_all(scene: FaultScene, reckon: Reckon) -> None:
    row = await scene.row("model: quota, then another customer")
    scene.stack.openai.faults.add(LlmTrouble(Kind.QUOTA))
    await scene.say(row)
    await scene.verdict(row)
    assert len(scene.calls(row)) == 1
    await scene.say(row, "b")
    waits = await scene.put_back(row)
    assert len(scene.calls(row)) == 1
    await scene.stack.redis.command("FLUSHALL")  # as `fairlane slots` closes the circuit
    scene.stack.tasks.queue().force(waits)
    reckon(row, await scene.verdict(row))


PASSING_AT_LINE = {
    "500 before accepting": LineTrouble.ERROR_BEFORE,
    "500 after accepting": LineTrouble.ERROR_AFTER,
    "reset before accepting": LineTrouble.RESET_BEFORE,
    "reset after accepting": LineTrouble.RESET_AFTER,
    "time-out after accepting": LineTrouble.HANG_AFTER,
    "429, rate": LineTrouble.RATE_LIMIT,
    "401, once": LineTrouble.UNAUTHORIZED,
}


@pytest.mark.parametrize(
    ("fault", "call"),
    [
        *((fault, LineCall.REPLY) for fault in PASSING_AT_LINE),
        *((fault, LineCall.PUSH) for fault in PASSING_AT_LINE if fault != "time-out after accepting"),
        pytest.param("time-out after accepting", LineCall.PUSH, marks=pytest.mark.slow),
    ],
)
async def test_line_fails_once_and_the_answer_arrives_once(
    scene: FaultScene, reckon: Reckon, fault: str, call: LineCall
) -> None:
    row = await scene.row(f"LINE, {call.value}: {fault}")

    def hits(seen: CallSeen) -> bool:
        return seen.call is call

    scene.stack.line.faults.add(PASSING_AT_LINE[fault], when=hits)
    await scene.sim.send(scene.message(row, token=call is LineCall.REPLY))
    verdict = await scene.verdict(row)
    reckon(row, verdict)
    assert (verdict.calls, verdict.hows) == (1, call.value)


@pytest.mark.parametrize("fault", ["monthly limit", "secret revoked"])
async def test_line_refuses_for_good_and_the_journal_says_why(
    scene: FaultScene, reckon: Reckon, fault: str
) -> None:
    row = await scene.row(f"LINE, always: {fault}")
    channel_id = row.clinic.channel.channel_id
    if fault == "secret revoked":
        scene.stack.line.revoke(channel_id)
    else:
        scene.stack.line.state.channels[channel_id].monthly_limit = 0  # replies are free, pushes are not
    await scene.sim.send(scene.message(row, token=fault == "secret revoked"))
    verdict = await scene.verdict(row)
    reckon(row, verdict)
    assert verdict.calls == 1
    assert [(t["state"], t["failure"].split(":")[0]) for t in verdict.turns] == [("failed", "undeliverable")]


@pytest.mark.slow
async def test_line_is_down_for_longer_than_a_turn_waits(scene: FaultScene, reckon: Reckon) -> None:
    row = await scene.row("LINE down for 15 s")
    scene.stack.line.faults.add(LineTrouble.ERROR_BEFORE, times=None)
    began = time.monotonic()
    await scene.say(row)
    await asyncio.sleep(15)
    scene.stack.line.faults.clear()
    verdict = await scene.verdict(row, 30)
    reckon(row, verdict, f"answered after {time.monotonic() - began:.0f} s")
    assert verdict.calls == 1
