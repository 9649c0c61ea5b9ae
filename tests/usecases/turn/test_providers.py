"""A turn whose provider is down: the real use case, queue and Redis, and two providers' stand-ins."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.adapters.redis_slots_operator import RedisSlotsOperator
from core.adapters.redis_slots_scripts import SlotOptions
from core.domain.money import charge
from core.domain.prices import load_prices
from core.local.openai_api import Latency, LlmFaultKind, LlmTrouble
from core.local.stack import LocalStack, StackOptions
from core.ports.documents import Key, Merge, Where
from core.ports.llm import Usage
from tests.support.fault_scene import FaultScene, Row
from tests.support.slots_scene import client
from tests.support.turn_scene import said, serving

PRIMARY, BACKUP = "gpt-6.1-terra", "backup/gpt-6-luna"
DOWN = LlmTrouble(LlmFaultKind.UNAVAILABLE)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[FaultScene]:
    options = StackOptions(turns=0, run_dir=tmp_path / "run", latency=Latency(0.1, 0.0), backup=True)
    faults = tmp_path / "faults"
    faults.mkdir()
    async with LocalStack(options) as stack, FaultScene(stack, faults) as scene:
        yield scene


async def with_outage_model(scene: FaultScene, name: str, **settings: Any) -> Row:
    row = await scene.row(name)
    model = {"model_name": PRIMARY, "outage_model": BACKUP}
    settings = {"limits": {"messages_per_minute": 60_000}, **settings}
    await scene.documents.commit(
        [
            Merge(Key("ai_model_config", row.clinic.org_id), model),
            Merge(Key("orgs", row.clinic.org_id), settings),
        ]
    )
    return row


async def day_of(scene: FaultScene, row: Row) -> Mapping[str, Any]:
    where = [Where("org_id", "==", row.clinic.org_id)]
    (day,) = await scene.documents.query("org_ai_spend", where)
    return day.data


def served(scene: FaultScene) -> Counter[str]:
    """What both providers' answers cost, in micro-baht by model."""
    costs: Counter[str] = Counter()
    for prefix, provider in (("", scene.stack.openai), ("backup/", scene.stack.backup)):
        for call in provider.calls:
            if call.usage and call.outcome == "answered":
                tokens = call.usage
                used = Usage(tokens.prompt, tokens.completion, tokens.cached, tokens.cache_write)
                price = load_prices().price_at(call.model, call.started_ms)
                costs[prefix + call.model] += charge(price, used, Decimal(36)).micro_baht
    return costs


async def test_nothing_set_for_an_outage_is_as_ever(scene: FaultScene) -> None:
    row = await scene.row("none")
    async with serving(scene):
        await scene.say(row)
        verdict = await scene.verdict(row)
    assert verdict.clean
    (turn,) = verdict.turns
    assert (turn["model"], turn["decision"], scene.stack.backup.calls) == (PRIMARY, "primary", [])


async def test_a_turn_whose_provider_fails_takes_the_other_as_its_next_attempt(scene: FaultScene) -> None:
    row = await with_outage_model(scene, "middle")
    scene.stack.openai.faults.add(DOWN)
    async with serving(scene):
        await scene.say(row)
        verdict = await scene.verdict(row)
    (turn,) = verdict.turns
    assert (verdict.lost, verdict.twice, verdict.books) == (0, 0, "")
    assert (turn["model"], turn["decision"], turn["reason"]) == (BACKUP, "outage", "outage")
    assert (turn["attempts"], turn["state"]) == (2, "delivered")
    assert [call.model for call in scene.stack.backup.calls] == ["gpt-6-luna"]
    assert turn["answered_ms"] - turn["reserved_ms"] < 900  # no backoff: the other has done nothing
    day = await day_of(scene, row)
    assert {m: c["spent_micro_baht"] for m, c in day["by_model"].items()} == dict(served(scene))


async def test_each_attempt_is_charged_by_its_own_models_prices(scene: FaultScene) -> None:
    """The first answer breaks the schema and is paid, the second never comes, the third is another's."""
    row = await with_outage_model(scene, "charged")
    for kind in (LlmFaultKind.WRONG_SCHEMA, LlmFaultKind.RESET):
        scene.stack.openai.faults.add(LlmTrouble(kind))
    async with serving(scene):
        await scene.say(row)
        verdict = await scene.verdict(row)
    (turn,) = verdict.turns
    assert (verdict.books, turn["model"], turn["attempts"], turn["ambiguous_attempts"]) == ("", BACKUP, 3, 1)
    day = await day_of(scene, row)
    spent = {model: counts["spent_micro_baht"] for model, counts in day["by_model"].items()}
    assert spent[PRIMARY] == turn["others"][PRIMARY] > turn["ambiguous_micro_baht"] > 0
    assert spent[BACKUP] == served(scene)[BACKUP] == turn["cost_micro_baht"] - turn["others"][PRIMARY]


