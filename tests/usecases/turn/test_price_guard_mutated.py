"""Replies of a model that spells amounts in every way, and what of them reaches LINE: real sockets."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from core.domain.clinic import BudgetPolicy, Clinic
from core.domain.clinic_prices import ListedPrice
from core.domain.line_events import read_webhook
from core.domain.task import TurnTask
from core.domain.texts import text
from core.local.openai_api import Latency
from core.local.simulator import Clinic as LineClinic
from core.local.simulator import Sent
from core.usecases.turn.lead import RunTurn
from tests.support.fault_scene import FaultScene
from tests.support.turn_scene import serving, turn_scene
from tests.support.written_amounts import mutated

UNSURE = text(Clinic("any", "Any", "", ""), "price_unsure")
STATED = (900, 3900, 12000, 39000, 65000)
PRICES = tuple(ListedPrice(f"บริการที่{'กขคงจ'[n]}", Decimal(p), Decimal(p)) for n, p in enumerate(STATED))
CLINICS = 8
AT_ONCE = {
    "LLM_BACKOFF_S": "0.001",
    "LLM_JITTER_S": "0",
    "LLM_REQUESTS_PER_MINUTE": "",
    "LLM_TOKENS_PER_MINUTE": "",
}
_INVISIBLE = re.compile(r"[\s\u200b\u00a0]+")


@dataclass(frozen=True, slots=True)
class Play:
    """What the model says, attempt by attempt, and whether the last of it may be read."""

    replies: tuple[str, ...]
    is_read: bool


def plays(draw: Random, replies: int) -> Iterator[Play]:
    """Until there are so many replies: right at once, at the second attempt, never."""
    while replies > 0:
        wrong = [mutated(draw, _unstated(draw)) for _ in range(2)]
        right = mutated(draw, draw.choice(STATED))
        play = draw.choice(
            [Play((right,), True), Play((wrong[0], right), True), Play((wrong[0], wrong[1]), False)]
        )
        replies -= len(play.replies)
        yield play


def _unstated(draw: Random) -> int:
    while (value := draw.choice([draw.randint(1, 1_500), draw.randint(1, 199_999)])) in STATED:
        pass
    return value


def in_letters(n: int) -> str:
    """A customer's words without a number: any that they named would count as theirs."""
    return "".join("abcdefghij"[int(digit)] for digit in str(n))


class Scene:
    def __init__(self, scene: FaultScene, run: RunTurn, played: Mapping[str, Play]) -> None:
        self.scene = scene
        self.run = run
        self.played = played
        self.asked: dict[str, int] = {}
        scene.stack.openai.answer = self.answer

    def answer(self, body: Any) -> dict[str, Any]:
        name = body["messages"][-1]["content"].split()[-1]
        attempt = self.asked.get(name, 0)
        self.asked[name] = attempt + 1
        return {"reply": self.played[name].replies[attempt]}

    async def turn(self, clinic: LineClinic, name: str) -> Sent:
        """As the webhook would have enqueued it."""
        sent = self.scene.sim.message(
            clinic, self.scene.sim.user(clinic, name), "text", text=f"ราคาเท่าไหร่คะ {name}"
        )
        bot = clinic.channel.bot_user_id
        raw = json.dumps({"destination": bot, "events": [sent.event]}).encode()
        now_ms = self.scene.sim.factory.now_ms()
        (event,) = read_webhook(raw).events(clinic.org_id, now_ms, lambda _: None, name=clinic.name)
        await self.run(TurnTask(event, "0" * 32))
        return sent


async def replies_that_reach_line(folder: Path, seed: int, replies: int) -> list[str]:
    """What is wrong with them."""
    played = {in_letters(n): play for n, play in enumerate(plays(Random(seed), replies))}
    sent: dict[str, str] = {}
    async with turn_scene(folder) as scene, serving(scene, **AT_ONCE) as run:
        scene.stack.openai.latency = Latency(0.0)
        budget = BudgetPolicy(Decimal(1_000_000))
        clinics = [await scene.clinic(prices=PRICES, budget=budget) for _ in range(CLINICS)]
        stage, names = Scene(scene, run, played), iter(played)

        async def customers_of(clinic: LineClinic) -> None:
            for name in names:
                sent[(await stage.turn(clinic, name)).chat_id] = name

        async with asyncio.TaskGroup() as group:
            for clinic in clinics:
                group.create_task(customers_of(clinic))
        read: dict[str, list[str]] = {name: [] for name in played}
        for delivery in scene.stack.line.deliveries:
            read[sent[delivery.to]] += delivery.texts
    asked = [
        f"{n}: asked {stage.asked.get(n)}" for n, p in played.items() if stage.asked.get(n) != len(p.replies)
    ]
    return asked + [f"{p.replies} → {read[n]}" for n, p in played.items() if not _is_right(p, read[n])]


def _is_right(play: Play, read: Sequence[str]) -> bool:
    expected = play.replies[-1] if play.is_read else UNSURE
    return [_visible(each) for each in read] == [_visible(expected)]


def _visible(words: str) -> str:
    return _INVISIBLE.sub("", words)


async def test_of_mutated_replies_the_stated_ones_reach_line_and_no_others(tmp_path: Path) -> None:
    assert await replies_that_reach_line(tmp_path, 16, 150) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_of_ten_thousand_mutated_replies_the_stated_ones_reach_line(tmp_path: Path) -> None:
    assert await replies_that_reach_line(tmp_path, 17, 10_000) == []
