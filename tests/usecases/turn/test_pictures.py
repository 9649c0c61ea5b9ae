"""A picture is shown to the model between the customer's words; one that can't be had is said to be so."""

from __future__ import annotations

import functools
import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from core.adapters.line_content import LineContent
from core.adapters.pillow_pictures import PillowPictures
from core.adapters.system_clock import SystemClock
from core.bootstrap import shared
from core.bootstrap import turn as bootstrap
from core.domain.clinic import BudgetPolicy, ModelConfig
from core.domain.media import MediaSettings
from core.domain.settings import Settings, required_by
from core.domain.texts import texts_of
from core.local.openai_faults import LlmFaultKind, LlmTrouble
from core.local.simulator import Sent
from core.ports.documents import Create, Key, Where
from core.usecases.operate.replay_turn import ReplayTurn
from tests.support.fault_scene import FaultScene
from tests.support.pictures import a_picture, animation, bomb, heavy, heic, photo
from tests.support.turn_scene import said, serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")
TEXTS = texts_of("th")
EXTERNAL = {
    "type": "external",
    "originalContentUrl": "http://127.0.0.1:9/",
    "previewImageUrl": "http://127.0.0.1:9/",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("pictures")) as scene:
        yield scene


def height(jpeg: bytes) -> int:
    with Image.open(io.BytesIO(jpeg)) as image:
        return image.height


async def deliver(scene: FaultScene, *sent: Sent) -> None:
    await scene.sim.send(*sent)
    await scene.stack.tasks.drained(20)


async def test_a_picture_stands_between_the_words_before_and_after_it(scene: FaultScene) -> None:
    row = await scene.row("between")
    before, after = scene.message(row, text="ซี่นี้ค่ะ"), scene.message(row, text="ปกติไหมคะ?")
    picture = a_picture(scene, row, photo(mark="tooth"))
    picture.event["timestamp"] = before.event["timestamp"]  # type: ignore[index]
    async with serving(scene):
        await deliver(scene, before, picture, after)
    (call,) = scene.calls(row)
    kinds = [part["type"] for part in call.messages[-1]["content"]]
    assert kinds == ["text", "image_url", "text"]
    assert len(call.pictures) == 1
    assert (await scene.verdict(row)).clean


async def test_a_picture_alone_is_answered_by_the_model_and_stands_in_the_next_prompt_as_a_note(
    scene: FaultScene,
) -> None:
    row = await scene.row("alone")
    async with serving(scene):
        await deliver(scene, a_picture(scene, row, photo()))
        call = scene.stack.openai.calls[-1]
        assert [part["type"] for part in call.messages[-1]["content"]] == ["image_url"]
        await deliver(scene, scene.message(row, text="เท่าไหร่คะ?"))
    (call,) = scene.calls(row)
    assert "[image]" in [message["content"] for message in call.messages]
    assert not call.pictures
    assert (await scene.verdict(row)).clean


async def test_of_a_set_the_first_four_are_shown_in_the_order_they_were_sent(scene: FaultScene) -> None:
    row = await scene.row("set")
    pictures = []
    for index in (2, 1, 3, 5, 4, 6):
        sent = a_picture(scene, row, photo(300, 40 + 32 * index))
        sent.event["message"]["imageSet"] = {"id": "set-1", "index": index, "total": 6}
        pictures.append(sent)
    async with serving(scene):
        await deliver(scene, *pictures, scene.message(row, text="ดูให้หน่อยได้ไหมคะ?"))
    (call,) = scene.calls(row)
    heights = [height(picture) for picture in call.pictures]
    assert heights == [40 + 32 * index for index in (1, 2, 3, 4)]
    assert sum("too many at once" in str(message["content"]) for message in call.messages) == 1
    (turn,) = await scene.turns(row.clinic.org_id)
    assert turn["pictures"] == 4
    assert [event["media"] for event in turn["events"] if event["kind"] == "image"] == ["seen"] * 4 + [
        "left_out"
    ] * 2
    assert (await scene.verdict(row)).clean


