"""SIGTERM as Cloud Run sends it, while calls are under way that end before its 10 s and one that does not."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from core.local.openai_api import Latency, LlmFaultKind, LlmTrouble
from tests.support.fault_scene import fault_scene

GRACE_S = 10.0
# By then no turn may run there. The interpreter's own end takes a second, and more on a busy machine.
EXIT_S = 10.0
SETTINGS = {"SLOT_LEASE_S": "10", "LLM_ATTEMPT_TIMEOUTS_S": "25", "LLM_DEADLINE_S": "29"}


async def test_short_calls_end_and_a_long_one_moves_within_the_ten_seconds(tmp_path: Path) -> None:
    async with fault_scene(tmp_path, turns=2, **SETTINGS) as scene:
        row = await scene.row("SIGTERM")
        openai, tasks = scene.stack.openai, scene.stack.tasks
        openai.latency = Latency(median_s=3.0, sigma=0.0)
        # Longer than the grace: the other instance asks again.
        openai.faults.add(LlmTrouble(LlmFaultKind.HANG), when=lambda call: "long" in call.last_words)
        tasks.targets = scene.stack.turn_urls[:1]
        await asyncio.gather(*(scene.say(row, user) for user in "abcd"), scene.say(row, "e", "long"))
        async with asyncio.timeout(10):
            while openai.running < 5:  # noqa: ASYNC110  the stand-in only counts
                await asyncio.sleep(0.02)
        tasks.targets = scene.stack.turn_urls
        scene.revive = False  # or a new process would be taken for the old one
        began_ms = time.time() * 1000
        status = await scene.stack.terminate_turn(0, grace_s=GRACE_S + EXIT_S)
        scene.revive = True
        answered_before_the_end = sum(bool(scene.sim.answers(sent.event_id)) for sent in row.sent)
        openai.latency = Latency(median_s=0.2, sigma=0.0)
        verdict = await scene.verdict(row, 20.0)
    assert status == 0, "it ended by itself"
    _, again = [call for call in scene.calls(row) if "long" in call.last_words]
    assert again.started_ms - began_ms < GRACE_S * 1000
    assert answered_before_the_end == 4
    assert verdict.clean, verdict
    assert verdict.ambiguous == 1  # of the long call nobody knows whether it was billed
    assert {turn["state"] for turn in verdict.turns} == {"delivered"}
