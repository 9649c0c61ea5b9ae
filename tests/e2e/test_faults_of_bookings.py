"""The fault matrix, bookings: whatever dies or is said twice, there is one booking, one notice of it, one
answer to the customer and one reminder, or none where none is due.

Real processes of the turn function, as for the other rows of the matrix.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from core.adapters.system_clock import SystemClock
from core.bootstrap import shared
from core.domain.booking import STAFF, Booking, BookingState, Step
from core.domain.booking_words import for_customer
from core.domain.clinic import Bookings
from core.domain.desk import Desk
from core.domain.settings import Settings, required_by
from core.local.line_api import Delivery, LineCall
from core.local.line_events import line_id
from core.local.simulator import Sent
from core.local.task_dispatcher import DispatchPlan
from core.usecases.bookings.decide import DecideBooking
from core.usecases.bookings.records import BookingRecords
from core.usecases.desk.records import DeskRecords
from core.usecases.operate.stored_clinics import find_clinic
from core.usecases.outbox.outbox import Outbox
from tests.e2e.conftest import Reckon
from tests.support.fault_scene import FaultScene, Row

pytestmark = pytest.mark.asyncio(loop_scope="module")
CONFIRMED, CANCELLED = BookingState.CONFIRMED, BookingState.CANCELLED
BANGKOK = ZoneInfo("Asia/Bangkok")


class Salon:
    """A row's clinic with a desk, and a customer whose wish the model understands."""

    def __init__(self, scene: FaultScene, row: Row, starts: datetime) -> None:
        self.scene = scene
        self.row = row
        self.org_id = row.clinic.org_id
        self.starts = starts
        self.action = "request"
        self.group = line_id("C", self.org_id, "staff")
        self.people = [line_id("U", self.org_id, name) for name in ("nok", "mai")]
        self.customer = scene.sim.user(row.clinic, "a")
        channel_id = row.clinic.channel.channel_id
        scene.stack.line.join(channel_id, self.group, dict(zip(self.people, ("นก", "ใหม่"), strict=True)))
        self.records = BookingRecords(scene.documents, SystemClock())

    def understood(self, _: Mapping[str, Any]) -> dict[str, Any]:
        day, time = f"{self.starts:%Y-%m-%d}", f"{self.starts:%H:%M}"
        wish = {"action": self.action, "service": "ขูดหินปูน", "date": day, "time": time}
        return {"booking": {**wish, "name": "ส้ม", "phone": None, "note": None}, "handoff": None}

    async def say(self, action: str) -> Sent:
        self.action = action
        return await self.scene.say(self.row)

    def tap(self, place: int = 0, by: int = 0) -> Sent:
        data = self.notices[0].messages[0]["template"]["actions"][place]["data"]
        return self.scene.sim.event(
            self.row.clinic, self.people[by], "postback", chat_id=self.group, postback={"data": data}
        )

    async def decide(self, state: BookingState) -> None:
        """As the operator's command does it."""
        clock = SystemClock()
        queue = shared.tasks(Settings.read(self.scene.stack.settings_env, required_by("turn")))
        clinic = await find_clinic(self.scene.documents, self.org_id)
        decide = DecideBooking(self.scene.documents, Outbox(queue, clock), clock)
        await decide(clinic, (await self.booking()).id, state, STAFF, state.value)
        await queue.close()

    async def booking(self) -> Booking:
        (booking,) = await self.records.all(self.org_id)
        return booking

    async def until(self, state: BookingState) -> None:
        async with asyncio.timeout(10):
            while (await self.booking()).state is not state:  # noqa: ASYNC110  another process works
                await asyncio.sleep(0.02)

    async def told(self, step: Step) -> str:
        clinic = await find_clinic(self.scene.documents, self.org_id)
        return for_customer(clinic, await self.booking(), step)

    @property
    def notices(self) -> list[Delivery]:
        return self._pushed(self.group)

    @property
    def pushed(self) -> list[str]:
        return [text for delivery in self._pushed(self.customer) for text in delivery.texts]

    def _pushed(self, to: str) -> list[Delivery]:
        return [d for d in self.scene.stack.line.deliveries if d.to == to and d.how is LineCall.PUSH]


async def prepared(scene: FaultScene, name: str, remind_in_s: float | None = None) -> Salon:
    """`remind_in_s`: when the reminder is due, about; None: there is none."""
    row = await scene.row(name)
    starts = (datetime.now(BANGKOK) + timedelta(hours=2)).replace(second=0, microsecond=0)
    before_s = 0.0 if remind_in_s is None else (starts - datetime.now(BANGKOK)).total_seconds() - remind_in_s
    row.clinic = await scene.clinic(bookings=Bookings(before_s / 3600))
    salon = Salon(scene, row, starts)
    scene.stack.openai.answer = salon.understood
    desk = Desk(salon.org_id, salon.group, "group", 1, "E0")
    await DeskRecords(scene.documents, SystemClock()).change_desk(salon.org_id, lambda _: desk)
    return salon


