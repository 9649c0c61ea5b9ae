"""The fault matrix, pictures and voice messages: whoever finds the turn answers it once, pays no words twice,
and of their bytes nothing is kept."""

from __future__ import annotations

import base64

import pytest

from core.domain.texts import texts_of
from core.local.openai_audio import Transcription, recording
from core.local.simulator import Sent
from core.local.task_dispatcher import Attempt
from tests.e2e.conftest import Reckon
from tests.support.everything_kept import documents_text, files_text, redis_text
from tests.support.fault_scene import FaultScene
from tests.support.pictures import a_picture, a_voice, photo

pytestmark = pytest.mark.asyncio(loop_scope="module")
TEXTS = texts_of("th")
BEFORE_IT_IS_STORED = ("claim.after", "voice.sent", "voice.answered", "heard.before")
AFTER_IT_IS_STORED = ("heard.after", "llm.sent", "settle.before", "settle.after", "line.accepted")


def heard(scene: FaultScene, words: str) -> list[Transcription]:
    return [call for call in scene.stack.openai.audio.calls if call.words == words]


def told(scene: FaultScene, sent: Sent) -> str:
    return "\n".join(text for delivery in scene.sim.answers(sent.event_id) for text in delivery.texts)


@pytest.mark.parametrize(
    "point",
    [
        point if point.startswith("heard") else pytest.param(point, marks=pytest.mark.slow)
        for point in (*BEFORE_IT_IS_STORED, *AFTER_IT_IS_STORED)
    ],
)
async def test_an_instance_dies_at_every_step_of_a_voice_message(
    scene: FaultScene, reckon: Reckon, point: str
) -> None:
    row = await scene.row(f"voice, killed at {point}")
    words = f"{row.name} ราคาเท่าไหร่คะ"
    scene.kill_at(point)
    voice = await scene.sim.send(a_voice(scene, row, recording(words)))
    verdict = await scene.verdict(row, 25.0)
    assert scene.was_killed_at(point)
    assert words in told(scene, voice)
    paid = [call for call in heard(scene, words) if call.outcome == "answered"]
    assert len(paid) == 1 or point in BEFORE_IT_IS_STORED
    reckon(row, verdict, f"written down {len(heard(scene, words))} times")


@pytest.mark.parametrize("with_words", [True, False])
async def test_a_picture_is_gone_when_a_dead_instances_turn_is_taken_over(
    scene: FaultScene, reckon: Reckon, with_words: bool
) -> None:
    row = await scene.row(f"picture gone after a crash, {with_words=}")
    picture = a_picture(scene, row, photo())
    events = [picture, scene.message(row, text="อันนี้อะไรคะ?")] if with_words else [picture]
    async with scene.paused_at_next("llm.sent", lambda: scene.sim.send(*events)):
        scene.stack.line.state.contents[picture.event["message"]["id"]].status = 404
        scene.kill_at("llm.answered")
    verdict = await scene.verdict(row, 25.0)
    assert scene.was_killed_at("llm.answered")
    if with_words:
        assert [len(call.pictures) for call in scene.calls(row)] == [1, 0]
    else:
        assert told(scene, picture) == TEXTS["image_lost"]
    reckon(row, verdict)


async def test_of_what_is_shown_and_said_no_byte_is_kept(scene: FaultScene) -> None:
    row = await scene.row("canary")
    canary = b"CANARY-" + bytes(range(65, 91)) * 40
    comment = b"\xff\xfe" + (len(canary) + 2).to_bytes(2, "big") + canary
    jpeg = photo(mark="canary")
    jpeg = jpeg[:2] + comment + jpeg[2:]
    bodies: list[bytes] = []

    def note(attempt: Attempt) -> None:
        bodies.append(attempt.body)

    scene.stack.tasks.on_dispatch = note
    sound = recording("canary เท่าไหร่คะ") + canary
    await scene.sim.send(a_picture(scene, row, jpeg), a_voice(scene, row, sound))
    await scene.sim.send(a_picture(scene, row, jpeg, "b", cut_at=9_000))
    assert (await scene.verdict(row, 25.0)).clean
    (call,) = scene.calls(row)
    (shown,) = call.pictures
    kept = "\n".join(
        [
            await redis_text(scene.stack.redis.url),
            await documents_text(scene.documents),
            files_text(scene.stack.run_dir),
            b"\n".join(bodies).decode(errors="replace"),
        ]
    )
    for data in (canary, shown[200:400], shown[-400:-200], jpeg[len(comment) + 400 :][:200]):
        assert data.decode("latin-1") not in kept
        for part in (data, data[1:], data[2:]):
            assert base64.b64encode(part)[4:60].decode() not in kept
        assert data.hex()[:60] not in kept
