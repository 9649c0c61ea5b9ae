"""A clinic's desk, from LINE to LINE: codes, notices and taps, in a group and in a chat of two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio

from core.adapters.system_clock import SystemClock
from core.domain.clinic import DeskSettings, Handoff
from core.domain.memory import CustomerMemory
from core.domain.notice import NoticeState
from core.domain.texts import desk_texts, texts_of
from core.local.line_api import Delivery, LineCall, LineTrouble
from core.local.line_events import line_id
from core.local.simulator import Clinic as LineClinic
from core.local.simulator import Sent
from core.ports.documents import Key
from core.usecases.desk.connection import DeskConnection
from core.usecases.desk.records import DeskRecords
from tests.support.fault_scene import FaultScene
from tests.support.turn_scene import serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")
TH = desk_texts("th")
ASKS_FOR_PEOPLE = "ขอคุยกับเจ้าหน้าที่ค่ะ"
HANDOFF = Handoff(("เจ้าหน้าที่",))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("desk")) as scene, serving(scene):
        yield scene


class Desk:
    """A clinic whose staff have a group with its bot, and a customer."""

    def __init__(self, scene: FaultScene, clinic: LineClinic) -> None:
        self.scene = scene
        self.clinic = clinic
        self.org_id = clinic.org_id
        self.group = line_id("C", self.org_id, "staff")
        self.other = line_id("C", self.org_id, "other")
        self.nok, self.mai = (line_id("U", self.org_id, name) for name in ("nok", "mai"))
        self.customer = scene.sim.user(clinic, "customer")
        channel_id = clinic.channel.channel_id
        for group in (self.group, self.other):
            scene.stack.line.join(channel_id, group, {self.nok: "นก", self.mai: "ใหม่"})
        scene.stack.line.befriend(channel_id, self.customer, "คุณส้ม")
        self.connection = DeskConnection(scene.documents, SystemClock())
        self.records = DeskRecords(scene.documents, SystemClock())

    async def done(self) -> None:
        with suppress(TimeoutError):
            await self.scene.stack.tasks.drained(6)

    async def say(
        self, user_id: str, text: str, chat_id: str | None = None, *, mention: bool = False
    ) -> list[str]:
        """A message, and what the bot says then in that chat."""
        sent = self.scene.sim.message(
            self.clinic, user_id, "text", text=text, chat_id=chat_id, mention_bot=mention
        )
        return await self.sent(sent)

    async def sent(self, *events: Sent) -> list[str]:
        chat, before = events[0].chat_id, len(self.scene.stack.line.deliveries)
        await asyncio.gather(*(self.scene.sim.send(event) for event in events))
        await self.done()
        new = self.scene.stack.line.deliveries[before:]
        return [text for d in new if d.to == chat for text in d.texts]

    def tap(self, data: str, user_id: str = "", chat_id: str = "", clinic: LineClinic | None = None) -> Sent:
        return self.scene.sim.event(
            clinic or self.clinic,
            user_id or self.nok,
            "postback",
            chat_id=chat_id or self.group,
            postback={"data": data},
        )

    async def connect(self) -> str:
        code = (await self.connection.new_code(self.org_id)).code
        assert await self.say(self.nok, code, self.group) == [told("connected", clinic=self.clinic.name)]
        return code

    async def hand_off(self) -> tuple[str, str]:
        """The customer asks for people; the data of the buttons under the notice."""
        await self.say(self.customer, ASKS_FOR_PEOPLE)
        (notice,) = self.notices
        take, resume = (action["data"] for action in notice.messages[0]["template"]["actions"])
        return take, resume

    @property
    def notices(self) -> list[Delivery]:
        pushes = [d for d in self.scene.stack.line.deliveries if d.how is LineCall.PUSH]
        return [d for d in pushes if d.channel_id == self.clinic.channel.channel_id]

    async def is_silent(self) -> bool:
        clock = SystemClock()
        (document,) = await self.scene.documents.get_many(
            [Key("customer_memory", f"{self.org_id}:{self.customer}")]
        )
        known = CustomerMemory.decode(document.data if document else None, clock.now_ms())
        return known.in_handoff(clock.now_ms())


def told(key: str, **values: object) -> str:
    text = TH[key]
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


@pytest_asyncio.fixture(loop_scope="module")
async def desk(scene: FaultScene) -> AsyncIterator[Desk]:
    clinic = await scene.clinic(handoff=HANDOFF)
    yield Desk(scene, clinic)
    scene.stack.tasks.queue().store.purge(0)
    assert not scene.stack.line.broken_rules


async def test_a_code_in_a_group_makes_it_the_desk_once(desk: Desk) -> None:
    code = await desk.connect()
    assert (await desk.records.desk(desk.org_id)).chat_id == desk.group
    assert await desk.say(desk.nok, code, desk.other) == []


async def test_a_code_in_a_chat_of_two_makes_it_the_desk(desk: Desk) -> None:
    code = (await desk.connection.new_code(desk.org_id)).code
    assert await desk.say(desk.nok, f" {code.lower()} ") == [told("connected", clinic=desk.clinic.name)]
    assert (await desk.records.desk(desk.org_id)).chat_id == desk.nok
    assert await desk.say(desk.nok, "ขูดหินปูนเท่าไหร่คะ") == []


async def test_while_a_desk_is_connected_a_code_elsewhere_is_refused_and_stays_usable(desk: Desk) -> None:
    await desk.connect()
    code = (await desk.connection.new_code(desk.org_id)).code
    assert await desk.say(desk.mai, code, desk.other) == [told("elsewhere", clinic=desk.clinic.name)]
    assert await desk.say(desk.mai, code, desk.group) == [told("connected_already", clinic=desk.clinic.name)]
    assert await desk.connection.disconnect(desk.org_id)
    assert await desk.say(desk.mai, code, desk.other) == [told("connected", clinic=desk.clinic.name)]


async def test_an_expired_code_and_one_that_was_drawn_over_connect_nothing(desk: Desk) -> None:
    first = (await desk.connection.new_code(desk.org_id)).code
    second = (await desk.connection.new_code(desk.org_id)).code
    assert await desk.say(desk.nok, first, desk.group) == []

    def expire(found: Any) -> Any:
        return type(found)(**{**{n: getattr(found, n) for n in found.__slots__}, "code_expires_ms": 1})

    await desk.records.change_desk(desk.org_id, expire)
    assert await desk.say(desk.nok, second, desk.group) == [TH["expired"]]
    assert not (await desk.records.desk(desk.org_id)).is_connected


async def test_a_code_sent_twice_at_once_in_two_chats_connects_one(desk: Desk) -> None:
    code = (await desk.connection.new_code(desk.org_id)).code
    await desk.sent(
        *(
            desk.scene.sim.message(desk.clinic, desk.nok, "text", text=code, chat_id=chat)
            for chat in (desk.group, desk.other)
        )
    )
    connected = (await desk.records.desk(desk.org_id)).chat_id
    said = [
        d.to
        for d in desk.scene.stack.line.deliveries
        if told("connected", clinic=desk.clinic.name) in d.texts
    ]
    assert said == [connected]


async def test_another_clinics_code_connects_nothing(desk: Desk) -> None:
    another = Desk(desk.scene, await desk.scene.clinic())
    code = (await another.connection.new_code(another.org_id)).code
    assert await desk.say(desk.nok, code, desk.group) == []


async def test_a_hand_off_is_noticed_taken_and_given_back_by_whoever_is_first(desk: Desk) -> None:
    await desk.connect()
    take, resume = await desk.hand_off()
    (notice,) = desk.notices
    assert notice.to == desk.group
    shown = notice.messages[0]["template"]["text"]
    assert all(part in shown for part in (TH["handoff"], "คุณส้ม", ASKS_FOR_PEOPLE))
    assert len(shown.encode("utf-16-le")) // 2 <= 160
    assert await desk.sent(desk.tap(take)) == [told("take_done", by="นก", name="คุณส้ม")]
    assert await desk.sent(desk.tap(take, desk.mai)) == [told("take_before", by="นก", name="คุณส้ม")]
    assert await desk.is_silent()
    assert await desk.sent(desk.tap(resume, desk.mai)) == [told("resume_done", by="ใหม่", name="คุณส้ม")]
    assert not await desk.is_silent()
    assert await desk.sent(desk.tap(take)) == [told("resume_before", by="ใหม่", name="คุณส้ม")]
    assert not await desk.is_silent()


async def test_two_who_tap_at_once_are_told_one_name(desk: Desk) -> None:
    await desk.connect()
    take, _ = await desk.hand_off()
    said = await desk.sent(desk.tap(take, desk.nok), desk.tap(take, desk.mai))
    names = ["นก", "ใหม่"] if "นก รับเรื่องของคุณส้มแล้ว" in "".join(said) else ["ใหม่", "นก"]
    assert sorted(said) == sorted(
        [told("take_done", by=names[0], name="คุณส้ม"), told("take_before", by=names[0], name="คุณส้ม")]
    )


async def test_a_tap_counts_only_in_the_desk_and_only_as_it_was_made(desk: Desk) -> None:
    """Forged data, a foreign chat, another clinic's desk, a desk that was disconnected: nothing."""
    await desk.connect()
    take, resume = await desk.hand_off()
    another = Desk(desk.scene, await desk.scene.clinic(handoff=HANDOFF))
    await another.connect()
    await another.hand_off()
    prefix, _, notice_id = take.rsplit(":", 2)
    forged = [
        f"{prefix}:confirm:{notice_id}",
        f"{prefix}:resume:nothing",
        f"{prefix}:{notice_id}",
        prefix + ":",
    ]
    for data in forged:
        assert await desk.sent(desk.tap(data)) == []
    assert await desk.sent(desk.tap(resume, chat_id=desk.other)) == []
    assert await desk.sent(desk.tap(resume, desk.customer, desk.customer)) == []
    assert await desk.sent(desk.tap(resume, chat_id=another.group, clinic=another.clinic)) == []
    assert await desk.connection.disconnect(desk.org_id)
    assert await desk.sent(desk.tap(resume)) == []
    assert await desk.is_silent()


