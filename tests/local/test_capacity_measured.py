"""The planner's prediction against the real functions: p50 and p95 within a fifth."""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
from pathlib import Path

import pytest

from core.local.openai_api import Latency
from core.local.simulator import LineSimulator, Sent
from core.local.stack import LocalStack, StackOptions
from core.ops.sizing.demand import Demand
from core.ops.sizing.demand import Latency as Predicted
from core.ops.sizing.queueing import turn_latency_s

CLINICS, SLOTS, PER_ORG = 12, 8, 4
CALL = Predicted(median_s=0.6, sigma=0.5)
SECONDS, PER_S = 40.0, 8.0


async def latencies(simulator: LineSimulator, sent: list[Sent]) -> list[float]:
    assert await simulator.wait_answered([s.event_id for s in sent], 30) == []
    return sorted((simulator.answers(s.event_id)[0].at_ms - s.sent_ms) / 1000 for s in sent)


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_prediction_is_within_a_fifth_of_what_is_measured(tmp_path: Path) -> None:
    environment = {
        "CHAT_MAX_CONCURRENT": str(SLOTS),
        "CHAT_MAX_CONCURRENT_PER_ORG": str(PER_ORG),
        "ORG_MESSAGES_PER_MINUTE": "60000",
    }
    call = Latency(median_s=CALL.median_s, sigma=CALL.sigma)
    async with LocalStack(StackOptions(turns=2, environment=environment, latency=call, seed=3)) as stack:
        simulator = LineSimulator(stack.line, stack.webhook_url, seed=3)
        clinics = [simulator.clinic(f"clinic-{i}") for i in range(CLINICS)]
        file = tmp_path / "clinics.yaml"
        simulator.write_clinics(file, clinics)
        command = [str(Path(sys.executable).parent / "fairlane"), "clinics", "apply", str(file)]
        applying = await asyncio.create_subprocess_exec(*command, env=stack.process_env())
        assert await applying.wait() == 0
        rng = random.Random(3)

        async def ask(i: int) -> Sent:
            clinic = clinics[i % CLINICS]
            return await simulator.say(clinic, simulator.user(clinic, f"customer-{i}"), f"question {i}")

        # One after the other first, without waiting: what everything but the call takes here. The first
        # ones open connections and are left out.
        alone = []
        for i in range(-20, 0):
            alone += await latencies(simulator, [await ask(i)])
        calls = [(c.ended_ms - c.started_ms) / 1000 for c in stack.openai.calls if c.ended_ms is not None]
        overhead_s = max(0.0, statistics.median(t - c for t, c in zip(alone[6:], calls[6:], strict=True)))
        sending = []
        for i in range(round(SECONDS * PER_S)):
            sending.append(asyncio.create_task(ask(i)))
            await asyncio.sleep(rng.expovariate(PER_S))
        measured = await latencies(simulator, [await task for task in sending])
        await simulator.close()
    demand = Demand(
        CLINICS, PER_S * 3600 / CLINICS, latency=CALL, zipf=0, coalesced=0, most_per_minute=60_000
    )
    for share in (0.50, 0.95):
        predicted = turn_latency_s(demand, SLOTS, PER_ORG, share, overhead_s=overhead_s)
        seen = measured[int(share * len(measured))]
        print(
            f"p{share * 100:.0f}: {predicted:.2f} s predicted, {seen:.2f} s measured, {overhead_s:.3f} s ours"
        )
        assert predicted == pytest.approx(seen, rel=0.2)