async def test_a_model_that_its_provider_does_not_know_is_replaced_and_said_so(
    scene: FaultScene, caplog: pytest.LogCaptureFixture
) -> None:
    row = await with_outage_model(scene, "unknown")
    unknown = {"model_name": "gpt-6.1-terra-2025-01-01"}
    await scene.documents.commit([Merge(Key("ai_model_config", row.clinic.org_id), unknown)])
    async with serving(scene):
        await scene.say(row, "a")
        await scene.stack.tasks.drained(12)
        await scene.say(row, "b")
        verdict = await scene.verdict(row)
    assert [(turn["model"], turn["attempts"]) for turn in verdict.turns] == [(BACKUP, 2), (BACKUP, 1)]
    assert (verdict.lost, verdict.twice, verdict.books) == (0, 0, "")
    assert caplog.messages.count("model.not_found") == 1  # not asked in vain with every turn


async def test_a_clinic_whose_words_must_not_go_there_waits_instead(scene: FaultScene) -> None:
    row = await with_outage_model(scene, "barred", providers=["openai"])
    scene.stack.openai.faults.add(DOWN)
    async with serving(scene):
        await scene.say(row)
        verdict = await scene.verdict(row)
    (turn,) = verdict.turns
    assert (turn["model"], turn["attempts"], scene.stack.backup.calls) == (PRIMARY, 2, [])


async def test_while_the_circuit_is_open_turns_begin_elsewhere_and_one_tries_the_first(
    scene: FaultScene,
) -> None:
    row = await with_outage_model(scene, "outage")
    scene.stack.openai.faults.add(DOWN, times=None)
    async with serving(scene):
        await asyncio.gather(*(scene.say(row, f"u{n}") for n in range(30)))
        await scene.stack.tasks.drained(20)
        tried = len(scene.stack.openai.calls)
        await asyncio.gather(*(scene.say(row, f"v{n}") for n in range(10)))
        verdict = await scene.verdict(row)
    assert (verdict.lost, verdict.twice, verdict.books) == (0, 0, "")
    assert {turn["model"] for turn in verdict.turns} == {BACKUP}
    assert {turn["state"] for turn in verdict.turns} == {"delivered"}
    assert len(scene.stack.openai.calls) <= tried + 1
    assert await circuits(scene) == {"openai": "open", "backup": "closed"}


async def circuits(scene: FaultScene) -> dict[str, str]:
    redis = client(scene.stack.redis.url)
    views = {
        name: (await RedisSlotsOperator(redis, SlotOptions(provider=name)).snapshot()).circuit
        for name in ("openai", "backup")
    }
    await redis.aclose(close_connection_pool=True)
    return views


async def test_the_first_is_back_soon_after_it_recovered(scene: FaultScene) -> None:
    row = await with_outage_model(scene, "back")
    loop, users = asyncio.get_running_loop(), iter(range(1_000))

    async def until(done: Sequence[str]) -> None:
        async with asyncio.timeout(30):
            while (await circuits(scene))["openai"] not in done:
                await scene.say(row, f"u{next(users)}")
                await asyncio.sleep(0.2)

    async with serving(scene):
        scene.stack.openai.faults.add(DOWN, times=None)
        await asyncio.gather(*(scene.say(row, f"u{next(users)}") for _ in range(20)))
        await until(["open"])
        await asyncio.sleep(1)
        scene.stack.openai.faults.clear()
        began = loop.time()
        await until(["closed"])
        assert loop.time() - began <= 10
        verdict = await scene.verdict(row)
    assert (verdict.lost, verdict.twice, verdict.books) == (0, 0, "")
    assert {turn["state"] for turn in verdict.turns} == {"delivered"}


async def test_both_down_ends_in_one_apology_within_patience(scene: FaultScene) -> None:
    row = await with_outage_model(scene, "both")
    scene.stack.openai.faults.add(DOWN, times=None)
    scene.stack.backup.faults.add(DOWN, times=None)
    async with serving(scene, PATIENCE_S="4", LLM_BACKOFF_S="0.1", LLM_JITTER_S="0"):
        await asyncio.gather(*(scene.say(row, f"u{n}") for n in range(12)))
        verdict = await scene.verdict(row, timeout_s=30)
    assert (verdict.lost, verdict.twice, verdict.books) == (0, 0, "")
    assert {turn["state"] for turn in verdict.turns} == {"failed"}
    assert all(len(said(scene, sent)) == 1 for sent in row.sent)
    assert (await day_of(scene, row)).get("spent", 0) == 0
    assert max(turn["attempts"] for turn in verdict.turns) <= 3
