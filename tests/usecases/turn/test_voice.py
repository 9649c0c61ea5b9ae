"""A voice message is the customer's words: written down once, inside a slot and the turn's hold."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import pytest_asyncio

from core.adapters.line_content import LineContent
from core.bootstrap import turn as bootstrap
from core.domain.clinic import Handoff
from core.domain.texts import texts_of
from core.local.openai_audio import Transcription, recording
from core.local.openai_faults import LlmFaultKind, LlmTrouble
from core.local.simulator import Sent
from core.ports.documents import Where
from tests.support.fault_scene import SETTINGS, FaultScene, Row
from tests.support.pictures import a_picture, a_voice, photo
from tests.support.turn_scene import said, serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")
TEXTS = texts_of("th")
WORDS = "ขูดหินปูนเท่าไหร่คะ"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("voice")) as scene:
        yield scene


async def deliver(scene: FaultScene, *sent: Sent) -> None:
    await scene.sim.send(*sent)
    await scene.stack.tasks.drained(20)


def heard(scene: FaultScene, words: str) -> list[Transcription]:
    return [call for call in scene.stack.openai.audio.calls if call.words == words]


async def day_of(scene: FaultScene, row: Row) -> Mapping[str, Any]:
    (day,) = await scene.documents.query("org_ai_spend", [Where("org_id", "==", row.clinic.org_id)])
    return day.data


async def test_a_voice_message_is_answered_like_words_and_booked_by_the_second(scene: FaultScene) -> None:
    row = await scene.row("voice")
    words = f"voice {WORDS}"
    async with serving(scene):
        await deliver(scene, a_voice(scene, row, recording(words, seconds=4.5), ms=4_500))
    (call,) = scene.calls(row)
    assert call.last_words == words
    (transcription,) = heard(scene, words)
    assert (transcription.model, transcription.seconds) == ("gpt-transcribe", 4.5)
    (turn,) = await scene.turns(row.clinic.org_id)
    assert [(event["text"], event["media"]) for event in turn["events"]] == [(words, "heard")]
    assert turn["audio"]["micro_baht"] == 12_150  # 4.5 s of 0.0045 USD a minute, at 36 baht
    day = await day_of(scene, row)
    assert day["by_model"]["gpt-transcribe"] == {"spent_micro_baht": 12_150, "audio_ms": 4_500}
    assert (await scene.verdict(row)).clean


@dataclass(frozen=True)
class Failing:
    """A voice message that nobody can listen to, and the fixed text that says so."""

    name: str
    key: str
    data: Callable[[], bytes] = lambda: recording("unheard")
    ms: int = 4_000
    content: dict[str, Any] = field(default_factory=dict)


FAILING = [
    Failing("ten minutes", "audio_long", ms=600_000),
    Failing("ten minutes that say they are four seconds", "audio_long", lambda: recording("x", seconds=600)),
    Failing("gone", "audio_lost", content={"status": 410}),
    Failing("never prepared", "audio_lost", content={"preparing": 1_000}),
    Failing("a drip", "audio_lost", content={"drip_s": 0.2}),
    Failing("11 MB", "audio_long", lambda: bytes(11_000_000)),
    Failing("no recording", "audio_lost", lambda: b"<html></html>"),
    Failing("empty", "audio_lost", lambda: b""),
    Failing("silence", "audio_empty", lambda: recording("")),
    Failing("noise", "audio_empty", lambda: recording(" \u200b ")),
]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        bootstrap, "LineContent", functools.partial(LineContent, prepared_s=1.2, transfer_s=1.0)
    )


@pytest.mark.usefixtures("impatient")
async def test_what_can_not_be_heard_is_answered_once_with_the_truth_and_no_chat_call(
    scene: FaultScene,
) -> None:
    row = await scene.row("unheard")
    calls, sent = len(scene.stack.openai.calls), {}
    async with serving(scene, CHAT_MAX_CONCURRENT_PER_ORG="15"):
        for failing in FAILING:
            voice = a_voice(scene, row, failing.data(), failing.name, failing.ms, **failing.content)
            sent[failing.name] = await scene.sim.send(voice)
        await scene.stack.tasks.drained(30)
    told = {name: said(scene, voice) for name, voice in sent.items()}
    assert told == {failing.name: [TEXTS[failing.key]] for failing in FAILING}
    assert len(scene.stack.openai.calls) == calls
    assert (await scene.verdict(row)).clean


@pytest.mark.parametrize(
    ("troubles", "answered", "tried"),
    [
        ([LlmFaultKind.ERROR_500], True, 2),
        ([LlmFaultKind.ERROR_500, LlmFaultKind.RATE_LIMIT], True, 3),
        ([LlmFaultKind.RESET], True, 2),
        ([LlmFaultKind.ERROR_500] * 3, False, 3),
        ([LlmFaultKind.QUOTA], False, 1),
    ],
)
async def test_three_tries_and_then_the_customer_is_told(
    scene: FaultScene, troubles: list[LlmFaultKind], answered: bool, tried: int
) -> None:
    row = await scene.row(f"tries{troubles[0].value}{len(troubles)}{tried}")
    words = f"{row.name} {WORDS}"
    scene.stack.openai.audio.faults.clear()
    for kind in troubles:
        scene.stack.openai.audio.faults.add(LlmTrouble(kind), when=lambda call: call.words == words)
    voice = a_voice(scene, row, recording(words))
    async with serving(scene, **SETTINGS):
        await deliver(scene, voice)
    assert len(heard(scene, words)) == tried
    (told,) = said(scene, voice)
    assert (words in told) is answered
    assert answered or told == TEXTS["busy"]
    verdict = await scene.verdict(row)
    assert verdict.clean
    assert verdict.ambiguous == (LlmFaultKind.RESET in troubles)


async def test_what_was_written_down_is_not_paid_again_when_the_turn_comes_back(scene: FaultScene) -> None:
    row = await scene.row("once")
    words = f"once {WORDS}"
    scene.stack.openai.faults.add(LlmTrouble(LlmFaultKind.RATE_LIMIT, retry_after_s=12), times=1)
    voice = a_voice(scene, row, recording(words))
    async with serving(scene, **(SETTINGS | {"LLM_DEADLINE_S": "3"})):
        await scene.sim.send(voice)
        await scene.stack.tasks.drained(40)
    assert len(heard(scene, words)) == 1
    assert len(said(scene, voice)) == 1
    assert words in said(scene, voice)[0]
    assert (await scene.verdict(row)).clean


async def test_people_who_are_asked_for_by_voice_are_called(scene: FaultScene) -> None:
    row = await scene.row("people")
    row = replace(row, clinic=await scene.clinic(handoff=Handoff(keywords=("แอดมิน",))))
    voice = a_voice(scene, row, recording("ขอคุยกับแอดมินค่ะ"))
    calls = len(scene.stack.openai.calls)
    async with serving(scene):
        await deliver(scene, voice)
    assert said(scene, voice) == [TEXTS["handoff"]]
    assert len(scene.stack.openai.calls) == calls
    assert (await scene.verdict(row)).clean


async def test_a_picture_and_a_voice_message_about_it_are_one_question(scene: FaultScene) -> None:
    row = await scene.row("both")
    words = f"both {WORDS}"
    async with serving(scene):
        await deliver(scene, a_picture(scene, row, photo()), a_voice(scene, row, recording(words)))
    (call,) = scene.calls(row)
    kinds = [part["type"] for part in call.messages[-1]["content"]]
    assert (kinds, call.last_words) == (["image_url", "text"], words)
    assert (await scene.verdict(row)).clean


async def test_a_voice_message_that_is_unsent_leaves_no_words(scene: FaultScene) -> None:
    row = await scene.row("unsent")
    words = f"unsent {WORDS}"
    voice = a_voice(scene, row, recording(words))
    async with serving(scene):
        await deliver(scene, voice)
        taken_back = {"messageId": voice.event["message"]["id"]}
        await deliver(scene, scene.sim.event(row.clinic, voice.chat_id, "unsend", unsend=taken_back))
    (turn,) = await scene.turns(row.clinic.org_id)
    assert [(event["text"], event["note"]) for event in turn["events"]] == [("", None)]
    assert turn["reply"] == ""
