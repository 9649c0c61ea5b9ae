"""A booking's customer is told and reminded by one push each, whoever decides, whatever comes twice."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio

from core.adapters.system_clock import SystemClock
from core.bootstrap import shared
from core.domain.booking import CUSTOMER, STAFF, Booking, BookingState, Step
from core.domain.booking_words import for_customer
from core.domain.clinic import Clinic
from core.domain.settings import Settings, required_by
from core.domain.task import EffectKind, EffectTask, decode_task
from core.local.line_api import Delivery, LineCall, LineTrouble
from core.ports.documents import Create
from core.usecases.bookings.decide import DecideBooking, Decision, tasks_of
from core.usecases.bookings.records import BookingRecords, booking_key
from core.usecases.operate.stored_clinics import find_clinic
from core.usecases.outbox.outbox import Outbox
from tests.support.fault_scene import FaultScene, Row
from tests.support.turn_scene import serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")
CONFIRMED, DECLINED, CANCELLED = BookingState.CONFIRMED, BookingState.DECLINED, BookingState.CANCELLED


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("bookings")) as scene, serving(scene):
        yield scene


class Case:
    """A clinic, and a customer who has asked for an appointment."""

    def __init__(self, scene: FaultScene, row: Row, clinic: Clinic) -> None:
        self.scene = scene
        self.clinic = clinic
        self.channel_id = row.clinic.channel.channel_id
        self.customer = scene.sim.user(row.clinic, "nok")
        self.clock = SystemClock()
        self.records = BookingRecords(scene.documents, self.clock)
        self.queue = shared.tasks(Settings.read(scene.stack.settings_env, required_by("turn")))
        self.outbox = Outbox(self.queue, self.clock)
        self.hops = 100

    async def written(self, *, hours: float = 30 * 24, **fields: Any) -> Booking:
        """It begins in so many hours."""
        starts = datetime.now(ZoneInfo("Asia/Bangkok")) + timedelta(hours=hours)
        booking = Booking(
            id=f"{self.clinic.org_id}-t1",
            org_id=self.clinic.org_id,
            user_id=self.customer,
            chat_id=self.customer,
            service="ขูดหินปูน",
            date=f"{starts:%Y-%m-%d}",
            time=f"{starts:%H:%M}",
            timezone="Asia/Bangkok",
            created_ms=self.clock.now_ms(),
        )
        booking = replace(booking, **fields)
        await self.scene.documents.commit([Create(booking_key(booking.id), booking.encode())])
        return booking

    async def decide(self, state: BookingState, decision_id: str = "d1", by: str = STAFF) -> Decision:
        decide = DecideBooking(self.scene.documents, self.outbox, self.clock)
        decision = await decide(self.clinic, f"{self.clinic.org_id}-t1", state, by, decision_id)
        await self.done()
        return decision

    async def enqueue(self, task: EffectTask, times: int = 1) -> None:
        for _ in range(times):
            self.hops += 10
            await self.queue.create(replace(task, hop=self.hops))
        await self.done()

    async def done(self) -> None:
        """Until nothing is due: a reminder may wait in the queue for days."""
        async with asyncio.timeout(10):
            while any(  # noqa: ASYNC110  a server works
                task.schedule_s <= self.clock.now_ms() / 1000 + 5 for task in self.waiting
            ):
                await asyncio.sleep(0.02)

    @property
    def waiting(self) -> list[Any]:
        return list(self.scene.stack.tasks.queue().store.tasks.values())

    async def booking(self) -> Booking:
        return await self.records.get(f"{self.clinic.org_id}-t1")

    @property
    def pushed(self) -> list[Delivery]:
        return [d for d in self.scene.stack.line.deliveries if d.channel_id == self.channel_id]

    @property
    def texts(self) -> list[str]:
        return [text for push in self.pushed for text in push.texts]


@pytest_asyncio.fixture(loop_scope="module")
async def case(scene: FaultScene, request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    row = await scene.row(request.node.name)
    case = Case(scene, row, await find_clinic(scene.documents, row.clinic.org_id))
    yield case
    scene.stack.tasks.queue().store.purge(0)
    await case.queue.close()
    assert not scene.stack.line.broken_rules


def reminder(booking: Booking) -> EffectTask:
    return EffectTask(EffectKind.BOOKING_REMINDER, booking.org_id, booking.id)


def answer(booking: Booking) -> EffectTask:
    return EffectTask(EffectKind.BOOKING_ANSWER, booking.org_id, booking.id)


@pytest.mark.parametrize("state", [CONFIRMED, DECLINED])
async def test_who_decides_first_wins_and_the_customer_is_told_once(case: Case, state: BookingState) -> None:
    await case.written()
    other = DECLINED if state is CONFIRMED else CONFIRMED
    first = await case.decide(state, "d1", "หมอนุ่น")
    again = await case.decide(state, "d1")
    late = [await case.decide(state, "d2"), await case.decide(other, "d3")]
    assert (first.is_ours, again.is_ours, [d.is_ours for d in late]) == (True, True, [False, False])
    assert {d.booking.decided_by for d in (first, again, *late)} == {"หมอนุ่น"}
    booking = await case.booking()
    assert (booking.state, booking.told["answer"]) == (state, "sent")
    assert [(push.how, push.to) for push in case.pushed] == [(LineCall.PUSH, case.customer)]
    assert case.texts == [for_customer(case.clinic, booking, Step.ANSWER)]


async def test_two_who_decide_at_once_make_one_decision_and_one_push(case: Case) -> None:
    await case.written()
    decide = DecideBooking(case.scene.documents, case.outbox, case.clock)
    booking_id = f"{case.clinic.org_id}-t1"
    wanted = [(CONFIRMED, "a"), (DECLINED, "b"), (CONFIRMED, "c"), (DECLINED, "d")]
    made = await asyncio.gather(*(decide(case.clinic, booking_id, s, i, i) for s, i in wanted))
    await case.done()
    assert sum(decision.is_ours for decision in made) == 1
    assert len({decision.booking.decided_by for decision in made}) == 1
    assert case.texts == [for_customer(case.clinic, await case.booking(), Step.ANSWER)]


async def test_a_confirmed_booking_waits_for_its_reminder_in_the_queue(case: Case) -> None:
    await case.written()
    booking = (await case.decide(CONFIRMED)).booking
    assert booking.remind_ms == booking.starts_ms - 24 * 3_600_000
    (waiting,) = case.waiting
    task = decode_task(waiting.body)
    assert task == replace(reminder(booking), due_ms=booking.remind_ms)
    due = datetime.fromtimestamp(waiting.schedule_s, UTC) - datetime.now(UTC)
    assert timedelta(days=27.9) < due < timedelta(days=28.1)  # at most so far ahead; then it goes on waiting


async def test_the_reminder_is_one_push_also_if_it_comes_twice_and_at_once(case: Case) -> None:
    booking = await case.written(hours=20, state=CONFIRMED, remind_ms=1, told={"answer": "sent"})
    await asyncio.gather(*(case.enqueue(reminder(booking), times=2) for _ in range(2)))
    assert case.texts == [for_customer(case.clinic, booking, Step.REMINDER)]
    assert (await case.booking()).told == {"answer": "sent", "reminder": "sent"}


@pytest.mark.parametrize(
    ("hours", "fields"),
    [
        (20, {"state": CANCELLED}),
        (20, {"state": DECLINED}),
        (20, {"state": BookingState.REQUESTED}),
        (-1, {"state": CONFIRMED, "remind_ms": 1}),  # it has begun
        (20, {"state": CONFIRMED}),  # none was due when it was confirmed
        (20, {"state": CONFIRMED, "remind_ms": 1, "told": {"reminder": "sent"}}),
    ],
)
async def test_no_reminder_where_none_is_due(case: Case, hours: float, fields: dict[str, Any]) -> None:
    booking = await case.written(hours=hours, **fields)
    await case.enqueue(reminder(booking), times=2)
    assert not case.pushed


async def test_a_cancelled_booking_is_told_nothing_more(case: Case) -> None:
    """The customer cancels while the desk confirms: whichever is first, no reminder is left."""
    await case.written()
    case.scene.stack.tasks.pause()
    with suppress(TimeoutError):
        decide = DecideBooking(case.scene.documents, case.outbox, case.clock)
        confirmed = (await decide(case.clinic, f"{case.clinic.org_id}-t1", CONFIRMED, STAFF, "d1")).booking
    await decide(case.clinic, confirmed.id, CANCELLED, CUSTOMER, "e1")
    late = await decide(case.clinic, confirmed.id, CONFIRMED, STAFF, "d2")
    assert (late.is_ours, late.booking.state) == (False, CANCELLED)
    case.scene.stack.tasks.resume()
    await case.done()
    await case.enqueue(reminder(confirmed))
    assert not case.pushed


async def test_what_died_between_decision_and_tasks_is_made_up_for_by_whoever_comes_again(case: Case) -> None:
    booking = (await case.written()).decided(CONFIRMED, STAFF, case.clock.now_ms(), 24)
    await case.records.change(booking.id, lambda _: replace(booking, decision_id="d1"))
    assert not case.waiting
    again = await case.decide(CONFIRMED, "d1")
    assert again.is_ours
    assert len(case.texts) == 1
    assert [decode_task(task.body) for task in case.waiting] == tasks_of(await case.booking(), 0)


@pytest.mark.parametrize("trouble", list(LineTrouble))
async def test_whatever_line_does_the_customer_gets_one_push(case: Case, trouble: LineTrouble) -> None:
    """Once, so that the next try succeeds; the month's end is waited for until the appointment begins."""
    booking = await case.written(state=CONFIRMED)
    case.scene.stack.line.faults.add(trouble, times=1, when=lambda seen: seen.call is LineCall.PUSH)
    await case.enqueue(answer(booking))
    if trouble is LineTrouble.MONTHLY_LIMIT:
        assert not case.pushed
        (waiting,) = case.waiting
        assert waiting.schedule_s - case.clock.now_ms() / 1000 > 3_000
        await case.enqueue(answer(booking))
    async with asyncio.timeout(15):
        while not (await case.booking()).told:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert len(case.pushed) == 1
    assert (await case.booking()).told == {"answer": "sent"}