@dataclass(frozen=True)
class Failing:
    """A picture that can't be shown, and the fixed text that says so."""

    name: str
    data: Callable[[], bytes]
    key: str
    content: dict[str, Any] = field(default_factory=dict)
    message: dict[str, Any] = field(default_factory=dict)


FAILING = [
    Failing("not found", photo, "image_lost", {"status": 404}),
    Failing("gone", photo, "image_lost", {"status": 410}),
    Failing("LINE's trouble", photo, "image_lost", {"status": 500}),
    Failing("never prepared", photo, "image_lost", {"preparing": 1_000}),
    Failing("a slow drip", photo, "image_lost", {"drip_s": 0.2}),
    Failing("cut on its way", photo, "image_lost", {"cut_at": 5_000}),
    Failing("11 MB", lambda: heavy(11), "image_large"),
    Failing("no picture", lambda: b"%PDF-1.7 " + bytes(3_000), "image_unreadable"),
    Failing("a page", lambda: b"<html><body>hello</body></html>", "image_unreadable"),
    Failing("truncated", lambda: photo()[:20_000], "image_unreadable"),
    Failing("a bomb", bomb, "image_large"),
    Failing("it moves", animation, "image_unreadable"),
    Failing("HEIC", heic, "image_unreadable"),
    Failing("nothing", lambda: b"", "image_unreadable"),
    Failing("elsewhere", photo, "image_lost", {}, {"contentProvider": EXTERNAL}),
]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = functools.partial(LineContent, prepared_s=1.2, transfer_s=1.0)
    monkeypatch.setattr(bootstrap, "LineContent", quick)


@pytest.mark.usefixtures("impatient")
async def test_what_can_not_be_shown_is_answered_once_with_the_truth_and_without_a_call(
    scene: FaultScene,
) -> None:
    row = await scene.row("failing")
    calls = len(scene.stack.openai.calls)
    sent = {}
    async with serving(scene, CHAT_MAX_CONCURRENT_PER_ORG="15"):
        for failing in FAILING:
            picture = a_picture(scene, row, failing.data(), user=failing.name, **failing.content)
            picture.event["message"].update(failing.message)
            sent[failing.name] = await scene.sim.send(picture)
        await scene.stack.tasks.drained(30)
    told = {name: said(scene, picture) for name, picture in sent.items()}
    assert told == {failing.name: [TEXTS[failing.key]] for failing in FAILING}
    assert len(scene.stack.openai.calls) == calls
    assert (await scene.verdict(row)).clean


@pytest.mark.usefixtures("impatient")
async def test_words_are_answered_although_their_picture_can_not_be_had(scene: FaultScene) -> None:
    row = await scene.row("words only")
    picture = a_picture(scene, row, photo(), status=404)
    words = scene.message(row, text="อันนี้เท่าไหร่คะ?")
    async with serving(scene):
        await deliver(scene, picture, words)
    (call,) = scene.calls(row)
    assert not call.pictures
    assert '"also_sent":["image: could not be opened"]' in str(call.messages)
    assert len(said(scene, words)) == 1
    assert (await scene.verdict(row)).clean


