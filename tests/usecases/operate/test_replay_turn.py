"""Replays against both document stores and a queue that keeps its tasks (nothing is dispatched)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from core.adapters.cloudtasks_tasks import CloudTasksQueue
from core.domain.errors import TasksUnavailableError
from core.domain.event import EventKind
from core.domain.task import TurnTask
from core.domain.turn import CLAIMS, FORGOTTEN, TurnRecord, TurnState, claim
from core.local.cloud_tasks import CloudTasks
from core.ports.documents import Create, DocumentStore, Key, Merge
from core.usecases.operate.replay_turn import STUCK_MS, Outcome, ReplayTurn
from tests.support.clock import FakeClock
from tests.support.turn_samples import sample, store, stored

QUEUE = "projects/p/locations/asia-southeast1/queues/turns"
TURN_URL = "http://127.0.0.1:9"


class Replays:
    def __init__(self, documents: DocumentStore, server: CloudTasks, clock: FakeClock) -> None:
        self.documents = documents
        self.server = server
        self.clock = clock
        self.tasks = CloudTasksQueue(QUEUE, TURN_URL, emulator_host=server.address)
        self.replay = ReplayTurn(documents, self.tasks, clock)

    @property
    def enqueued(self) -> list[TurnTask]:
        return [TurnTask.decode(task.body) for task in self.server.queue().store.tasks.values()]

    async def claimed(self, event_id: str) -> str | None:
        (document,) = await self.documents.get_many([Key(CLAIMS, event_id)])
        return str(document.data["turn_id"]) if document else None

    async def change(self, turn: TurnRecord) -> None:
        await self.documents.commit([Merge(Key("turns", turn.id), turn.encode())])


@pytest.fixture
async def replays(documents: DocumentStore, clock: FakeClock) -> AsyncIterator[Replays]:
    async with CloudTasks() as server:
        server.create_queue(QUEUE)
        server.pause()
        clock.advance(3600)
        replays = Replays(documents, server, clock)
        yield replays
        await replays.tasks.close()


async def test_failed_turn_is_answered_in_a_new_turn_by_push(replays: Replays) -> None:
    await store(replays.documents, sample("t1"))
    replay = await replays.replay("t1")
    assert (replay.outcome, replay.event_id, replay.by) == (Outcome.NEW_TURN, "t1-r1", "t1-r1")
    (task,) = replays.enqueued
    event = task.event
    assert (event.event_id, event.kind, event.text) == ("t1-r1", "text", "words of t1")
    assert (event.arrived_ms, event.reply_token, event.message_id) == (replays.clock.now_ms(), None, "m1")
    assert task.trace == "a" * 32
    assert await replays.claimed("t1-r1") is None
    assert (await stored(replays.documents, "t1")).replayed_as == "t1-r1"


async def test_refused_reply_is_claimed_for_its_own_turn_and_goes_by_push(replays: Replays) -> None:
    turn = sample("t1", failure="undeliverable: quota", reply="the paid answer", delivering="reply")
    await store(replays.documents, turn)
    replay = await replays.replay("t1")
    assert (replay.outcome, replay.by) == (Outcome.FINISHING, "t1")
    again = await stored(replays.documents, "t1")
    assert (again.state, again.reply, again.failure) == (TurnState.ANSWERED, "the paid answer", None)
    assert (again.delivering, again.reply_token) == (None, None)
    assert await replays.claimed("t1-r1") == "t1"


async def test_replaying_twice_enqueues_once(replays: Replays) -> None:
    await store(replays.documents, sample("t1"), sample("t2", failure="undeliverable: quota"))
    for turn_id in ("t1", "t2"):
        await replays.replay(turn_id)
        second = await replays.replay(turn_id)
        assert (second.outcome, second.event_id) == (Outcome.UNDER_WAY, f"{turn_id}-r1")
    assert sorted(task.event.event_id for task in replays.enqueued) == ["t1-r1", "t2-r1"]


@pytest.mark.parametrize("failure", ["patience", "undeliverable: quota"])
async def test_many_operators_at_once_enqueue_once(replays: Replays, failure: str) -> None:
    await store(replays.documents, sample("t1", failure=failure))
    outcomes = await asyncio.gather(*(replays.replay("t1") for _ in range(6)))
    assert sum(o.outcome in {Outcome.NEW_TURN, Outcome.FINISHING} for o in outcomes) == 1
    assert [task.event.event_id for task in replays.enqueued] == ["t1-r1"]


@pytest.mark.parametrize("failure", ["patience", "undeliverable: quota"])
async def test_replay_that_did_not_reach_the_queue_is_enqueued_by_the_next(
    replays: Replays, failure: str
) -> None:
    await store(replays.documents, sample("t1", failure=failure))
    nowhere = CloudTasksQueue(QUEUE, TURN_URL, emulator_host="127.0.0.1:9")
    with pytest.raises(TasksUnavailableError):
        await ReplayTurn(replays.documents, nowhere, replays.clock)("t1")
    await nowhere.close()
    assert replays.enqueued == []
    assert (await replays.replay("t1")).outcome is Outcome.UNDER_WAY
    assert [task.event.event_id for task in replays.enqueued] == ["t1-r1"]


async def test_answered_turn_is_never_answered_again(replays: Replays) -> None:
    await store(replays.documents, sample("t1", state=TurnState.DELIVERED, failure=None))
    replay = await replays.replay("t1")
    assert (replay.outcome, replay.by) == (Outcome.ANSWERED, "t1")
    assert replays.enqueued == []


async def test_turn_whose_replay_was_answered_is_not_answered_again(replays: Replays) -> None:
    answered = sample("t1-r1", state=TurnState.DELIVERED, failure=None)
    await store(replays.documents, sample("t1", replayed_as="t1-r1"), answered)
    replay = await replays.replay("t1")
    assert (replay.outcome, replay.by) == (Outcome.ANSWERED, "t1-r1")


async def test_replay_that_was_answered_together_with_a_fresh_message_counts(replays: Replays) -> None:
    fresh = sample("fresh", state=TurnState.DELIVERED, failure=None)
    await store(replays.documents, sample("t1", replayed_as="t1-r1"), fresh)
    await replays.documents.commit([Create(Key(CLAIMS, "t1-r1"), claim(fresh))])
    replay = await replays.replay("t1")
    assert (replay.outcome, replay.by) == (Outcome.ANSWERED, "fresh")


async def test_replay_that_failed_is_replayed_under_a_new_id(replays: Replays) -> None:
    await store(replays.documents, sample("t1", replayed_as="t1-r1"), sample("t1-r1"))
    assert (await replays.replay("t1")).event_id == "t1-r2"
    assert (await stored(replays.documents, "t1-r1")).replayed_as == "t1-r2"


async def test_replay_that_was_met_with_silence_is_replayed_under_a_new_id(replays: Replays) -> None:
    silence = sample("t1-r1", state=TurnState.IGNORED, failure=None)
    await store(replays.documents, sample("t1", replayed_as="t1-r1"), silence)
    replay = await replays.replay("t1")
    assert (replay.outcome, replay.event_id) == (Outcome.NEW_TURN, "t1-r2")
    assert (await replays.replay("t1")).outcome is Outcome.UNDER_WAY


async def test_reply_that_is_refused_again_gets_another_event(replays: Replays) -> None:
    turn = sample("t1", failure="undeliverable: quota")
    await store(replays.documents, turn)
    await replays.replay("t1")
    await replays.change(replace(turn, replayed_as="t1-r1", failure="undeliverable: unauthorized"))
    replay = await replays.replay("t1")
    assert (replay.outcome, replay.event_id) == (Outcome.FINISHING, "t1-r2")
    assert await replays.claimed("t1-r2") == "t1"


async def test_running_turn_is_left_alone_until_it_is_stuck(replays: Replays) -> None:
    late = replays.clock.now_ms() - STUCK_MS + 1_000
    await store(
        replays.documents,
        sample("young", state=TurnState.RESERVED, failure=None, created_ms=late),
        sample("stuck", state=TurnState.ANSWERED, failure=None, delivering="reply"),
    )
    assert (await replays.replay("young")).outcome is Outcome.UNDER_WAY
    assert replays.enqueued == []
    assert (await replays.replay("stuck")).outcome is Outcome.FINISHING
    again = await stored(replays.documents, "stuck")
    assert (again.state, again.delivering, again.reply_token) == (
        TurnState.ANSWERED,
        "reply",
        "secret-token",
    ), "its reply may have arrived: only the same reply may be tried again"


@pytest.mark.parametrize(
    "turn",
    [
        sample("t1").without_words(),
        sample("t1", failure="undeliverable: quota").without_words(),
        sample("t1", failure=FORGOTTEN, events=(replace(sample("t1").events[0], kind=EventKind.IMAGE),)),
    ],
)
async def test_what_was_erased_is_not_replayed(replays: Replays, turn: TurnRecord) -> None:
    await store(replays.documents, turn)
    replay = await replays.replay("t1")
    assert (replay.outcome, replay.refused) == (Outcome.FORGOTTEN, True)
    assert replays.enqueued == []


async def test_picture_that_failed_is_replayed_as_a_picture(replays: Replays) -> None:
    event = replace(sample("t1").events[0], kind=EventKind.IMAGE, text="")
    await store(replays.documents, sample("t1", events=(event,), failure="defect"))
    await replays.replay("t1")
    assert [(task.event.kind, task.event.text) for task in replays.enqueued] == [("image", "")]


async def test_words_of_several_messages_are_replayed_together(replays: Replays) -> None:
    one = sample("t1").events[0]
    await store(replays.documents, sample("t1", events=(one, replace(one, id="t0", text="and more"))))
    await replays.replay("t1")
    (task,) = replays.enqueued
    assert (task.event.text, task.event.message_id) == ("words of t1\nand more", None)


async def test_unknown_turn_is_said_to_be_unknown(replays: Replays) -> None:
    assert (await replays.replay("nothing")).outcome is Outcome.UNKNOWN


async def test_dry_run_changes_nothing(replays: Replays) -> None:
    await store(replays.documents, sample("t1"))
    replay = await replays.replay("t1", dry_run=True)
    assert (replay.outcome, replay.event_id) == (Outcome.NEW_TURN, "t1-r1")
    assert await stored(replays.documents, "t1") == sample("t1")
    assert replays.enqueued == []
