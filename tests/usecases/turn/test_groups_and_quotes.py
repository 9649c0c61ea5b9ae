"""What is quoted stands in the prompt; a group's members are told apart, and what is one's own stays so."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from core.adapters import redis_keys
from core.domain.event import Conversation
from core.local.line_events import line_id
from core.local.openai_api import Call
from core.local.simulator import Sent
from tests.support.fault_scene import FaultScene, Row
from tests.support.turn_scene import serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("turns")) as scene:
        yield scene


def group_of(row: Row) -> str:
    return line_id("C", row.name)


def in_group(scene: FaultScene, row: Row, name: str, text: str, **fields: Any) -> Sent:
    fields.setdefault("mention_bot", "quotedMessageId" not in fields)
    user = scene.sim.user(row.clinic, name)
    sent = scene.sim.message(row.clinic, user, "text", text=text, chat_id=group_of(row), **fields)
    row.sent.append(sent)
    return sent


async def answered(scene: FaultScene, *sent: Sent) -> Call:
    """The model's call for the last of them."""
    await scene.sim.send(*sent)
    assert await scene.sim.wait_answered([s.event_id for s in sent], 8) == []
    return [call for call in scene.stack.openai.calls if call.clinic == sent[0].clinic.org_id][-1]


def ours(scene: FaultScene, sent: Sent) -> str:
    (delivery,) = scene.sim.answers(sent.event_id)
    return delivery.message_ids[0]


def prompt(call: Call) -> str:
    return json.dumps(call.messages, ensure_ascii=False)


async def test_a_quote_of_the_first_of_two_answers_says_which_one_is_meant(scene: FaultScene) -> None:
    row = await scene.row("quotes")
    async with serving(scene):
        first = scene.message(row, "a", "ฟอกสีฟันราคาเท่าไหร่คะ")
        await answered(scene, first)
        await answered(scene, scene.message(row, "a", "จัดฟันราคาเท่าไหร่คะ"))
        user = scene.sim.user(row.clinic, "a")
        session = redis_keys.session(Conversation(row.clinic.org_id, "line", user))
        await scene.stack.redis.command("DEL", session)
        this = scene.sim.message(
            row.clinic, user, "text", text="เอาอันนี้ค่ะ", quotedMessageId=ours(scene, first)
        )
        call = await answered(scene, this)
        own = first.event["message"]["id"]
        same = scene.sim.message(row.clinic, user, "text", text="ตามนี้เลยค่ะ 1", quotedMessageId=own)
        after = await answered(scene, same)
        (reply,) = scene.sim.answers(first.event_id)
    quoted = call.messages[1]["content"].partition("<quoted>")[2]
    assert json.loads(quoted.partition("</quoted>")[0]) == [{"from": "us", "text": reply.texts[0]}]
    assert call.last_words == "เอาอันนี้ค่ะ"
    assert f'<quoted>[{{"from":"the customer","text":"{first.text}"}}]' in after.messages[1]["content"]


async def test_a_message_without_a_quote_has_none_in_its_prompt(scene: FaultScene) -> None:
    row = await scene.row("no quote")
    async with serving(scene):
        call = await answered(scene, scene.message(row, "a"))
    assert "<quoted>[" not in prompt(call)


async def test_what_one_member_says_of_her_health_is_in_no_other_members_prompt(scene: FaultScene) -> None:
    row = await scene.row("allergy")
    scene.stack.openai.answer = lambda body: {
        "facts": [{"key": "allergy", "value": "เพนิซิลลิน", "because": "แพ้เพนิซิลลิน"}]
        if "แพ้เพนิซิลลิน" in body["messages"][-1]["content"]
        else []
    }
    async with serving(scene):
        await answered(scene, in_group(scene, row, "a", "ขูดหินปูนราคาเท่าไหร่คะ"))
        await answered(scene, in_group(scene, row, "a", "แพ้เพนิซิลลินค่ะ ทำได้ไหมคะ"))
        b = await answered(scene, in_group(scene, row, "b", "จัดฟันราคาเท่าไหร่คะ"))
        a = await answered(scene, in_group(scene, row, "a", "ฟอกสีฟันเจ็บไหมคะ"))
    scene.stack.openai.answer = None
    assert "เพนิซิลลิน" not in prompt(b)
    assert "[A]\\nขูดหินปูนราคาเท่าไหร่คะ" in prompt(b)
    assert '"speaker":"B"' in b.messages[1]["content"]
    assert "เพนิซิลลิน" in prompt(a)
    users = [scene.sim.user(row.clinic, name) for name in "ab"]
    assert not any(user in prompt(call) for user in users for call in (a, b))
    assert [m async for m in memories(scene, row)] == []


async def memories(scene: FaultScene, row: Row) -> AsyncIterator[str]:
    for document in await scene.documents.query("customer_memory"):
        if document.key.id.startswith(row.clinic.org_id) and "เพนิซิลลิน" in str(document.data):
            yield document.key.id


async def test_two_members_who_ask_at_once_get_a_reply_each_that_quotes_the_question(
    scene: FaultScene,
) -> None:
    row = await scene.row("two ask")
    a = in_group(scene, row, "a", "ขูดหินปูนราคาเท่าไหร่คะ")
    b = in_group(scene, row, "b", "จัดฟันราคาเท่าไหร่คะ")
    async with serving(scene):
        await answered(scene, a, b)
    calls = [call for call in scene.stack.openai.calls if call.clinic == row.clinic.org_id]
    assert [call.last_words for call in calls] == ["ขูดหินปูนราคาเท่าไหร่คะ", "จัดฟันราคาเท่าไหร่คะ"]
    for sent in (a, b):
        delivery = next(d for d in scene.stack.line.deliveries if d.reply_token == sent.reply_token)
        assert delivery.messages[0]["quoteToken"] == sent.event["message"]["quoteToken"]


async def test_a_quote_of_ours_in_a_group_is_for_us_when_the_session_is_long_over(scene: FaultScene) -> None:
    row = await scene.row("later")
    async with serving(scene):
        asked = in_group(scene, row, "a", "ขูดหินปูนราคาเท่าไหร่คะ")
        await answered(scene, asked)
        key = redis_keys.session(Conversation(row.clinic.org_id, "line", group_of(row)))
        await scene.stack.redis.command("DEL", key)
        quoting = in_group(scene, row, "b", "เอาอันนี้ได้ไหมคะ", quotedMessageId=ours(scene, asked))
        call = await answered(scene, quoting)
        theirs = in_group(scene, row, "b", "จริงเหรอ", quotedMessageId=asked.event["message"]["id"])
        await scene.sim.send(theirs)
        await scene.stack.tasks.drained(8)
    assert '"from":"us"' in call.messages[1]["content"]
    assert scene.sim.answers(theirs.event_id) == [], "one member quotes another"


@pytest.mark.parametrize("written", ["@{name} ราคาเท่าไหร่คะ", "{name}, ราคาเท่าไหร่คะ", "@{name}ราคาเท่าไหร่คะ"])
async def test_a_text_that_begins_with_the_bots_name_is_for_it(scene: FaultScene, written: str) -> None:
    row = await scene.row(f"by name {written}")
    called = in_group(scene, row, "a", written.format(name=row.clinic.name), mention_bot=False)
    others = in_group(scene, row, "a", f"{row.clinic.name}0 ราคาเท่าไหร่คะ", mention_bot=False)
    async with serving(scene):
        await scene.sim.send(others)
        call = await answered(scene, called)
    assert call.last_words == "ราคาเท่าไหร่คะ"
    assert scene.sim.answers(others.event_id) == []
