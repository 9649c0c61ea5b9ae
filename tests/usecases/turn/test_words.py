"""What customers write, through a whole turn: emergencies during a hand-off, edits, the bot's name."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from core.adapters.system_clock import SystemClock
from core.domain.texts import text
from core.local.simulator import Sent
from core.usecases.customers.conversation_control import ConversationControl
from core.usecases.operate.stored_clinics import find_clinic
from tests.support.fault_scene import FaultScene
from tests.support.turn_scene import serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROUP = "C" + "9" * 32


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("words")) as scene:
        yield scene


async def do(scene: FaultScene, *sent: Sent) -> None:
    for one in sent:
        await scene.sim.send(one)
    await scene.stack.tasks.drained(20)


async def test_while_people_have_the_chat_an_emergency_gets_its_number_once_by_free_reply(
    scene: FaultScene,
) -> None:
    row = await scene.row("urgent")
    clinic = await find_clinic(scene.documents, row.clinic.org_id)
    async with serving(scene):
        first = scene.message(row, "a", "หายใจ\u200bไม่ออกค่ะ")
        await ConversationControl(scene.documents, SystemClock()).pause(clinic, first.chat_id)
        again = scene.message(row, "a", "หายใจไม่ออก!!")
        await do(scene, first)
        await do(scene, again)
    told = [d for d in scene.stack.line.deliveries if d.to == first.chat_id]
    assert [(d.how, d.texts) for d in told] == [("reply", (text(clinic, "urgent"),))]
    assert not [call for call in scene.stack.openai.calls if call.clinic == clinic.org_id]


async def test_a_group_message_edited_while_it_waits_is_answered_as_it_stands_last(scene: FaultScene) -> None:
    row = await scene.row("edited")
    scene.stack.tasks.pause()
    user = scene.sim.user(row.clinic, "a")
    asked = scene.sim.message(row.clinic, user, "text", text="BEFORE?", chat_id=GROUP, mention_bot=True)
    message = {**asked.event["message"]}
    for words in ("AFTER?", "LAST?"):
        changed = {**message, "text": message["text"].replace("BEFORE?", words)}
        edit = scene.sim.event(row.clinic, user, "messageEdited", chat_id=GROUP, message=changed)
        if words == "AFTER?":
            late = edit
        else:
            await scene.sim.send(asked)
            await scene.sim.send(edit)
            await scene.sim.send(late)
    async with serving(scene):
        scene.stack.tasks.resume()
        await scene.stack.tasks.drained(20)
    [call] = [call for call in scene.stack.openai.calls if call.clinic == row.clinic.org_id]
    assert "LAST?" in call.last_words
    assert not {"BEFORE?", "AFTER?", row.clinic.name} & set(call.last_words.split())


async def test_the_bots_name_alone_is_no_paid_call(scene: FaultScene) -> None:
    row = await scene.row("named")
    clinic = await find_clinic(scene.documents, row.clinic.org_id)
    user = scene.sim.user(row.clinic, "a")
    async with serving(scene):
        await do(scene, scene.sim.message(row.clinic, user, "text", text="", chat_id=GROUP, mention_bot=True))
    told = [d for d in scene.stack.line.deliveries if d.channel_id == row.clinic.channel.channel_id]
    assert [d.texts for d in told] == [(text(clinic, "no_words"),)]
    assert not [call for call in scene.stack.openai.calls if call.clinic == clinic.org_id]