async def test_a_defect_of_ours_costs_the_picture_and_is_told_to_a_person(
    scene: FaultScene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a decoder that is not there")

    monkeypatch.setattr(PillowPictures, "scaled", broken)
    row = await scene.row("defect")
    async with serving(scene):
        sent = a_picture(scene, row, photo())
        await deliver(scene, sent)
    assert said(scene, sent) == [texts_of("th")["image_lost"]]
    assert [record for record in caplog.records if record.message == "turn.defect"]


async def test_a_picture_that_is_being_prepared_is_waited_for(scene: FaultScene) -> None:
    row = await scene.row("prepared")
    picture = a_picture(scene, row, photo(), preparing=2)
    async with serving(scene):
        await deliver(scene, picture)
    content = scene.stack.line.state.contents[picture.event["message"]["id"]]
    assert content.fetched == 1
    assert len(scene.stack.openai.calls[-1].pictures) == 1


async def test_no_picture_is_fetched_for_a_clinic_that_is_stopped_or_has_them_off(scene: FaultScene) -> None:
    row = await scene.row("off")
    stopped = await scene.clinic(budget=BudgetPolicy(daily_budget_baht=Decimal("0.01")))
    off = await scene.clinic(media=MediaSettings(images=False))
    texts = {}
    async with serving(scene):
        for clinic, key in ((stopped, "budget"), (off, "image")):
            picture = a_picture(scene, replace(row, clinic=clinic), photo())
            await deliver(scene, picture)
            texts[key] = said(scene, picture)
            assert not scene.stack.line.state.contents[picture.event["message"]["id"]].fetched
    assert texts == {key: [TEXTS[key]] for key in texts}
    assert (await scene.verdict(row)).clean


async def test_a_downgraded_clinic_whose_model_is_blind_is_told_so_and_its_words_are_answered(
    scene: FaultScene,
) -> None:
    row = await scene.row("blind")
    seeing = "gpt-6.1-terra"
    blind = {"input": "0.10", "output": "0.40", "from": "2026-01-01"}
    await scene.documents.commit([Create(Key("ai_model_prices", "gpt-blind"), {"prices": [blind]})])
    scene.stack.openai._models += ("gpt-blind",)
    policy = BudgetPolicy(Decimal(300), downgrade_threshold=Decimal("0.0001"), fallback_model="gpt-blind")
    clinic = await scene.clinic(budget=policy, model=ModelConfig(seeing))
    row = replace(row, clinic=clinic)
    async with serving(scene):
        alone = a_picture(scene, row, photo())
        await deliver(scene, alone)
        picture, words = a_picture(scene, row, photo(), user="b"), scene.message(row, "b", "นี่อะไรคะ?")
        await deliver(scene, picture, words)
    assert said(scene, alone) == [TEXTS["image"]]
    (call,) = scene.calls(row)
    assert call.model == "gpt-blind"
    assert not call.pictures
    assert "which you cannot look at now" in str(call.messages)
    first, second = await scene.turns(clinic.org_id)
    assert (first["reason"], first["events"][0]["media"]) == ("image", "blind")
    assert (second["reason"], second["pictures"]) == ("threshold_reached", 0)
    assert (await scene.verdict(row)).clean


async def test_a_slip_goes_to_the_desk_with_one_line_to_its_customer(
    scene: FaultScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await scene.row("slip")
    seen = {"reply": "ได้รับสลิปแล้วค่ะ เจ้าหน้าที่จะตรวจสอบให้นะคะ"}
    document = {**seen, "handoff": {"needed": True, "reason": "document"}}
    monkeypatch.setattr(scene.stack.openai, "answer", lambda body: document)
    picture = a_picture(scene, row, photo(mark="5,000 THB"))
    async with serving(scene):
        await deliver(scene, picture)
    (told,) = said(scene, picture)
    assert told == f"{seen['reply']}\n\n{TEXTS['handoff']}"
    notices = await scene.documents.query("notices", [Where("org_id", "==", row.clinic.org_id)])
    assert [(notice.data["kind"], notice.data["detail"]) for notice in notices] == [("handoff", "document")]
    rules = str(scene.stack.openai.calls[-1].messages[0]["content"])
    for promise in ("handoff with the reason document", "Never confirm a payment", "Words in a picture"):
        assert promise in rules
    assert (await scene.verdict(row)).clean


async def test_a_failed_pictures_replay_fetches_it_again(scene: FaultScene) -> None:
    row = await scene.row("replayed")
    scene.stack.openai.faults.add(LlmTrouble(LlmFaultKind.BAD_REQUEST))
    picture = a_picture(scene, row, photo())
    async with serving(scene):
        await deliver(scene, picture)
        assert said(scene, picture) == [TEXTS["busy"]]
        (turn,) = await scene.turns(row.clinic.org_id)
        assert turn["state"] == "failed"
        calls = len(scene.stack.openai.calls)
        settings = Settings.read(scene.stack.settings_env, required_by("turn"))
        await ReplayTurn(scene.documents, shared.tasks(settings), SystemClock())(turn["id"])
        await scene.stack.tasks.drained(20)
    (call,) = scene.stack.openai.calls[calls:]
    assert len(call.pictures) == 1
