"""A notice's task, from the queue to LINE: one push to the desk, or the reason why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from core.adapters.system_clock import SystemClock
from core.bootstrap import shared
from core.domain.desk import Desk, tap_data
from core.domain.notice import ACTIONS, Action, Notice, NoticeKind, NoticeState
from core.domain.settings import Settings, required_by
from core.domain.task import EffectTask, decode_task
from core.local.line_api import Delivery, LineCall, LineTrouble
from core.local.line_events import line_id
from core.local.task_store import StoredTask
from core.ports.clock import Clock
from core.ports.documents import Create
from core.usecases.desk.records import DeskRecords
from core.usecases.journal.notices import notice_key
from core.usecases.outbox.outbox import Outbox
from tests.support.fault_scene import FaultScene, Row
from tests.support.turn_scene import serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("notices")) as scene, serving(scene):
        yield scene


class Case:
    """A clinic with a desk, and a customer who asked for people."""

    def __init__(self, scene: FaultScene, row: Row, clock: Clock) -> None:
        self.scene = scene
        self.row = row
        self.clinic = row.clinic
        self.org_id = row.clinic.org_id
        self.desk = line_id("C", self.org_id, "desk")
        self.customer = scene.sim.user(row.clinic, "nok")
        self.records = DeskRecords(scene.documents, clock)
        self.clock = clock
        self.hops = 100
        self.queue = shared.tasks(Settings.read(scene.stack.settings_env, required_by("turn")))

    async def connect(self, chat_id: str | None = None) -> None:
        desk = Desk(self.org_id, chat_id or self.desk, "group", 1, "E0")
        await self.records.change_desk(self.org_id, lambda _: desk)

    async def written(self, kind: NoticeKind = NoticeKind.HANDOFF, **fields: Any) -> Notice:
        now_ms = self.clock.now_ms()
        notice = Notice(f"{self.org_id}-t1-{kind}", self.org_id, kind, now_ms, chat_id=self.customer)
        notice = replace(notice, user_id=self.customer, detail="keyword", **fields)
        await self.scene.documents.commit([Create(notice_key(notice.id), notice.encode())])
        return notice

    async def enqueue(self, task: EffectTask, times: int = 1) -> None:
        """As often as that, each under another name, until nothing is due."""
        for _ in range(times):
            self.hops += 10
            await self.queue.create(replace(task, hop=self.hops))
        await self.done()

    async def done(self) -> None:
        with suppress(TimeoutError):
            await self.scene.stack.tasks.drained(3)

    async def state(self, notice: Notice) -> Notice:
        found = await self.records.notice(notice.id)
        assert found is not None
        return found

    async def ended(self, notice: Notice) -> Notice:
        async with asyncio.timeout(12):
            while (found := await self.state(notice)).state is NoticeState.PENDING:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return found

    @property
    def pushed(self) -> list[Delivery]:
        channel_id = self.clinic.channel.channel_id
        return [d for d in self.scene.stack.line.deliveries if d.channel_id == channel_id]


def effect_of(stored: StoredTask) -> EffectTask:
    task = decode_task(stored.body)
    assert isinstance(task, EffectTask)
    return task


@pytest_asyncio.fixture(loop_scope="module")
async def case(scene: FaultScene, request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    case = Case(scene, await scene.row(request.node.name), SystemClock())
    yield case
    scene.stack.tasks.queue().store.purge(0)
    await case.queue.close()
    assert not scene.stack.line.broken_rules


async def test_a_notice_is_one_push_with_the_name_the_words_and_the_buttons(case: Case) -> None:
    await case.connect()
    case.scene.stack.line.befriend(case.clinic.channel.channel_id, case.customer, "นก 🌸")
    notice = await case.written()
    await case.enqueue(notice.task)
    (push,) = case.pushed
    assert (push.how, push.to) == (LineCall.PUSH, case.desk)
    (message,) = push.messages
    template = message["template"]
    assert (message["type"], template["type"]) == ("template", "buttons")
    assert all("นก 🌸" in text for text in (template["text"], message["altText"]))
    assert [action["data"] for action in template["actions"]] == [
        tap_data(Action.TAKE, notice.id),
        tap_data(Action.RESUME, notice.id),
    ]
    sent = await case.state(notice)
    assert (sent.state, sent.desk_chat_id, sent.is_open) == (NoticeState.SENT, case.desk, True)


async def test_twice_at_once_and_late_it_is_one_push(case: Case) -> None:
    await case.connect()
    notice = await case.written()
    await case.enqueue(notice.task, times=4)
    await case.enqueue(notice.task.successor(0))
    assert len(case.pushed) == 1


@pytest.mark.parametrize("kind", list(NoticeKind))
async def test_where_nothing_is_to_be_tapped_it_is_a_text_and_done_when_it_is_sent(
    case: Case, kind: NoticeKind
) -> None:
    await case.connect()
    notice = await case.written(kind)
    await case.enqueue(notice.task)
    (push,) = case.pushed
    has_buttons = bool(ACTIONS.get(kind))
    assert (push.messages[0]["type"] == "template") is has_buttons
    assert (await case.state(notice)).is_open is has_buttons


async def test_a_cancelled_bookings_notice_has_nothing_to_tap(case: Case) -> None:
    await case.connect()
    notice = await case.written(NoticeKind.BOOKING, has_buttons=False)
    await case.enqueue(notice.task)
    assert [message["type"] for message in case.pushed[0].messages] == ["text"]


async def test_without_a_desk_it_is_kept(case: Case) -> None:
    notice = await case.written()
    await case.enqueue(notice.task)
    kept = await case.state(notice)
    assert (case.pushed, kept.state, kept.reason) == ([], NoticeState.KEPT, "no_desk")
    await case.connect()
    await case.enqueue(notice.task.successor(0))
    assert ([push.to for push in case.pushed], (await case.state(notice)).state) == ([case.desk], "sent")


@pytest.mark.parametrize("trouble", list(LineTrouble))
async def test_whatever_line_does_it_is_one_push_or_a_reason(case: Case, trouble: LineTrouble) -> None:
    """Once, so that the next try succeeds; but the month's end waits, and comes back by itself."""
    await case.connect()
    notice = await case.written()
    case.scene.stack.line.faults.add(trouble, times=1, when=lambda seen: seen.call is LineCall.PUSH)
    await case.enqueue(notice.task)
    state = await case.ended(notice)
    if trouble is LineTrouble.MONTHLY_LIMIT:
        assert (case.pushed, state.state, state.reason) == ([], NoticeState.KEPT, "quota")
        (waiting,) = case.scene.stack.tasks.queue().store.tasks.values()
        assert effect_of(waiting).due_ms - case.clock.now_ms() > 250_000
        await case.enqueue(notice.task)
    assert len(case.pushed) == 1
    assert (await case.state(notice)).state is NoticeState.SENT


