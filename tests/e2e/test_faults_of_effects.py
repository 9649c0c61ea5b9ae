"""The fault matrix, what a turn causes besides its reply: whatever dies or is said twice, staff are told
once, and what they tap counts once.

Real processes of the turn function, as for the other rows of the matrix.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from core.adapters.system_clock import SystemClock
from core.domain.clinic import Handoff
from core.domain.notice import Notice, NoticeState
from core.local.line_api import Delivery, LineCall, LineTrouble
from core.local.line_events import line_id
from core.local.simulator import Sent
from core.local.task_dispatcher import Attempt, DispatchPlan
from core.usecases.desk.connection import DeskConnection
from core.usecases.desk.records import DeskRecords
from tests.e2e.conftest import Reckon
from tests.support.fault_scene import FaultScene, Row

pytestmark = pytest.mark.asyncio(loop_scope="module")

POINTS = (
    "settle.before",
    "settle.after",
    "task.before",
    "task.after",
    "line.accepted",
    "delivered.after",
    "desk.before",
    "desk.accepted",
    "noticed.before",
    "noticed.after",
)
HANDOFF = Handoff(("staff",))


class Staff:
    """A row's clinic with a desk, and two who tap in it."""

    def __init__(self, scene: FaultScene, row: Row) -> None:
        self.scene = scene
        self.row = row
        self.group = line_id("C", row.clinic.org_id, "staff")
        self.people = [line_id("U", row.clinic.org_id, name) for name in ("nok", "mai")]
        self.records = DeskRecords(scene.documents, SystemClock())
        channel_id = row.clinic.channel.channel_id
        scene.stack.line.join(channel_id, self.group, dict(zip(self.people, ("นก", "ใหม่"), strict=True)))

    async def connect(self) -> None:
        drawn = await DeskConnection(self.scene.documents, SystemClock()).new_code(self.row.clinic.org_id)
        message = self.scene.sim.message(
            self.row.clinic, self.people[0], "text", text=drawn.code, chat_id=self.group
        )
        await self.scene.sim.send(message)
        async with asyncio.timeout(10):
            while not (await self.records.desk(self.row.clinic.org_id)).is_connected:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await self.scene.stack.tasks.drained(10)

    def tap(self, action: int, by: int = 0) -> Sent:
        """`action`: which button of the notice."""
        data = self.notices[0].messages[0]["template"]["actions"][action]["data"]
        return self.scene.sim.event(
            self.row.clinic, self.people[by], "postback", chat_id=self.group, postback={"data": data}
        )

    @property
    def notices(self) -> list[Delivery]:
        return [d for d in self._to_group if d.how is LineCall.PUSH]

    @property
    def told(self) -> list[str]:
        return [text for d in self._to_group if d.how is LineCall.REPLY for text in d.texts]

    @property
    def _to_group(self) -> Sequence[Delivery]:
        return [d for d in self.scene.stack.line.deliveries if d.to == self.group]

    async def notice(self) -> Notice:
        (turn,) = [t for t in await self.scene.turns(self.row.clinic.org_id) if t["effects"]]
        found = await self.records.notice(turn["effects"][0]["id"])
        assert found is not None
        return found


async def prepared(scene: FaultScene, name: str) -> tuple[Row, Staff]:
    row = await scene.row(name)
    row.clinic = await scene.clinic(handoff=HANDOFF)
    staff = Staff(scene, row)
    await staff.connect()
    return row, staff


async def reckoned(row: Row, staff: Staff, reckon: Reckon, timeout_s: float = 12.0) -> None:
    """The customer was answered once, the desk was told once, and the notice knows it."""
    verdict = await staff.scene.verdict(row, timeout_s)
    notice = await staff.notice()
    reckon(row, verdict, f"{len(staff.notices)} notice, {notice.state.value}")
    assert [d.to for d in staff.notices] == [staff.group]
    assert notice.state is NoticeState.SENT


@pytest.mark.parametrize("point", POINTS)
async def test_killed_on_the_way_to_the_desk_staff_are_told_once(
    scene: FaultScene, reckon: Reckon, point: str
) -> None:
    row, staff = await prepared(scene, f"a notice, killed at {point}")
    scene.kill_at(point)
    await scene.say(row, text="staff please")
    await reckoned(row, staff, reckon)
    assert scene.was_killed_at(point)


