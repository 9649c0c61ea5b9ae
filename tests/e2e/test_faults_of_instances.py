"""The fault matrix, turn processes and stores: whatever dies, hangs or repeats, nothing is lost, answered
twice, or paid twice.

Real processes of the turn function under functions-framework, real Redis, a real queue; LINE and the model
are stand-ins over sockets that count. The table of all rows is printed at the end of the run.
"""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise, permutations

import pytest

from core.local.task_dispatcher import Attempt, DispatchPlan
from tests.e2e.conftest import Reckon
from tests.support.fault_scene import LEASE_S, FaultScene, Row, Verdict

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Where a turn dies, and how many of its calls are then charged as ambiguous: it can't be known whether the
# model has answered and billed them.
POINTS = {
    "begin.after": 0,
    "slot.granted": 0,
    "claim.before": 0,
    "claim.after": 1,
    "llm.sent": 1,
    "llm.answered": 1,
    "settle.before": 1,
    "settle.after": 0,
    "line.before": 0,
    "line.accepted": 0,
    "delivered.before": 0,
    "delivered.after": 0,
    "finish.before": 0,
    "finish.after": 0,
}
CRASH_S = LEASE_S + 2.0


def slow(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


def certain_calls(scene: FaultScene, row: Row, verdict: Verdict) -> int:
    """Calls that the model answered and that are not charged as ambiguous. (Where the machine is starved, a
    lease may run out in the middle of a call without any fault of ours: then that one is, too.)"""
    return sum(call.outcome == "answered" for call in scene.calls(row)) - verdict.ambiguous


async def until_answered(scene: FaultScene, row: Row) -> float:
    """Seconds from the last message to its answer."""
    sent = row.sent[-1]
    assert await scene.sim.wait_answered([sent.event_id], 10) == []
    return (scene.sim.answers(sent.event_id)[0].at_ms - sent.sent_ms) / 1000


@pytest.mark.parametrize("point", POINTS)
async def test_killed_turn_is_finished_by_another_instance(
    scene: FaultScene, reckon: Reckon, point: str
) -> None:
    row = await scene.row(f"killed at {point}")
    scene.kill_at(point)
    await scene.say(row)
    took_s = await until_answered(scene, row)
    if point.startswith(("delivered", "finish")):
        await scene.say(row)  # its answer was out already: what the crash costs is the next one's
        took_s = await until_answered(scene, row)
    verdict = await scene.verdict(row)
    reckon(row, verdict, f"answered in {took_s:.1f} s")
    assert scene.was_killed_at(point)
    assert certain_calls(scene, row, verdict) <= len(row.sent)
    assert verdict.ambiguous >= POINTS[point]
    assert took_s <= CRASH_S + 0.5, "at most the conversation's lease and two seconds (half a one: the turn)"


async def test_killed_while_pushing_is_not_pushed_twice(scene: FaultScene, reckon: Reckon) -> None:
    row = await scene.row("killed after a push was accepted")
    scene.kill_at("line.accepted")
    await scene.sim.send(scene.message(row, token=False))
    verdict = await scene.verdict(row)
    reckon(row, verdict)
    assert certain_calls(scene, row, verdict) <= 1


@pytest.mark.parametrize(
    "point",
    [
        "llm.sent",
        "settle.after",
        *map(slow, ("begin.after", "claim.before", "claim.after", "llm.answered")),
        *map(slow, ("line.before", "line.accepted", "delivered.after", "finish.before")),
    ],
)
async def test_redis_restarts_empty_while_a_turn_runs(scene: FaultScene, reckon: Reckon, point: str) -> None:
    row = await scene.row(f"Redis restarted empty at {point}")
    async with scene.saying(row, point):
        await scene.stack.redis.restart_empty()
    reckon(row, await scene.verdict(row))


@pytest.mark.parametrize("point", [slow("begin.after"), "llm.sent", slow("settle.after")])
async def test_redis_hangs_while_a_turn_runs(scene: FaultScene, reckon: Reckon, point: str) -> None:
    row = await scene.row(f"Redis hangs 3 s at {point}")
    async with scene.saying(row, point):
        scene.stack.redis.pause()
    try:
        await asyncio.sleep(3)
    finally:
        scene.stack.redis.resume()
    reckon(row, await scene.verdict(row, 20))


@pytest.mark.parametrize(
    ("point", "down_s"),
    [
        ("llm.sent", 2),
        slow("begin.after", 2),
        slow("begin.after", 20),
        slow("llm.sent", 20),
        slow("line.accepted", 20),
    ],
)
async def test_document_store_fails_for_a_while(
    scene: FaultScene, reckon: Reckon, point: str, down_s: float
) -> None:
    row = await scene.row(f"documents down {down_s} s from {point}")
    async with scene.saying(row, point):
        scene.documents_down(True)
    await asyncio.sleep(down_s)
    scene.documents_down(False)
    verdict = await scene.verdict(row, down_s + 20)
    reckon(row, verdict)
    assert certain_calls(scene, row, verdict) <= 1


async def test_task_delivered_to_two_instances_at_once(scene: FaultScene, reckon: Reckon) -> None:
    row = await scene.row("each task to both instances at once")
    scene.stack.tasks.on_dispatch = lambda _: DispatchPlan(copies=2)
    await asyncio.gather(*(scene.say(row, user) for user in "abcd"))
    verdict = await scene.verdict(row)
    reckon(row, verdict)
    assert certain_calls(scene, row, verdict) <= 4


async def test_webhook_redelivered_thrice_and_its_finished_task_again(
    scene: FaultScene, reckon: Reckon
) -> None:
    row = await scene.row("webhook redelivered thrice, finished task again")
    scene.stack.tasks.on_dispatch = lambda _: DispatchPlan(copies=3)
    sent = await scene.say(row)
    await asyncio.gather(*(scene.sim.redeliver(sent) for _ in range(3)))
    await scene.verdict(row)
    await scene.stack.redis.command("FLUSHALL")  # nor does it take Redis to know
    queue = scene.stack.tasks.queue()
    again = [task for task in queue.store.finished if sent.event_id.encode() in task.body]
    for task in again * 2:
        queue.duplicate(task)
    await scene.sim.redeliver(sent)
    await asyncio.sleep(0.5)
    verdict = await scene.verdict(row)
    reckon(row, verdict)
    assert again
    assert certain_calls(scene, row, verdict) <= 1


async def test_events_of_one_customer_in_every_order_of_delivery(scene: FaultScene, reckon: Reckon) -> None:
    row = await scene.row("events in every order of delivery")
    late_s = {
        scene.message(row, user).event_id: 0.15 * rank
        for user, order in zip("abcdef", permutations(range(3)), strict=True)
        for rank in order
    }

    def delayed(attempt: Attempt) -> DispatchPlan:
        wait_s = next((s for event_id, s in late_s.items() if event_id.encode() in attempt.body), 0.0)
        return DispatchPlan(delay_s=wait_s if attempt.number == 1 else 0.0)

    scene.stack.tasks.on_dispatch = delayed
    await scene.sim.send(*row.sent)
    reckon(row, await scene.verdict(row, 20))
    for call in scene.calls(row):
        numbers = [int(line.rpartition(" ")[2]) for line in call.last_words.splitlines() if row.name in line]
        assert numbers == sorted(numbers)


async def test_six_bubbles_within_300_ms(scene: FaultScene, reckon: Reckon) -> None:
    row = await scene.row("six bubbles within 300 ms")
    for _ in range(6):
        await scene.say(row)
        await asyncio.sleep(0.03)
    verdict = await scene.verdict(row)
    reckon(row, verdict)
    assert certain_calls(scene, row, verdict) <= 3


async def test_conversations_do_not_leak_into_each_other(scene: FaultScene, reckon: Reckon) -> None:
    row = await scene.row("two customers, and one in two clinics")
    other = await scene.clinic()
    same = scene.sim.user(row.clinic, "a")
    for said in ("first", "second"):
        messages = [scene.message(row, user, f"secret-{user}-{said}") for user in "ab"]
        messages.append(scene.message(row, "c", f"secret-c-{said}", clinic=other, user_id=same))
        await asyncio.gather(*map(scene.sim.send, messages))
        verdict = await scene.verdict(row)
    reckon(row, verdict)
    for call in scene.calls(row):
        everything = str(call.body["messages"])
        assert sum(f"secret-{who}" in everything for who in "abc") == 1
        assert "second" not in call.last_words or "first" in everything


@pytest.mark.parametrize("minutes", [5, slow(-5)])
async def test_one_instance_s_clock_is_five_minutes_off(
    scene: FaultScene, reckon: Reckon, minutes: int
) -> None:
    row = await scene.row(f"one clock {minutes:+} minutes off")
    await scene.restart(0, CLOCK_OFFSET_MS=str(minutes * 60_000))
    await asyncio.gather(*(scene.say(row, user) for user in "abcd"))
    verdict = await scene.verdict(row)  # the clock stays off: what follows runs with it, too
    reckon(row, verdict)
    assert {turn["delivered_how"] for turn in verdict.turns} == {"reply"}


async def test_sigterm_while_turns_run(scene: FaultScene, reckon: Reckon) -> None:
    row = await scene.row("SIGTERM while turns run")
    await asyncio.gather(*(scene.say(row, user) for user in "abcdef"))
    scene.revive = False  # or a new process would be taken for the old one
    began = time.monotonic()
    status = await scene.stack.terminate_turn(0)
    took_s = time.monotonic() - began
    scene.revive = True
    reckon(row, await scene.verdict(row), f"ended in {took_s:.1f} s")
    assert status == 0
    assert took_s < 10


def to_another(scene: FaultScene, row: Row) -> None:
    """The row's first message goes to instance 1, everything else, and that one when tried again, to 0."""
    first, urls = row.sent[0].event_id.encode(), scene.stack.turn_urls
    scene.stack.tasks.on_dispatch = lambda attempt: DispatchPlan(
        target=urls[1] if first in attempt.body and attempt.number == 1 else urls[0]
    )


def out_of_order(scene: FaultScene, row: Row) -> list[int]:
    """By how much messages came before an earlier one, in ms."""
    at_ms = [scene.sim.answers(sent.event_id)[0].at_ms for sent in row.sent]
    return [one - other for one, other in pairwise(at_ms) if one > other]


@pytest.mark.parametrize("then", ["dies", "wakes up"])
async def test_later_messages_wait_for_one_that_an_instance_has_taken_and_not_begun(
    scene: FaultScene, reckon: Reckon, then: str
) -> None:
    row = await scene.row(f"an instance that has not begun {then}")
    scene.message(row)
    to_another(scene, row)
    scene.stack.pause_turn(1)
    await scene.sim.send(row.sent[0])
    await scene.say(row)
    await asyncio.sleep(0.3)
    if then == "dies":
        await scene.stack.kill_turn(1)
    else:
        scene.stack.resume_turn(1)
    await scene.say(row)
    await until_answered(scene, row)
    reckon(row, await scene.verdict(row))
    assert out_of_order(scene, row) == []


async def test_redis_restarted_empty_while_another_instance_answers_the_earlier_message(
    scene: FaultScene, reckon: Reckon
) -> None:
    row = await scene.row("Redis restarted empty, the next message elsewhere")
    scene.message(row)
    to_another(scene, row)
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.sim.send(row.sent[0]))
        async with scene.paused_at("llm.answered"):
            await scene.stack.redis.restart_empty()
            await scene.say(row)
            await asyncio.sleep(0.2)
    reckon(row, await scene.verdict(row))
    assert out_of_order(scene, row) == []
