"""`fairlane slots`: what an operator sees, and limits that take effect without a deployment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from core.ops.slots import app
from core.ports.slots import Outcome, OutcomeKind
from tests.adapters.slots_scene import Room, process, request


@pytest.fixture
def fairlane(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("COLUMNS", "120")

    async def run(*words: str) -> Result:
        """In a thread: the command has a loop of its own."""
        return await asyncio.to_thread(CliRunner().invoke, app, words)

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


async def test_set_without_anything_to_set_or_below_one_is_refused(fairlane: Any) -> None:
    assert (await fairlane("set")).exit_code == 2
    assert (await fairlane("set", "--global", "0")).exit_code == 2
    result = await fairlane("set", "--org", "a", "0")
    assert result.exit_code == 1
    assert "must be at least 1" in result.output


async def test_an_open_circuit_is_shown_and_closed(fairlane: Any, redis_url: str) -> None:
    async with process(redis_url) as slots:
        async with slots.hold(request("a", "t")) as slot:
            slot.outcome = Outcome(OutcomeKind.QUOTA)
        shown = (await fairlane()).output
        assert "circuit open for 600 s (quota)" in shown or "circuit open for 599 s (quota)" in shown
        assert "calls may go through again" in (await fairlane("close-circuit")).output
        assert "closed already" in (await fairlane("close-circuit")).output


async def test_redis_down_is_one_line(fairlane: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    result = await fairlane()
    assert result.exit_code == 1
    assert result.output.startswith("error: slots: Redis:")
