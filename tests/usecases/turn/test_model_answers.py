"""What a customer gets for each way in which the model's answer can go wrong: real clients, real sockets."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from core.domain.clinic import Clinic
from core.domain.texts import shorter_rule, text
from core.local.openai_api import LlmFaultKind as Kind
from core.local.openai_api import LlmTrouble
from tests.support.fault_scene import FaultScene, Row, Verdict
from tests.support.turn_scene import said, serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANY = Clinic("any", "Any", "", "")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("answers")) as scene:
        yield scene


@pytest.fixture(autouse=True)
def usual_answers(scene: FaultScene) -> Iterator[None]:
    yield
    scene.stack.openai.answer = None


async def asked(scene: FaultScene, row: Row) -> Verdict:
    async with serving(scene):
        await scene.say(row)
        return await scene.verdict(row)


@pytest.mark.parametrize("kind", [Kind.TWICE, Kind.FENCED])
async def test_whole_object_counts_whatever_stands_around_it(scene: FaultScene, kind: Kind) -> None:
    row = await scene.row(kind.value)
    scene.stack.openai.faults.add(LlmTrouble(kind), times=None)
    verdict = await asked(scene, row)
    assert (verdict.clean, verdict.calls, verdict.hows) == (True, 1, "reply")
    assert row.name in said(scene, row.sent[0])[0]


@pytest.mark.parametrize("kind", [Kind.REFUSAL, Kind.CONTENT_FILTER, Kind.NULL_MESSAGE])
async def test_model_that_declines_is_asked_once_and_staff_will_answer(
    scene: FaultScene, caplog: pytest.LogCaptureFixture, kind: Kind
) -> None:
    caplog.set_level(logging.INFO, "fairlane")
    row = await scene.row(kind.value)
    scene.stack.openai.faults.add(LlmTrouble(kind), times=None)
    verdict = await asked(scene, row)
    assert (verdict.lost, verdict.twice, verdict.books, verdict.calls) == (0, 0, "", 1)
    assert said(scene, row.sent[0]) == [text(ANY, "staff")]
    (turn,) = verdict.turns
    assert (turn["state"], turn["failure"]) == ("failed", kind.value)
    assert turn["ambiguous_micro_baht"] == 0, "its counts were read"
    assert 0 < turn["cost_micro_baht"] < turn["worst_micro_baht"]
    assert "turn.left_to_staff" in caplog.messages


async def test_reply_that_is_cut_off_twice_is_left_to_staff_and_never_asked_for_in_the_same_way(
    scene: FaultScene,
) -> None:
    row = await scene.row("cut")
    scene.stack.openai.answer = lambda _: {"reply": "ราคาค่ะ " * 311}
    verdict = await asked(scene, row)
    assert (verdict.lost, verdict.books, verdict.calls, verdict.hows) == (0, "", 2, "length")
    assert said(scene, row.sent[0]) == [text(ANY, "staff")]
    first, second = scene.calls(row)
    assert second.messages == [
        *first.messages[:-1],
        {"role": "system", "content": shorter_rule()},
        first.messages[-1],
    ]


async def test_reply_that_is_cut_off_once_is_asked_for_in_fewer_words(scene: FaultScene) -> None:
    row = await scene.row("too long")

    def answer(body: Mapping[str, Any]) -> dict[str, str]:
        short = any(message["content"] == shorter_rule() for message in body["messages"])
        return {"reply": "สั้น ๆ ค่ะ" if short else "ราคาค่ะ " * 311}

    scene.stack.openai.answer = answer
    verdict = await asked(scene, row)
    assert (verdict.lost, verdict.books, verdict.calls, verdict.hows) == (0, "", 2, "reply")
    assert said(scene, row.sent[0]) == ["สั้น ๆ ค่ะ"]


async def test_reply_that_is_whole_is_delivered_though_the_rest_was_cut_off(scene: FaultScene) -> None:
    row = await scene.row("rest cut")
    scene.stack.openai.answer = lambda _: {"reply": "ได้ค่ะ", "preference": "เช้า " * 2000}
    verdict = await asked(scene, row)
    assert (verdict.clean, verdict.calls, verdict.hows) == (True, 1, "reply")
    assert said(scene, row.sent[0]) == ["ได้ค่ะ"]


async def test_reply_that_lost_letters_is_asked_for_once_more_and_never_delivered(scene: FaultScene) -> None:
    row = await scene.row("damaged")
    scene.stack.openai.faults.add(LlmTrouble(Kind.DAMAGED))
    verdict = await asked(scene, row)
    assert (verdict.lost, verdict.books, verdict.calls, verdict.hows) == (0, "", 2, "reply")
    (reply,) = said(scene, row.sent[0])
    assert row.name in reply
    assert "ฟอก" not in reply
    scene.stack.openai.faults.add(LlmTrouble(Kind.DAMAGED), times=None)
    row = await scene.row("damaged for good")
    scene.stack.openai.faults.add(LlmTrouble(Kind.DAMAGED), times=None)
    verdict = await asked(scene, row)
    assert (verdict.calls, verdict.hows) == (2, "bad_answer")
    assert said(scene, row.sent[0]) == [text(ANY, "busy")]


async def test_error_in_a_200_costs_nothing_and_is_tried_again(scene: FaultScene) -> None:
    row = await scene.row("error in 200")
    scene.stack.openai.faults.add(LlmTrouble(Kind.ERROR_IN_200))
    verdict = await asked(scene, row)
    assert (verdict.clean, verdict.calls, verdict.ambiguous, verdict.hows) == (True, 2, 0, "reply")


async def test_customer_reads_plain_text_and_taps_what_can_be_seen(scene: FaultScene) -> None:
    row = await scene.row("markdown")
    scene.stack.openai.answer = lambda _: {
        "reply": "**ฟอกสีฟัน**\u200b [จองคิว](https://clinic.example/q_1)ค่ะ",
        "quick_replies": ["\u200b", "**จอง**\nเลย"],
    }
    verdict = await asked(scene, row)
    assert verdict.clean
    (delivery,) = scene.sim.answers(row.sent[0].event_id)
    (message,) = delivery.messages
    assert message["text"] == "ฟอกสีฟัน จองคิว https://clinic.example/q_1 ค่ะ"
    assert [item["action"]["label"] for item in message["quickReply"]["items"]] == ["จอง เลย"]
    (turn,) = verdict.turns
    assert turn["reply"] == message["text"], "the journal has what the customer read"