async def test_a_desk_that_the_bot_was_taken_out_of_gets_nothing_and_the_notice_says_why(case: Case) -> None:
    await case.connect()
    case.scene.stack.line.leave(case.clinic.channel.channel_id, case.desk)
    notice = await case.written()
    await case.enqueue(notice.task)
    state = await case.state(notice)
    assert (case.pushed, state.state, state.reason) == ([], NoticeState.FAILED, "rejected")


async def test_after_a_move_of_the_desk_nothing_goes_to_the_chat_that_was_it(case: Case) -> None:
    """Also if its first try was cut off before LINE had it."""
    await case.connect()
    notice = await case.written(desk_chat_id=case.desk, name="นก")
    elsewhere = line_id("C", case.org_id, "new desk")
    await case.connect(elsewhere)
    await case.enqueue(notice.task)
    assert [push.to for push in case.pushed] == [elsewhere]


async def test_another_clinics_task_does_not_send_a_notice(case: Case) -> None:
    await case.connect()
    notice = await case.written()
    await case.enqueue(replace(notice.task, org_id="another"))
    assert (case.pushed, (await case.state(notice)).state) == ([], NoticeState.PENDING)


async def test_what_is_due_later_waits_in_the_queue_a_month_at_most(case: Case) -> None:
    await case.connect()
    notice = await case.written()
    far_ms = case.clock.now_ms() + 60 * 86_400_000
    outbox = Outbox(case.queue, case.clock)
    await outbox.enqueue(replace(notice.task, due_ms=far_ms))
    (waiting,) = case.scene.stack.tasks.queue().store.tasks.values()
    await case.queue.run(waiting.name.rsplit("/", 1)[1])
    await asyncio.sleep(0.3)
    (successor,) = case.scene.stack.tasks.queue().store.tasks.values()
    assert effect_of(successor) == replace(notice.task, due_ms=far_ms, hop=1)
    assert not case.pushed