async def test_in_the_desk_the_bot_answers_nothing_but_a_mention_with_what_is_open(desk: Desk) -> None:
    await desk.connect()
    assert await desk.say(desk.nok, "วันนี้ใครเข้าเวร", desk.group) == []
    assert await desk.say(desk.nok, "มีอะไรค้างไหม", desk.group, mention=True) == [TH["open_none"]]
    _, resume = await desk.hand_off()
    (said,) = await desk.say(desk.nok, "มีอะไรค้างไหม", desk.group, mention=True)
    assert told("open_some", count=1) in said
    assert "คุณส้ม" in said
    assert ASKS_FOR_PEOPLE not in said
    await desk.sent(desk.tap(resume))
    assert await desk.say(desk.nok, "มีอะไรค้างไหม", desk.group, mention=True) == [TH["open_none"]]
    assert not desk.scene.stack.openai.calls


async def test_what_was_kept_for_want_of_a_desk_is_sent_to_the_next_one(desk: Desk) -> None:
    await desk.say(desk.customer, ASKS_FOR_PEOPLE)
    assert not desk.notices
    await desk.connect()
    assert [notice.to for notice in desk.notices] == [desk.group]


async def test_after_disconnect_no_customers_words_come_to_the_chat(desk: Desk) -> None:
    await desk.connect()
    assert await desk.connection.disconnect(desk.org_id)
    await desk.say(desk.customer, ASKS_FOR_PEOPLE)
    assert not desk.notices
    (kept,) = await desk.records.undone(desk.org_id)
    assert kept.state is NoticeState.KEPT