async def requested(scene: FaultScene, name: str, remind_in_s: float | None = None) -> Salon:
    salon = await prepared(scene, name, remind_in_s)
    await salon.say("request")
    await scene.stack.tasks.drained(10)
    return salon


async def reckoned(salon: Salon, reckon: Reckon, state: BookingState, pushes: int, notices: int = 1) -> None:
    """`pushes`: to the customer, besides replies."""
    scene = salon.scene
    with suppress(TimeoutError):
        await scene.stack.tasks.drained(14)
    booking = await salon.booking()
    scene.sim.unasked |= {await salon.told(step) for step in Step}
    verdict = await scene.verdict(salon.row, 1)
    counted = f"{len(salon.notices)} notices, {booking.state.value}, {len(salon.pushed)} pushes"
    scene.stack.openai.answer = None
    reckon(salon.row, verdict, counted)
    assert (booking.state, len(salon.pushed), len(salon.notices)) == (state, pushes, notices)


@pytest.mark.parametrize(
    "point",
    [
        "settle.before",
        "settle.after",
        "task.before",
        "task.after",
        "line.accepted",
        "desk.accepted",
        "noticed.before",
    ],
)
async def test_killed_while_it_is_asked_for(scene: FaultScene, reckon: Reckon, point: str) -> None:
    salon = await prepared(scene, f"a booking, killed at {point}")
    scene.kill_at(point)
    await salon.say("request")
    await reckoned(salon, reckon, BookingState.REQUESTED, pushes=0)
    assert scene.was_killed_at(point)


@pytest.mark.parametrize(
    "point",
    [
        "decided.before",
        "decided.after",
        "task.before",
        "task.after",
        "line.accepted",
        "told.before",
        "told.after",
    ],
)
async def test_killed_while_it_is_confirmed(scene: FaultScene, reckon: Reckon, point: str) -> None:
    salon = await requested(scene, f"a booking confirmed, killed at {point}")
    scene.kill_at(point)
    await scene.sim.send(salon.tap())
    await reckoned(salon, reckon, CONFIRMED, pushes=1)
    assert scene.was_killed_at(point)
    assert salon.pushed == [await salon.told(Step.ANSWER)]


async def test_two_tap_at_once_and_each_tap_is_delivered_twice(scene: FaultScene, reckon: Reckon) -> None:
    salon = await requested(scene, "confirm and decline at once, each twice")
    scene.stack.tasks.on_dispatch = lambda _: DispatchPlan(copies=2)
    taps = [salon.tap(0, 0), salon.tap(1, 1)]
    await asyncio.gather(*(scene.sim.send(tap) for tap in taps))
    await asyncio.gather(*(scene.sim.redeliver(tap) for tap in taps))
    await scene.stack.tasks.drained(14)
    decided = (await salon.booking()).state
    assert decided in (CONFIRMED, BookingState.DECLINED)
    await reckoned(salon, reckon, decided, pushes=1)
    assert salon.pushed == [await salon.told(Step.ANSWER)]


async def test_the_customer_cancels_while_staff_confirm(scene: FaultScene, reckon: Reckon) -> None:
    salon = await requested(scene, "cancelled while it is confirmed")
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.sim.send(salon.tap()))
        async with scene.paused_at("decided.before"):
            await salon.say("cancel")
            await salon.until(CANCELLED)
    await reckoned(salon, reckon, CANCELLED, pushes=0, notices=2)


async def test_staff_confirm_while_the_customer_cancels(scene: FaultScene, reckon: Reckon) -> None:
    salon = await requested(scene, "confirmed while it is cancelled", remind_in_s=6)
    async with asyncio.TaskGroup() as group:
        group.create_task(salon.say("cancel"))
        async with scene.paused_at("settle.before"):
            await salon.decide(CONFIRMED)
            await asyncio.sleep(1)
    await reckoned(salon, reckon, CANCELLED, pushes=1, notices=2)


@pytest.mark.parametrize(
    "fault", ["line.before", "line.accepted", "told.before", "told.after", "copies", "late"]
)
async def test_the_reminder_comes_once(scene: FaultScene, reckon: Reckon, fault: str) -> None:
    salon = await requested(scene, f"a reminder, {fault}", remind_in_s=8)
    await salon.decide(CONFIRMED)
    async with asyncio.timeout(10):
        while not (await salon.booking()).told:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    if fault == "copies":
        scene.stack.tasks.on_dispatch = lambda _: DispatchPlan(copies=3)
    elif fault == "late":
        scene.stack.tasks.on_dispatch = lambda _: DispatchPlan(delay_s=2)
    else:
        scene.kill_at(fault)
    await reckoned(salon, reckon, CONFIRMED, pushes=2)
    assert salon.pushed == [await salon.told(Step.ANSWER), await salon.told(Step.REMINDER)]
    assert fault in {"copies", "late"} or scene.was_killed_at(fault)


async def test_no_reminder_after_a_cancel(scene: FaultScene, reckon: Reckon) -> None:
    salon = await requested(scene, "a reminder's task after a cancel", remind_in_s=6)
    await salon.decide(CONFIRMED)
    await salon.say("cancel")
    await reckoned(salon, reckon, CANCELLED, pushes=1, notices=2)
