"""Twenty-five seconds without the first provider: customers are answered by the second one, whoever dies."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.domain.money import charge
from core.domain.prices import load_prices
from core.domain.texts import texts_of
from core.local.openai_api import Latency, LlmFaultKind, LlmTrouble
from core.local.simulator import Clinic, Sent
from core.local.stack import LocalStack, StackOptions
from core.local.task_dispatcher import Attempt, DispatchPlan
from core.ports.documents import Key, Merge
from core.ports.llm import Usage
from tests.support.fault_scene import FaultScene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CLINICS, EVERY_S = 6, 0.3
BEFORE_S, OUTAGE_S, AFTER_S = 5.0, 25.0, 10.0
WITHIN_S = 15.0


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[FaultScene]:
    options = StackOptions(turns=2, run_dir=tmp_path / "run", latency=Latency(0.8, 0.3), backup=True)
    faults = tmp_path / "faults"
    faults.mkdir()
    async with LocalStack(options) as stack, FaultScene(stack, faults) as scene:
        yield scene


async def clinics(scene: FaultScene) -> list[Clinic]:
    made = [await scene.clinic() for _ in range(CLINICS)]
    wanted = {"model_name": "gpt-6.1-terra", "outage_model": "backup/gpt-6-luna"}
    limits = {"limits": {"messages_per_minute": 60_000}}
    for clinic in made:
        await scene.documents.commit(
            [Merge(Key("ai_model_config", clinic.org_id), wanted), Merge(Key("orgs", clinic.org_id), limits)]
        )
    return made


async def write_for(scene: FaultScene, writers: list[Clinic], seconds: float) -> list[Sent]:
    """A question every now and then, each of another customer."""
    loop, sent = asyncio.get_running_loop(), []
    until = loop.time() + seconds
    while loop.time() < until:
        clinic = writers[len(scene.sim.sent) % len(writers)]
        customer = scene.sim.user(clinic, f"u{len(scene.sim.sent)}")
        sent.append(await scene.sim.say(clinic, customer, f"ราคาเท่าไหร่คะ {len(scene.sim.sent)}?"))
        await asyncio.sleep(EVERY_S)
    return sent


def busy_texts(scene: FaultScene, sent: list[Sent]) -> int:
    busy = texts_of("th")["busy"]
    return sum(
        busy in text for each in sent for one in scene.sim.answers(each.event_id) for text in one.texts
    )


def waited_s(scene: FaultScene, sent: Sent) -> float:
    answers = scene.sim.answers(sent.event_id)
    return (answers[0].at_ms - sent.sent_ms) / 1000 if answers else float("inf")


async def books(scene: FaultScene) -> tuple[int, int, int]:
    """Spent, of which the worst cases of calls that nobody knows about; and still held."""
    days: list[Mapping[str, Any]] = [d.data for d in await scene.documents.query("org_ai_spend")]
    turns = [d.data for d in await scene.documents.query("turns")]
    spent = sum(day.get("spent", 0) for day in days)
    assert spent == sum(turn["cost_micro_baht"] for turn in turns)
    return spent, sum(turn["ambiguous_micro_baht"] for turn in turns), sum(day.get("held", 0) for day in days)


def served(scene: FaultScene) -> int:
    """What both providers' answers cost, in micro-baht."""
    total = 0
    for provider in (scene.stack.openai, scene.stack.backup):
        for call in provider.calls:
            if call.usage and call.outcome == "answered":
                tokens = call.usage
                used = Usage(tokens.prompt, tokens.completion, tokens.cached, tokens.cache_write)
                price = load_prices().price_at(call.model, call.started_ms)
                total += charge(price, used, Decimal(36)).micro_baht
    return total


@pytest.mark.parametrize("kind", [LlmFaultKind.UNAVAILABLE, LlmFaultKind.HANG])
async def test_an_outage_costs_customers_seconds_and_nobody_reads_an_apology(
    scene: FaultScene, kind: LlmFaultKind
) -> None:
    writers = await clinics(scene)
    await write_for(scene, writers, BEFORE_S)
    scene.stack.openai.faults.add(LlmTrouble(kind), times=None)
    during = await write_for(scene, writers, OUTAGE_S)
    scene.stack.openai.faults.clear()
    answered = len(scene.stack.openai.calls)
    after = await write_for(scene, writers, AFTER_S)
    await scene.stack.tasks.drained(60)
    late = [waited_s(scene, sent) for sent in during if waited_s(scene, sent) > WITHIN_S]
    assert len(late) <= 0.02 * len(during), late
    assert busy_texts(scene, [*during, *after]) == 0
    assert all(len(scene.sim.answers(sent.event_id)) == 1 for sent in [*during, *after])
    assert any(call.outcome == "answered" for call in scene.stack.openai.calls[answered:])  # it is back
    assert scene.stack.openai.most <= 15
    assert scene.stack.backup.most <= 15
    assert max(scene.stack.backup.most_by_clinic.values()) <= 5
    spent, unknown, held = await books(scene)
    assert (spent - unknown, held) == (served(scene), 0)


async def test_instances_that_are_killed_meanwhile_and_doubled_tasks_change_nothing(
    scene: FaultScene,
) -> None:
    writers = await clinics(scene)
    doubled = iter(range(10**9))

    def twice(_: Attempt) -> DispatchPlan | None:
        return DispatchPlan(copies=2) if next(doubled) % 5 == 0 else None

    scene.stack.tasks.on_dispatch = twice
    scene.stack.openai.faults.add(LlmTrouble(LlmFaultKind.UNAVAILABLE), times=None)
    writing = asyncio.create_task(write_for(scene, writers, 20.0))
    for seconds in (4.0, 5.0):
        await asyncio.sleep(seconds)
        scene.stack.turns[1].signal(signal.SIGKILL)  # the scene starts another, as a platform does
    await scene.stack.redis.restart_empty()
    await asyncio.sleep(3.0)
    scene.stack.openai.faults.clear()
    sent = await writing
    await scene.stack.tasks.drained(90)
    counts = [len(scene.sim.answers(each.event_id)) for each in sent]
    assert counts == [1] * len(sent)
    assert scene.stack.openai.most <= 15
    assert scene.stack.backup.most <= 15
    spent, unknown, held = await books(scene)
    assert held == 0
    assert spent - unknown <= served(scene) <= spent