@pytest.mark.parametrize("is_group", [True, False], ids=["leave", "unfollow"])
async def test_a_chat_that_the_bot_has_left_is_no_desk_any_more(desk: Desk, is_group: bool) -> None:
    chat, kind = (desk.group, "leave") if is_group else (desk.nok, "unfollow")
    code = (await desk.connection.new_code(desk.org_id)).code
    before = desk.scene.sim.event(desk.clinic, None if is_group else chat, kind, chat_id=chat)
    elsewhere = desk.scene.sim.event(desk.clinic, None, "leave", chat_id=desk.other)
    await desk.say(desk.nok, code, chat)
    await desk.sent(before, elsewhere)  # they say nothing of this connection
    assert (await desk.records.desk(desk.org_id)).chat_id == chat
    after = desk.scene.sim.event(desk.clinic, None if is_group else chat, kind, chat_id=chat)
    assert await desk.sent(after) == []
    assert not (await desk.records.desk(desk.org_id)).is_connected
    await desk.say(desk.customer, ASKS_FOR_PEOPLE)
    assert not desk.notices
    assert len(await desk.records.undone(desk.org_id)) == 1


async def test_staff_are_told_what_the_clinic_has_chosen_and_nothing_else(scene: FaultScene) -> None:
    wants = Desk(scene, await scene.clinic(handoff=HANDOFF, desk=DeskSettings(("urgent",))))
    await wants.connect()
    await wants.say(wants.customer, ASKS_FOR_PEOPLE)
    assert not wants.notices
    await wants.say(wants.customer, "เลือดไหลไม่หยุดเลยค่ะ ช่วยด้วย")
    (notice,) = wants.notices
    assert TH["urgent"] in "".join(notice.texts)
    assert await wants.records.undone(wants.org_id) == [], "what nobody wants to know waits for nobody"


