"""`fairlane slots`: what an operator sees, and limits that take effect without a deployment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import fields, replace
from typing import Any

import pytest
from pytest_mock import MockerFixture
from typer.testing import CliRunner, Result

from core.adapters.redis_slots_operator import RedisSlotsOperator, SlotsView
from core.domain.errors import RedisUnavailableError
from core.ops.cli import app
from core.ports.slots import Outcome, OutcomeKind
from tests.support.slots_scene import Room, process, request


@pytest.fixture
def fairlane(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Coroutine[Any, Any, Result]]:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("COLUMNS", "120")

    async def run(*words: str) -> Result:
        """In a thread: the command has a loop of its own."""
        return await asyncio.to_thread(CliRunner().invoke, app, ["slots", *words])

    return run


async def test_an_idle_room_is_shown(fairlane: Any) -> None:
    result = await fairlane()
    assert result.exit_code == 0
    assert "0 of 15 slots, 0 waiting" in result.output
    assert "circuit closed" in result.output


async def test_holders_waiters_and_limits_are_shown_as_the_instances_have_them(
    fairlane: Any, redis_url: str
) -> None:
    room = Room()
    async with (
        process(redis_url, global_limit=1, requests_per_minute=50) as slots,
        slots.hold(request("bkk-smile", "t1")),
        asyncio.TaskGroup() as turns,
    ):
        waiter = turns.create_task(room.turn(slots, "chiang-mai", "t2"))
        await asyncio.sleep(0.2)
        table = (await fairlane()).output
        view = json.loads((await fairlane("--json")).output)
        waiter.cancel()
    assert "1 of 1 slots, 1 waiting, the oldest for 0." in table
    assert "bkk-smile" in table
    assert "last minute 1 requests" in table
    assert (view["limit"], view["used"], view["waiting"], view["circuit"]) == (1, 1, 1, "closed")
    assert [(org["org_id"], org["held"], org["waiting"]) for org in view["orgs"]] == [
        ("bkk-smile", 1, 0),
        ("chiang-mai", 0, 1),
    ]
    assert view["oldest_wait_ms"] >= 100


async def test_a_limit_set_by_an_operator_lets_waiters_run_at_once(fairlane: Any, redis_url: str) -> None:
    room = Room()
    async with (
        process(redis_url, global_limit=1) as slots,
        slots.hold(request("a", "holder")),
        asyncio.TaskGroup() as turns,
    ):
        turns.create_task(room.turn(slots, "b", "waiter"))
        await asyncio.sleep(0.1)
        result = await fairlane("set", "--global", "2", "--org", "bkk-smile", "7")
    assert room.order == ["waiter"]
    assert "limit 2 (configured 1), clinics: bkk-smile 7" in result.output
    assert "limit 1 (configured 1), clinics: as configured" in (await fairlane("set", "--reset")).output


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--global", "-1"],
        ["--global", "1" + "0" * 30],
        ["--global", "100001"],
        ["--org", "a", "-1"],
        ["--org", "a", "100001"],
        ["--org", "Bangkok Smile", "3"],
        ["--org", "a" * 41, "3"],
    ],
)
async def test_what_can_be_no_limit_or_no_clinic_is_refused(fairlane: Any, words: list[str]) -> None:
    assert (await fairlane("set", *words)).exit_code == 2
    assert "limit 15 (configured 15), clinics: as configured" in (await fairlane("set", "--reset")).output


async def test_each_override_is_taken_back_alone(fairlane: Any) -> None:
    await fairlane("set", "--global", "20", "--org", "a", "7")
    await fairlane("set", "--org", "b", "8")
    assert "limit 20 (configured 15), clinics: b 8" in (await fairlane("set", "--org", "a", "0")).output
    assert "limit 15 (configured 15), clinics: b 8" in (await fairlane("set", "--global", "0")).output


async def test_a_cap_beyond_the_limit_is_pointed_out(fairlane: Any) -> None:
    assert "more than" not in (await fairlane("set", "--org", "a", "15")).output
    result = await fairlane("set", "--org", "a", "16")
    assert result.exit_code == 0
    assert "a 16 is more than the limit: it gets 15 at most" in result.output


@pytest.mark.parametrize("options", [[], ["--json"]])
async def test_watching_goes_on_while_redis_does_not_answer(
    fairlane: Any, options: list[str], mocker: MockerFixture
) -> None:
    view = json.loads((await fairlane("--json")).output)
    names = [field.name for field in fields(SlotsView)]
    seen = SlotsView(**{name: view[name] for name in names})
    down = RedisUnavailableError("connection refused")
    looks = [seen, down, replace(seen, limit=77), down, KeyboardInterrupt()]
    mocker.patch.object(RedisSlotsOperator, "snapshot", side_effect=looks)
    mocker.patch("core.ops.slots.REFRESH_S", 0)
    result = await fairlane("--watch", *options)
    assert "Redis does not answer: connection refused" in result.output
    assert "77" in result.output


async def test_a_watch_that_can_not_begin_ends_at_once(
    fairlane: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    assert (await fairlane("--watch")).exit_code == 1


async def test_an_open_circuit_is_shown_and_closed(fairlane: Any, redis_url: str) -> None:
    async with process(redis_url) as slots:
        async with slots.hold(request("a", "t")) as slot:
            slot.outcome = Outcome(OutcomeKind.QUOTA)
        shown = (await fairlane()).output
        assert "circuit open for 600 s (quota)" in shown or "circuit open for 599 s (quota)" in shown
        assert "calls may go through again" in (await fairlane("close-circuit")).output
        assert "closed already" in (await fairlane("close-circuit")).output


async def test_redis_down_is_one_line_with_the_remedy(fairlane: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    result = await fairlane()
    assert result.exit_code == 1
    assert result.output.startswith("error: slots: Redis:")
    assert "this machine inside the network" in result.output


async def test_each_provider_is_shown_and_set_by_its_name(
    fairlane: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    providers = [{"name": "openai"}, {"name": "backup", "api_key_env": "B", "max_concurrent": 10}]
    monkeypatch.setenv("LLM_PROVIDERS", json.dumps(providers))
    async with process(redis_url, global_limit=8) as slots:
        async with slots.hold(request("a", "held")), slots.hold(request("b", "t")) as slot:
            slot.outcome = Outcome(OutcomeKind.RATE_LIMITED)
        view = json.loads((await fairlane("--json")).output)
        shown = {name: (v["limit"], v["ceiling"], v["reason"]) for name, v in view["providers"].items()}
        assert shown == {"openai": (1, 8, "refused"), "backup": (10, 10, "ceiling")}
        assert "(of 8: the provider refused more)" in (await fairlane()).output
        assert "limit 4" in (await fairlane("set", "--provider", "backup", "--global", "4")).output
        view = json.loads((await fairlane("--json")).output)["providers"]
        assert (view["backup"]["limit"], view["backup"]["reason"]) == (4, "operator")
        refused = await fairlane("set", "--provider", "x", "--reset")
        assert refused.exit_code == 2