async def test_effects_task_comes_twice_at_once_and_late(scene: FaultScene, reckon: Reckon) -> None:
    row, staff = await prepared(scene, "a notice's task twice at once, and late")
    scene.stack.tasks.on_dispatch = lambda _: DispatchPlan(copies=3)
    await scene.say(row, text="staff please")
    await scene.verdict(row)
    queue = scene.stack.tasks.queue()
    late = [task for task in queue.store.finished if b'"kind":"notice"' in task.body]
    await scene.stack.redis.command("FLUSHALL")
    for task in late * 2:
        queue.duplicate(task)
    await reckoned(row, staff, reckon)
    assert late


async def test_effects_task_is_late(scene: FaultScene, reckon: Reckon) -> None:
    row, staff = await prepared(scene, "a notice's task 3 s late")

    def late(attempt: Attempt) -> DispatchPlan:
        return DispatchPlan(delay_s=3.0 if b'"kind":"notice"' in attempt.body else 0.0)

    scene.stack.tasks.on_dispatch = late
    await scene.say(row, text="staff please")
    await reckoned(row, staff, reckon)


@pytest.mark.parametrize(
    "trouble", [LineTrouble.ERROR_BEFORE, LineTrouble.ERROR_AFTER, LineTrouble.RATE_LIMIT]
)
async def test_line_fails_at_the_notice(scene: FaultScene, reckon: Reckon, trouble: LineTrouble) -> None:
    row, staff = await prepared(scene, f"a notice, LINE: {trouble}")
    scene.stack.line.faults.add(trouble, times=3, when=lambda seen: seen.body.get("to") == staff.group)
    await scene.say(row, text="staff please")
    await reckoned(row, staff, reckon, 30)


async def test_month_is_used_up(scene: FaultScene, reckon: Reckon) -> None:
    row, staff = await prepared(scene, "a notice, LINE's month used up")
    scene.stack.line.faults.add(
        LineTrouble.MONTHLY_LIMIT, times=1, when=lambda seen: seen.body.get("to") == staff.group
    )
    await scene.say(row, text="staff please")
    verdict = await scene.verdict(row, 4)
    kept = await staff.notice()
    reckon(row, verdict, f"{len(staff.notices)} notices, {kept.state.value} ({kept.reason})")
    assert (staff.notices, kept.state, kept.reason) == ([], NoticeState.KEPT, "quota")
    scene.stack.tasks.queue().store.purge(0)


async def test_redis_is_emptied_before_the_notice(scene: FaultScene, reckon: Reckon) -> None:
    row, staff = await prepared(scene, "a notice, Redis restarted empty")
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.say(row, text="staff please"))
        async with scene.paused_at("desk.before"):
            await scene.stack.redis.restart_empty()
    await reckoned(row, staff, reckon)


async def test_two_tap_at_once_and_each_tap_is_delivered_twice(scene: FaultScene, reckon: Reckon) -> None:
    row, staff = await prepared(scene, "two tap at once, each twice")
    await scene.say(row, text="staff please")
    await scene.stack.tasks.drained(10)
    scene.stack.tasks.on_dispatch = lambda _: DispatchPlan(copies=2)
    taps = [staff.tap(0, by) for by in (0, 1)]
    await asyncio.gather(*(scene.sim.send(tap) for tap in taps))
    await asyncio.gather(*(scene.sim.redeliver(tap) for tap in taps))
    await reckoned(row, staff, reckon)
    first = (await staff.notice()).taps["take"].by
    assert len(staff.told) == 3  # the code, and each of the two
    assert all(first in told for told in staff.told[1:])


@pytest.mark.parametrize("point", ["settle.before", "settle.after", "line.accepted"])
async def test_killed_while_a_tap_is_done(scene: FaultScene, reckon: Reckon, point: str) -> None:
    row, staff = await prepared(scene, f"a tap, killed at {point}")
    await scene.say(row, text="staff please")
    await scene.stack.tasks.drained(10)
    scene.kill_at(point)
    await scene.sim.send(staff.tap(0))
    await reckoned(row, staff, reckon)
    assert scene.was_killed_at(point)
    assert len(staff.told) == 2
    assert (await staff.notice()).taps["take"].by == "นก"
