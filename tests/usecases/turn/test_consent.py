"""A health fact is remembered after the customer's tap, and gone after another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from core.domain import consent, memory
from core.domain.memory import CustomerMemory, Fact
from core.local.simulator import Sent
from core.ports.documents import Create, Key
from tests.support.fault_scene import FaultScene, Row
from tests.support.turn_scene import said, serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")
ALLERGY = {"key": "allergy", "value": "ยาชา", "because": "แพ้ยาชา"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("consent")) as scene:
        yield scene


@pytest.fixture
def allergic(scene: FaultScene, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        return {"facts": [ALLERGY], "quick_replies": ["ฟอกสีฟัน"]}

    monkeypatch.setattr(scene.stack.openai, "answer", answer)


async def do(scene: FaultScene, sent: Sent) -> Sent:
    await scene.sim.send(sent)
    await scene.stack.tasks.drained(10)
    return sent


async def remembered(scene: FaultScene, sent: Sent) -> CustomerMemory:
    key = Key(memory.COLLECTION, f"{sent.clinic.org_id}:{sent.chat_id}")
    (document,) = await scene.documents.get_many([key])
    return CustomerMemory.decode(document.data if document else None, sent.timestamp_ms)


def buttons(scene: FaultScene, sent: Sent) -> list[dict[str, Any]]:
    (delivery,) = scene.sim.answers(sent.event_id)
    items = delivery.messages[-1].get("quickReply", {}).get("items", [])
    return [item["action"] for item in items]


async def tapped(scene: FaultScene, row: Row, data: str) -> Sent:
    chat = row.sent[0].chat_id
    return await do(scene, scene.sim.event(row.clinic, chat, "postback", postback={"data": data}))


@pytest.mark.usefixtures("allergic")
async def test_the_question_stands_under_the_first_reply_and_a_tap_decides(scene: FaultScene) -> None:
    row = await scene.row("consent")
    async with serving(scene):
        first = await do(scene, scene.message(row, "a", "แพ้ยาชา"))
        assert "ยินยอมไหมคะ" in said(scene, first)[0]
        assert [(b["type"], b["data"]) for b in buttons(scene, first)] == [
            ("postback", consent.GIVE),
            ("postback", consent.DECLINE),
        ]
        assert (await remembered(scene, first)).facts == ()
        second = await do(scene, scene.message(row, "a", "แพ้ยาชา ราคา"))
        assert "ยินยอมไหมคะ" not in said(scene, second)[0]
        assert [b["type"] for b in buttons(scene, second)] == ["message"]
        assert "ยาชา" in scene.calls(row)[-1].messages[1]["content"]  # known in this conversation
        tap = await tapped(scene, row, consent.GIVE)
        assert "จะจดจำ" in said(scene, tap)[0]
        assert [f.value for f in (await remembered(scene, first)).facts] == ["ยาชา"]
        tap = await tapped(scene, row, consent.DECLINE)
        assert "ไม่จดจำ" in said(scene, tap)[0]
        known = await remembered(scene, first)
        assert (known.facts, known.consent) == ((), False)
        third = await do(scene, scene.message(row, "a", "แพ้ยาชา อีกครั้ง"))
        assert "ยินยอมไหมคะ" not in said(scene, third)[0]
        assert (await remembered(scene, first)).facts == ()
    assert len(scene.calls(row)) == 3  # a tap costs no call


async def test_facts_from_before_wait_for_consent_at_the_next_turn(scene: FaultScene) -> None:
    row = await scene.row("before")
    async with serving(scene):
        first = scene.message(row, "a", "price")
        known = CustomerMemory((Fact("allergy", "latex", "old", 1), Fact("nickname", "Ploy", "old", 1)))
        key = Key(memory.COLLECTION, f"{first.clinic.org_id}:{first.chat_id}")
        await scene.documents.commit([Create(key, known.encode_facts())])
        await do(scene, first)
        assert len(buttons(scene, first)) == 2
        assert [f.key for f in (await remembered(scene, first)).facts] == ["nickname"]
        await tapped(scene, row, consent.GIVE)
        assert [f.key for f in (await remembered(scene, first)).facts] == ["nickname", "allergy"]