async def test_urgent_words_reach_staff_once_an_hour_also_if_no_free_reply_is_left(desk: Desk) -> None:
    await desk.connect()
    await desk.hand_off()
    late = desk.scene.sim.message(desk.clinic, desk.customer, "text", text="เลือดไหลไม่หยุดเลยค่ะ")
    late.event = {name: value for name, value in late.event.items() if name != "replyToken"}
    assert await desk.sent(late) == []
    said = await desk.say(desk.customer, "เลือดไหลไม่หยุดเลยค่ะ ช่วยด้วย")
    assert said == [texts_of("th")["urgent"]]
    assert await desk.say(desk.customer, "เลือดไหลไม่หยุด") == []
    urgent = [n for n in desk.notices if TH["urgent"] in "".join(n.texts)]
    assert len(urgent) == 1
    assert "เลือดไหลไม่หยุดเลยค่ะ" in urgent[0].texts[0]


async def test_failed_turns_make_one_notice_with_their_number(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.usecases.journal.notices.FAILURES_GATHER_MS", 3_000)
    await desk.connect()
    desk.scene.stack.line.faults.add(
        LineTrouble.MONTHLY_LIMIT,
        times=3,
        when=lambda seen: seen.call is LineCall.PUSH and seen.body["to"] != desk.group,
    )
    for i in range(3):
        message = desk.scene.sim.message(
            desk.clinic, line_id("U", desk.org_id, str(i)), "sticker", keywords=[]
        )
        message.event = {name: value for name, value in message.event.items() if name != "replyToken"}
        await desk.scene.sim.send(message)
    await desk.done()
    (notice,) = desk.notices
    assert notice.texts == (told("failed", count=3),)


async def test_a_notice_is_at_line_within_two_seconds_of_the_reply(desk: Desk) -> None:
    await desk.connect()
    delays = []
    for i in range(10):
        customer = line_id("U", desk.org_id, f"c{i}")
        await desk.scene.sim.say(desk.clinic, customer, ASKS_FOR_PEOPLE)
        await desk.done()
        reply = next(d for d in desk.scene.stack.line.deliveries if d.to == customer)
        delays.append(desk.notices[-1].at_ms - reply.at_ms)
    assert sorted(delays)[9] <= 2_000
