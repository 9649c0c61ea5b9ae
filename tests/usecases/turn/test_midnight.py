"""A day's change of prices at Bangkok's midnight, while turns run: each turn has one day, from its prompt to
the guard of its reply, whenever the reply comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock
from zoneinfo import ZoneInfo

import pytest

from core.adapters.system_clock import CorrectedClock
from core.bootstrap import turn as bootstrap
from core.domain.clinic_prices import ListedPrice
from core.local.simulator import Sent
from tests.support.fault_scene import FaultScene, Row
from tests.support.turn_scene import said, serving, turn_scene

BANGKOK = ZoneInfo("Asia/Bangkok")
BEFORE, AFTER = "ฟอกสีฟัน 3,900 บาทค่ะ", "ฟอกสีฟัน 5,900 บาทค่ะ"
CUSTOMERS = 6
PATIENT = {"PATIENCE_S": "86400"}  # events are stamped by the webhook, whose clock is the machine's


def near_midnight() -> datetime:
    """The next one, or the last where that is more than 23 hours ahead: patience is a day at most."""
    now = datetime.now(BANGKOK)
    today = datetime.combine(now.date(), time.min, BANGKOK)
    return today if now - today < timedelta(hours=1) else today + timedelta(days=1)


class Midnight(CorrectedClock):
    """Goes on from where it is set."""

    at_ms = 0

    def set(self, at: datetime) -> None:
        type(self).at_ms = round(at.timestamp() * 1000) - CorrectedClock.now_ms(self)

    def now_ms(self) -> int:
        return super().now_ms() + self.at_ms

    def correct(self, shared_now_ms: int, tolerance_ms: int = 1_000) -> None:
        """The scene's time is nobody else's."""


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[FaultScene]:
    with mock.patch.object(bootstrap, "CorrectedClock", Midnight):
        async with turn_scene(tmp_path) as scene:
            yield scene


def from_prompt(body: Any) -> dict[str, Any]:
    """A model that says what the clinic states today."""
    stable = body["messages"][0]["content"]
    assert ("3900" in stable or "3,900" in stable) is not ("5900" in stable or "5,900" in stable)
    return {"reply": BEFORE if "3900" in stable or "3,900" in stable else AFTER}


def of_other_day(body: Any) -> dict[str, Any]:
    """A model that is wrong about the day, until it is told so."""
    wrong = AFTER if from_prompt(body)["reply"] == BEFORE else BEFORE
    told_so = any(message["role"] == "system" for message in body["messages"][2:])
    return from_prompt(body) if told_so else {"reply": wrong}


async def asked(scene: FaultScene, row: Row, name: str) -> list[Sent]:
    sent = [scene.message(row, f"{name}{n}", "ฟอกสีฟันเท่าไหร่คะ") for n in range(CUSTOMERS)]
    await asyncio.gather(*(scene.sim.send(each) for each in sent))
    return sent


async def called(scene: FaultScene, row: Row) -> None:
    async with asyncio.timeout(20):
        while not scene.calls(row):  # noqa: ASYNC110  a server makes it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("model", "calls"), [(from_prompt, 1), (of_other_day, 2)])
async def test_a_price_changes_at_midnight_while_turns_run(scene: FaultScene, model: Any, calls: int) -> None:
    midnight = near_midnight()
    first = midnight.date()
    last = first - timedelta(days=1)
    ending = ListedPrice("ฟอกสีฟัน", Decimal(3900), Decimal(3900), last - timedelta(days=30), last)
    coming = ListedPrice("ฟอกสีฟัน", Decimal(5900), Decimal(5900), first)
    row = await scene.row("midnight")
    row = replace(row, clinic=await scene.clinic(prices=(ending, coming)))
    scene.stack.openai.answer = model
    Midnight().set(midnight - timedelta(seconds=30))
    async with serving(scene, **PATIENT):
        early = await asked(scene, row, "early")
        await called(scene, row)  # one at least is under way
        Midnight().set(midnight + timedelta(seconds=1))
        late = await asked(scene, row, "late")
        await scene.stack.tasks.drained(30)
    turns = await scene.turns(row.clinic.org_id)
    days = {event["id"]: turn["prompt"]["day"] for turn in turns for event in turn["events"]}
    read = {sent.event_id: said(scene, sent) for sent in (*early, *late)}
    right = {last.isoformat(): [BEFORE], first.isoformat(): [AFTER]}
    assert read == {event_id: right[day] for event_id, day in days.items()}
    assert set(days.values()) == set(right)
    assert {days[sent.event_id] for sent in late} == {first.isoformat()}
    assert all(turn["attempts"] == calls for turn in turns)
    assert len({turn["prompt"]["stable"] for turn in turns}) == 2, "the prompt's beginning changes once"
    across = [turn for turn in turns if turn["prompt"]["day"] == last.isoformat()]
    assert any(turn["answered_ms"] >= midnight.timestamp() * 1000 for turn in across)