async def test_another_clinics_task_tells_nobody(case: Case) -> None:
    booking = await case.written(state=CONFIRMED)
    await case.enqueue(replace(answer(booking), org_id="another"))
    await case.enqueue(replace(answer(booking), id="unknown"))
    assert (case.pushed, (await case.booking()).told) == ([], {})


async def command(case: Case, *arguments: str) -> tuple[int, str]:
    run = "import sys; from core.ops.cli import main; sys.argv[0] = 'fairlane'; main()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", run, "bookings", *arguments),
        env={**os.environ, **case.scene.stack.settings_env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, (out or err).decode()


async def test_the_commands_decide_once_list_show_and_export(case: Case) -> None:
    booking = await case.written(name="นก", phone="081")
    status, shown = await command(case, "confirm", booking.id, "--json")
    assert (status, json.loads(shown)["state"]) == (0, "confirmed")
    assert (await command(case, "confirm", booking.id))[0] == 0
    assert (await command(case, "decline", booking.id))[0] == 1
    await case.done()
    assert case.texts == [for_customer(case.clinic, await case.booking(), Step.ANSWER)]
    status, listed = await command(case, "list", "--org", case.clinic.org_id, "--json")
    wanted = {"org_id", "user_id", "service", "date", "time", "name", "phone", "note", "state", "id"}
    (row,) = json.loads(listed)
    assert wanted <= set(row)
    assert (row["id"], row["state"]) == (booking.id, "confirmed")
    assert json.loads((await command(case, "show", booking.id, "--json"))[1]) == row
    status, exported = await command(case, "export", case.clinic.org_id)
    assert exported.startswith("BEGIN:VCALENDAR\r\n")
    assert f"UID:{case.clinic.org_id}-{booking.id}@fairlane" in exported.replace("\r\n ", "")
    assert (await command(case, "cancel", booking.id))[0] == 0
    assert "BEGIN:VEVENT" not in (await command(case, "export", case.clinic.org_id))[1]
    for unknown in (("show", "nobody"), ("confirm", "nobody"), ("list", "--org", "nobody"), ("export", "x")):
        assert (await command(case, *unknown))[0] == 1
    assert len(case.pushed) == 1
