"""Bubbles that belong together are answered together: from webhook to reply, with real parts around."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from core.domain.clinic import Clinic
from core.domain.texts import text
from core.local.simulator import Sent
from tests.support.fault_scene import FaultScene, Row
from tests.support.turn_scene import said, serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")
ANY = Clinic("any", "Any", "", "")
FRAGMENTS = ("สวัสดีค่ะ", "พอดีว่า", "ปวดฟันมาก", "ซี่ในสุด", "อยากอุดฟันค่ะ")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("turns")) as scene:
        yield scene


def bubble(scene: FaultScene, row: Row, kind: str = "text", text: str = "") -> Sent:
    content: dict[str, Any] = {"text": text} if text else {}
    sent = scene.sim.message(row.clinic, scene.sim.user(row.clinic, "a"), kind, **content)
    row.sent.append(sent)
    return sent


async def spoken(scene: FaultScene, *bubbles: Sent, every_s: float) -> None:
    for sent in bubbles:
        await scene.sim.send(sent)
        assert sent.acked
        await asyncio.sleep(every_s)


async def settled(scene: FaultScene, *bubbles: Sent, within_s: float = 8) -> None:
    assert await scene.sim.wait_answered([sent.event_id for sent in bubbles], within_s) == []


def prompts(scene: FaultScene, row: Row) -> list[str]:
    """The last messages of the calls for this row's clinic."""
    return [call.last_words for call in scene.stack.openai.calls if call.clinic == row.clinic.org_id]


async def test_six_bubbles_of_which_only_the_last_asks_are_one_call(scene: FaultScene) -> None:
    row = await scene.row("burst")
    bubbles = [bubble(scene, row, text=words) for words in (*FRAGMENTS, "ราคาเท่าไหร่คะ")]
    async with serving(scene, SLOT_LEASE_S="1"):
        await spoken(scene, *bubbles, every_s=0.3)
        await settled(scene, *bubbles)
        verdict = await scene.verdict(row)
    assert prompts(scene, row) == ["\n".join(sent.text for sent in bubbles)]
    assert verdict.clean
    assert len(verdict.turns) == 1


async def test_fragments_alone_are_answered_once_after_the_wait(scene: FaultScene) -> None:
    row = await scene.row("fragments")
    bubbles = [bubble(scene, row, text=words) for words in FRAGMENTS[:3]]
    async with serving(scene):
        began = time.monotonic()
        await spoken(scene, *bubbles, every_s=0.2)
        await settled(scene, *bubbles)
        took_s = time.monotonic() - began
    assert len(prompts(scene, row)) == 1
    assert 1.4 < took_s < 4, "a second after the last"


@pytest.mark.parametrize(("kind", "key"), [("sticker", "sticker"), ("image", "image_lost")])
async def test_a_burst_without_words_gets_one_fixed_text(scene: FaultScene, kind: str, key: str) -> None:
    row = await scene.row(f"ten of {kind}")
    bubbles = [bubble(scene, row, kind) for _ in range(10)]
    async with serving(scene, SLOT_LEASE_S="1"):
        await spoken(scene, *bubbles, every_s=0.05)
        await settled(scene, *bubbles)
        await scene.verdict(row)
    assert prompts(scene, row) == []
    assert {tuple(said(scene, sent)) for sent in bubbles} == {(text(ANY, key),)}
    assert len({id(d) for sent in bubbles for d in scene.sim.answers(sent.event_id)}) == 1


async def test_a_photo_and_its_question_are_one_turn(scene: FaultScene) -> None:
    row = await scene.row("photo")
    photo, question = bubble(scene, row, "image"), bubble(scene, row, text="อันนี้เป็นอะไรคะ")
    async with serving(scene):
        await spoken(scene, photo, question, every_s=0.3)
        await settled(scene, question)
    assert prompts(scene, row) == ["อันนี้เป็นอะไรคะ"]


async def test_a_sender_too_quick_for_the_rate_is_answered_in_the_turn_that_waits(scene: FaultScene) -> None:
    row = await scene.row("quick")
    bubbles = [bubble(scene, row, text=f"{words} ข้อ{n}") for n, words in enumerate(["ราคาเท่าไหร่"] * 9)]
    async with serving(scene):
        await scene.sim.send(*bubbles)
        await settled(scene, *bubbles, within_s=4)
    assert len(prompts(scene, row)) <= 2, "the sender's rate would bring the last ones 8 seconds later"


async def test_a_clinic_may_gather_nothing(scene: FaultScene) -> None:
    row = await scene.row("at once")
    row.clinic = await scene.clinic(gather_s=0.0)
    greeting = bubble(scene, row, text=FRAGMENTS[0])
    async with serving(scene):
        began = time.monotonic()
        await spoken(scene, greeting, every_s=0)
        await settled(scene, greeting)
    assert time.monotonic() - began < 0.9


async def test_a_question_about_a_picture_that_was_answered_finds_it_in_the_prompt(scene: FaultScene) -> None:
    row = await scene.row("later question")
    photo, question = bubble(scene, row, "image"), bubble(scene, row, text="อันนี้เป็นอะไรคะ")
    async with serving(scene):
        await spoken(scene, photo, every_s=0)
        await settled(scene, photo)
        await spoken(scene, question, every_s=0)
        await settled(scene, question)
    (call,) = [call for call in scene.stack.openai.calls if call.clinic == row.clinic.org_id]
    history = [(m["role"], m["content"]) for m in call.messages[2:]]
    assert history == [("user", "[image]"), ("assistant", text(ANY, "image_lost")), ("user", "อันนี้เป็นอะไรคะ")]
