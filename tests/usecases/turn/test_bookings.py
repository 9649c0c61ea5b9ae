"""From a customer's wish to an appointment: booking and notice in the reply's commit, staff's tap, a push to
the customer; each once, whatever comes twice or at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from core.adapters.redis_clinic_marks import RedisClinicMarks
from core.adapters.system_clock import SystemClock
from core.domain.booking import Booking, BookingState, Step
from core.domain.booking_words import for_customer
from core.domain.clinic import Clinic
from core.domain.desk import Desk
from core.domain.hours import opening_hours
from core.domain.texts import desk_text
from core.local.line_api import Delivery, LineCall
from core.local.line_events import line_id
from core.local.simulator import Clinic as LineClinic
from core.local.simulator import Sent
from core.ports.documents import Key, Merge
from core.usecases.bookings.records import BookingRecords
from core.usecases.desk.records import DeskRecords
from core.usecases.operate.stored_clinics import find_clinic
from tests.support.fault_scene import FaultScene
from tests.support.turn_scene import serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")
R, C, D, X = BookingState.REQUESTED, BookingState.CONFIRMED, BookingState.DECLINED, BookingState.CANCELLED
BANGKOK = ZoneInfo("Asia/Bangkok")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("bookings")) as scene, serving(scene):
        yield scene


def wish(action: str = "request", *, days: int = 7, **fields: Any) -> dict[str, Any]:
    day = f"{datetime.now(BANGKOK) + timedelta(days=days):%Y-%m-%d}"
    whole = {"service": "ขูดหินปูน", "date": day, "time": "14:00", "name": "ส้ม", "phone": "081", "note": None}
    return {"action": action, **whole, **fields}


class Case:
    """A clinic with a desk, and a customer whose wish the model understands as `wish`."""

    def __init__(self, scene: FaultScene, line: LineClinic, clinic: Clinic) -> None:
        self.scene = scene
        self.line = line
        self.clinic = clinic
        self.group = line_id("C", clinic.org_id, "staff")
        self.nok, self.mai = (line_id("U", clinic.org_id, name) for name in ("nok", "mai"))
        self.customer = scene.sim.user(line, "customer")
        scene.stack.line.join(line.channel.channel_id, self.group, {self.nok: "นก", self.mai: "ใหม่"})
        scene.stack.line.befriend(line.channel.channel_id, self.customer, "คุณส้ม")
        self.records = BookingRecords(scene.documents, SystemClock())
        self.wish: dict[str, Any] | None = None
        self.prompts: list[str] = []

    def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.prompts.append(body["messages"][1]["content"])
        return {"booking": self.wish, "handoff": None}

    async def connect(self) -> None:
        desk = Desk(self.clinic.org_id, self.group, "group", 1, "E0")
        await DeskRecords(self.scene.documents, SystemClock()).change_desk(self.clinic.org_id, lambda _: desk)

    async def done(self) -> None:
        """Until nothing is due: a reminder waits in the queue for days."""
        async with asyncio.timeout(15):
            while any(  # noqa: ASYNC110  a server works
                task.schedule_s <= SystemClock().now_ms() / 1000 + 5
                for task in self.scene.stack.tasks.queue().store.tasks.values()
            ):
                await asyncio.sleep(0.02)

    async def say(self, wanted: dict[str, Any] | None, text: str = "จองคิวค่ะ?") -> Sent:
        self.wish = wanted
        sent = self.scene.sim.message(self.line, self.customer, "text", text=text)
        await self.scene.sim.send(sent)
        await self.done()
        replies = [d for d in self.scene.sim.answers(sent.event_id) if d.how is LineCall.REPLY]
        assert len(replies) == 1
        return sent

    async def tap(self, *taps: tuple[str, str]) -> list[str]:
        """Who taps what at the same time, and what the desk reads then."""
        before = len(self.to(self.group))
        events = [
            self.scene.sim.event(self.line, who, "postback", chat_id=self.group, postback={"data": data})
            for who, data in taps
        ]
        await asyncio.gather(*(self.scene.sim.send(event) for event in events))
        await self.done()
        return [text for d in self.to(self.group)[before:] for text in d.texts]

    def to(self, chat: str) -> list[Delivery]:
        return [d for d in self.scene.stack.line.deliveries if d.to == chat]

    @property
    def notices(self) -> list[dict[str, Any]]:
        return [dict(d.messages[0]) for d in self.to(self.group) if d.how is LineCall.PUSH]

    def button(self, place: int, notice: int = 0) -> str:
        return str(self.notices[notice]["template"]["actions"][place]["data"])

    @property
    def pushed(self) -> list[str]:
        return [text for d in self.to(self.customer) if d.how is LineCall.PUSH for text in d.texts]

    async def bookings(self) -> list[Booking]:
        return sorted(await self.records.all(self.clinic.org_id), key=lambda b: b.created_ms)


@pytest_asyncio.fixture(loop_scope="module")
async def case(scene: FaultScene, request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    row = await scene.row(request.node.name)
    case = Case(scene, row.clinic, await find_clinic(scene.documents, row.clinic.org_id))
    scene.stack.openai.answer = case.answer
    await case.connect()
    yield case
    scene.stack.openai.answer = None
    scene.stack.tasks.queue().store.purge(0)
    assert not scene.stack.line.broken_rules


async def test_a_wish_becomes_a_booking_that_a_tap_confirms(case: Case) -> None:
    sent = await case.say(wish())
    (booking,) = await case.bookings()
    wanted = wish()
    assert booking.id == sent.event_id
    assert (booking.org_id, booking.user_id, booking.state) == (case.clinic.org_id, case.customer, R)
    for name in ("service", "date", "time", "name", "phone"):
        assert getattr(booking, name) == wanted[name]
    (notice,) = case.notices
    assert all(part in notice["altText"] for part in ("คุณส้ม", "ขูดหินปูน", "14.00 น.", "081"))
    assert not case.pushed
    assert await case.tap((case.nok, case.button(0))) == [
        desk_text(case.clinic, "booking_confirmed_done", by="นก", name="คุณส้ม")
    ]
    confirmed = (await case.bookings())[0]
    assert (confirmed.state, confirmed.decided_by) == (C, "นก")
    assert case.pushed == [for_customer(case.clinic, confirmed, Step.ANSWER)]
    assert await case.tap((case.mai, case.button(1))) == [
        desk_text(case.clinic, "booking_confirmed_before", by="นก", name="คุณส้ม")
    ]
    assert len(case.pushed) == 1
    assert len(case.scene.stack.tasks.queue().store.tasks) == 1  # the reminder waits


async def test_two_who_tap_at_once_make_one_decision_and_one_push(case: Case) -> None:
    await case.say(wish())
    yes, no = case.button(0), case.button(1)
    said = await case.tap((case.nok, yes), (case.mai, no), (case.nok, yes), (case.mai, no))
    booking = (await case.bookings())[0]
    assert booking.state in {C, D}
    assert case.pushed == [for_customer(case.clinic, booking, Step.ANSWER)]
    assert said
    assert all(booking.decided_by in line for text in said for line in text.split("\n"))


@pytest.mark.parametrize(
    "unfit",
    [
        {"date": "2020-01-01"},
        {"date": "someday"},
        {"time": None},
        {"service": None},
        {"date": None, "time": None},
        {"action": "cancelled"},
    ],
)
async def test_what_does_not_hold_is_no_booking_and_no_notice(case: Case, unfit: dict[str, Any]) -> None:
    await case.say(wish(**unfit) if "action" not in unfit else {**wish(), **unfit})
    assert (await case.bookings(), case.notices) == ([], [])


async def test_the_same_wish_said_twice_is_one_booking_that_is_completed(case: Case) -> None:
    await case.say(wish(phone=None))
    await case.say(wish(phone="0812345678", name="ใครก็ไม่รู้"))
    (booking,) = await case.bookings()
    assert (booking.phone, booking.name) == ("0812345678", "ส้ม")
    assert len(case.notices) == 1


async def test_a_change_replaces_the_booking_and_the_old_ones_button_is_dead(case: Case) -> None:
    await case.say(wish())
    await case.tap((case.nok, case.button(0)))
    await case.say(wish("change", days=8, service=None, name=None, phone=None))
    old, new = await case.bookings()
    assert (old.state, old.decided_by, old.remind_ms) == (X, "customer", None)
    assert (new.state, new.replaces, new.service, new.phone) == (R, old.id, "ขูดหินปูน", "081")
    assert "แทนนัดเดิม" in case.notices[1]["altText"]
    assert await case.tap((case.mai, case.button(0, notice=0))) == [
        desk_text(case.clinic, "booking_cancelled_before", by="ลูกค้า", name="คุณส้ม")
    ]
    await case.tap((case.mai, case.button(0, notice=1)))
    assert [b.state for b in await case.bookings()] == [X, C]
    assert len(case.pushed) == 2
    assert '"appointments":[{"service":"ขูดหินปูน"' in case.prompts[1]


async def test_a_cancel_reaches_the_desk_as_a_notice_with_nothing_to_tap(case: Case) -> None:
    await case.say(wish())
    await case.say(wish("cancel", date=None, time=None))
    (booking,) = await case.bookings()
    assert booking.state is X
    assert [notice["type"] for notice in case.notices] == ["template", "text"]
    assert "ลูกค้ายกเลิกนัด" in case.notices[1]["text"]
    await case.tap((case.nok, case.button(0)))
    assert (await case.bookings())[0].state is X
    assert not case.pushed


async def test_a_cancel_that_no_booking_is_known_for_reaches_the_desk_too(case: Case) -> None:
    await case.say(wish("cancel"))
    assert [notice["type"] for notice in case.notices] == ["text"]
    assert await case.bookings() == []


async def test_confirmed_while_the_customer_cancels_it_ends_cancelled_and_told_once_at_most(
    case: Case,
) -> None:
    await case.say(wish())
    await asyncio.gather(case.say(wish("cancel"), "ยกเลิกค่ะ?"), case.tap((case.nok, case.button(0))))
    (booking,) = await case.bookings()
    assert booking.state is X
    assert len(case.pushed) <= 1
    for task in list(case.scene.stack.tasks.queue().store.tasks.values()):
        task.schedule_s = 0
        case.scene.stack.tasks.queue().duplicate(task)  # its reminder, if there is one, twice and early
    await asyncio.sleep(0.5)
    assert len(case.pushed) <= 1


async def test_a_booking_outside_the_hours_is_marked_for_the_desk(case: Case) -> None:
    await case.say(wish(time="03:00"))
    assert "นอกเวลาทำการ" not in case.notices[0]["altText"]  # no hours are known
    closed = replace(case.clinic, hours=opening_hours({"mon-sun": "10:00-20:00"}))
    write = Merge(Key("orgs", closed.org_id), {"hours": closed.hours.written()})
    await case.scene.documents.commit([write])
    redis = Redis.from_url(case.scene.stack.redis.url)
    await RedisClinicMarks(redis).renew(closed.org_id)
    await redis.aclose()
    await case.say(wish(time="20:00"))
    assert "นอกเวลาทำการ" in case.notices[1]["altText"]
    assert [b.outside_hours for b in await case.bookings()] == [False, True]
