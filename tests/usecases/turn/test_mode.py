"""A clinic's mode through whole turns: switched by the operator's command while messages come in."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from core.domain.clinic import Mode
from core.domain.hours import opening_hours
from core.domain.opening import MODE_AFTER_HOURS, MODE_OFF
from core.domain.texts import text
from core.local.simulator import Sent
from core.usecases.operate.stored_clinics import find_clinic
from tests.support.fault_scene import FaultScene, Row
from tests.support.turn_scene import serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("mode")) as scene:
        yield scene


async def do(scene: FaultScene, sent: Sent) -> list[str]:
    """What the customer reads of it."""
    before = len(scene.stack.line.deliveries)
    await scene.sim.send(sent)
    await scene.stack.tasks.drained(20)
    return [text for d in scene.stack.line.deliveries[before:] if d.to == sent.chat_id for text in d.texts]


async def switch(scene: FaultScene, org_id: str, mode: str, **environment: str) -> dict[str, Any]:
    return await clinics(scene, "mode", org_id, mode, **environment)


async def clinics(scene: FaultScene, *words: str, **environment: str) -> dict[str, Any]:
    command = "import sys; from core.ops.cli import main; sys.argv[0] = 'fairlane'; main()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", command, "clinics", *words, "--json"),
        env={**os.environ, **scene.stack.settings_env, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return dict(json.loads(out))


async def last_turn(scene: FaultScene, row: Row) -> dict[str, Any]:
    return dict((await scene.turns(row.clinic.org_id))[-1])


async def test_the_command_acts_within_two_seconds_on_turns_that_knew_the_clinic(scene: FaultScene) -> None:
    row = await scene.row("switched")
    org_id = row.clinic.org_id
    async with serving(scene):
        assert await do(scene, scene.message(row, "a", "hello?"))
        for mode, answers in (("off", False), ("off", False), ("live", True), ("off", False)):
            before = (await find_clinic(scene.documents, org_id)).mode
            found = await switch(scene, org_id, mode)
            assert found == {"org_id": org_id, "mode": mode, "before": before, "at_once": True}
            switched = time.monotonic()
            assert bool(await do(scene, scene.message(row, "a", "hello?"))) is answers
            assert time.monotonic() - switched < 2
    turn = await last_turn(scene, row)
    assert (turn["state"], turn["reason"]) == ("ignored", MODE_OFF)
    assert all(not event["text"] for event in turn["events"])


async def test_a_mode_in_the_clinics_file_acts_as_soon(scene: FaultScene, tmp_path: Path) -> None:
    row = await scene.row("applied")
    channel = row.clinic.channel
    line = {
        "bot_user_id": channel.bot_user_id,
        "channel_id": channel.channel_id,
        "channel_secret": channel.channel_secret,
    }
    file = tmp_path / "clinics.yaml"
    async with serving(scene):
        for mode, answers in (("live", True), ("off", False), ("live", True)):
            clinic = {"org_id": row.clinic.org_id, "name": row.clinic.name, "line": line, "mode": mode}
            file.write_text(json.dumps({"clinics": [clinic]}))
            await clinics(scene, "apply", str(file))
            applied = time.monotonic()
            assert bool(await do(scene, scene.message(row, "a", "hello?"))) is answers
            assert time.monotonic() - applied < 2


async def test_while_off_an_emergency_gets_its_number_once(scene: FaultScene) -> None:
    row = await scene.row("urgent")
    org_id = row.clinic.org_id
    clinic = await find_clinic(scene.documents, org_id)
    async with serving(scene):
        await switch(scene, org_id, "off")
        assert await do(scene, scene.message(row, "a", "หายใจไม่ออก")) == [text(clinic, "urgent")]
        assert await do(scene, scene.message(row, "a", "หายใจไม่ออก!")) == []
        assert await do(scene, scene.message(row, "b", "หายใจไม่ออก")) == [text(clinic, "urgent")]
    assert not scene.calls(row)


@pytest.mark.parametrize(("hours", "answers"), [("00:00-24:00", False), ("closed", True)])
async def test_after_hours_answers_only_while_the_clinic_is_closed(
    scene: FaultScene, hours: str, answers: bool
) -> None:
    row = await scene.row(f"after hours {hours}")
    week = opening_hours({"mon-sun": hours})
    row.clinic = await scene.clinic(hours=week, mode=Mode.AFTER_HOURS)
    async with serving(scene):
        assert bool(await do(scene, scene.message(row, "a", "hello?"))) is answers
    turn = await last_turn(scene, row)
    assert (turn["state"] == "ignored") is not answers
    assert answers or turn["reason"] == MODE_AFTER_HOURS


async def test_a_turn_that_runs_is_finished_and_the_next_is_silent(scene: FaultScene) -> None:
    row = await scene.row("meanwhile")
    async with serving(scene):
        asked = scene.message(row, "a", "hello?")
        await scene.sim.send(asked)
        async with asyncio.timeout(10):
            while not scene.calls(row):  # noqa: ASYNC110  a server makes it
                await asyncio.sleep(0.01)
        await switch(scene, row.clinic.org_id, "off")
        await scene.stack.tasks.drained(20)
        assert len(scene.sim.answers(asked.event_id)) == 1
        assert await do(scene, scene.message(row, "a", "hello?")) == []


async def test_without_redis_the_command_says_that_it_is_seen_later(scene: FaultScene) -> None:
    row = await scene.row("no redis")
    found = await switch(scene, row.clinic.org_id, "off", REDIS_URL="redis://127.0.0.1:1/0")
    assert found["at_once"] is False
    assert (await find_clinic(scene.documents, row.clinic.org_id)).mode is Mode.OFF
