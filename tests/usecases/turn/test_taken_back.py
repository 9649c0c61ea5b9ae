"""What customers take back: a message, wherever its turn stands, and their being a friend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from core.adapters.redis_connection import connect
from core.adapters.redis_conversations import RedisConversations
from core.adapters.redis_mailbox import RedisMailbox
from core.adapters.system_clock import SystemClock
from core.bootstrap import shared
from core.domain import consent
from core.domain.budget import Decision, Kind, Reason, budget_day
from core.domain.clinic import Retention
from core.domain.event import Conversation, InboundEvent
from core.domain.memory import CustomerMemory, Fact
from core.domain.session import Session
from core.domain.settings import Settings, required_by
from core.domain.task import TurnTask
from core.domain.turn import TurnRecord, TurnState, journaled
from core.local.openai_faults import LlmFaultKind, LlmTrouble
from core.local.simulator import Sent
from core.ports.documents import Create, Key, Where
from core.ports.mailbox import Held, Lead
from core.usecases.customers.conversation_control import ConversationControl
from core.usecases.customers.memory_changes import MemoryChanges
from core.usecases.journal.journal import Journal
from core.usecases.operate.customer_rights import CustomerRights
from core.usecases.operate.replay_turn import Outcome, ReplayTurn
from core.usecases.operate.stored_clinics import find_clinic
from tests.support.everything_kept import documents_text, redis_text
from tests.support.fault_scene import FaultScene, Row
from tests.support.turn_scene import serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("taken back")) as scene:
        yield scene


def settings(scene: FaultScene) -> Settings:
    return Settings.read(scene.stack.settings_env, required_by("turn"))


def unsend(scene: FaultScene, sent: Sent) -> Sent:
    message_id = sent.event["message"]["id"]
    return scene.sim.event(sent.clinic, sent.chat_id, "unsend", unsend={"messageId": message_id})


async def waiting(scene: FaultScene) -> list[TurnTask]:
    """The queue's tasks, in order, with all their events in the mailbox and nobody who leads."""
    bodies = [stored.body for stored in scene.stack.tasks.queue().store.tasks.values()]
    tasks = sorted(map(TurnTask.decode, bodies), key=lambda task: task.event.timestamp_ms)
    async with connect(scene.stack.settings_env["REDIS_URL"]) as redis:
        mailbox = RedisMailbox(redis, lease_ms=1, session_ttl_s=600)
        for task in tasks:
            assert isinstance(await mailbox.begin(task.event), Lead | Held)
    scene.stack.tasks.queue().store.purge(0)
    await asyncio.sleep(0.01)
    return tasks


async def dead_leaders_turn(scene: FaultScene, state: TurnState) -> list[TurnTask]:
    """What waits, in one turn as its leader left it when it died: its call or its delivery on the way."""
    tasks = await waiting(scene)
    await _journaled(scene, [task.event for task in tasks], state)
    return tasks


async def _journaled(scene: FaultScene, events: list[InboundEvent], state: TurnState) -> None:
    first, last = events[0], events[-1]
    draft = TurnRecord(
        id=first.event_id,
        org_id=first.org_id,
        channel="line",
        chat_id=first.chat_id,
        chat_type="user",
        state=state,
        events=tuple(map(journaled, events)),
        created_ms=first.arrived_ms,
        reply_token=last.reply_token,
        token_arrived_ms=last.arrived_ms,
    )
    journal = Journal(scene.documents, SystemClock())
    day = budget_day(first.arrived_ms, "Asia/Bangkok")
    loaded = await journal.load(first.org_id, day, draft.id, draft.event_ids)
    if state is TurnState.RESERVED:
        decision = Decision(Kind.PRIMARY, "gpt-6.1-terra", 500, Reason.WITHIN_BUDGET)
        await journal.reserve(draft, draft.event_ids, loaded, lambda _: (decision, 10**9))
    else:
        await journal.answer(draft, draft.event_ids, None, loaded.books)


async def memory_of(scene: FaultScene, sent: Sent) -> Mapping[str, Any]:
    key = Key("customer_memory", f"{sent.clinic.org_id}:{sent.chat_id}")
    (document,) = await scene.documents.get_many([key])
    assert document is not None
    return document.data


def days_left(remembered: Mapping[str, Any]) -> int:
    expire_at: datetime = remembered["expire_at"]
    return round((expire_at - datetime.now(UTC)) / timedelta(days=1))


async def do(scene: FaultScene, sent: Sent) -> None:
    await scene.sim.send(sent)
    await scene.stack.tasks.drained(10)


async def test_message_unsent_while_its_dead_leaders_turn_waits_is_not_answered_but_the_others_are(
    scene: FaultScene,
) -> None:
    row = await scene.row("reserved")
    async with serving(scene) as run:
        scene.stack.tasks.pause()
        await scene.say(row, "a", "SECRET")
        await scene.say(row, "a", "price")
        _, other = await dead_leaders_turn(scene, TurnState.RESERVED)
        await scene.sim.send(unsend(scene, row.sent[0]))
        (unsending,) = scene.stack.tasks.queue().store.tasks.values()
        await run(TurnTask.decode(unsending.body))
        await run(other)
        scene.stack.tasks.queue().store.purge(0)
        scene.stack.tasks.resume()
        verdict = await scene.verdict(row)
    (call,) = scene.calls(row)
    assert "price" in call.last_words
    assert "SECRET" not in call.last_words
    assert "SECRET" not in str(verdict.turns)
    assert len(scene.sim.answers(row.sent[1].event_id)) == 1
    assert (verdict.books, verdict.ambiguous) == ("", 1)


@pytest.mark.parametrize("state", [TurnState.RESERVED, TurnState.ANSWERED])
async def test_turn_whose_only_message_was_unsent_ends_in_silence(
    scene: FaultScene, state: TurnState
) -> None:
    row = await scene.row("unsent alone")
    async with serving(scene) as run:
        scene.stack.tasks.pause()
        await scene.say(row, "a", "SECRET")
        await dead_leaders_turn(scene, state)
        await scene.sim.send(unsend(scene, row.sent[0]))
        (unsending,) = scene.stack.tasks.queue().store.tasks.values()
        await run(TurnTask.decode(unsending.body))
        scene.stack.tasks.queue().store.purge(0)
        scene.stack.tasks.resume()
        verdict = await scene.verdict(row)
    assert verdict.calls == 0
    assert scene.sim.answers(row.sent[0].event_id) == []
    assert [(t["state"], t["delivered_how"]) for t in verdict.turns] == [("delivered", "none")]
    assert "SECRET" not in str(verdict.turns)
    assert verdict.books == ""


async def test_wishes_learnt_from_an_unsent_message_go_with_it(
    scene: FaultScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await scene.row("wishes")
    wish = {"service": "HIV test", "preference": "keep it quiet", "area": "arm"}
    monkeypatch.setattr(scene.stack.openai, "answer", lambda body: wish if "HIV" in str(body) else {})
    async with serving(scene):
        await do(scene, scene.message(row, "a", "I want an HIV test"))
        assert "HIV" in str(scene.calls(row)[-1])
        await do(scene, unsend(scene, row.sent[0]))
        await do(scene, scene.message(row, "a", "what is scaling?"))
    prompt = str(scene.calls(row)[-1].messages)
    assert "scaling" in prompt
    assert not any(word in prompt for word in ("HIV", "quiet", 'arm\\"'))


async def test_who_leaves_is_kept_for_the_shorter_time_whatever_came_with_it_and_nobody_is_called(
    scene: FaultScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await scene.row("leaves")
    fact = {"key": "nickname", "value": "Ploy", "because": "Ploy"}
    monkeypatch.setattr(scene.stack.openai, "answer", lambda body: {"facts": [fact]})
    async with serving(scene) as run:
        await do(scene, first := scene.message(row, "a", "Ploy"))
        assert days_left(await memory_of(scene, first)) == 365
        scene.stack.tasks.pause()
        await scene.say(row, "a", "Ploy says bye")
        await scene.sim.send(scene.sim.event(row.clinic, first.chat_id, "unfollow"))
        for task in await waiting(scene):
            await run(task)
        scene.stack.tasks.resume()
        assert days_left(await memory_of(scene, first)) == 30
        control = ConversationControl(scene.documents, SystemClock())
        clinic = await find_clinic(scene.documents, row.clinic.org_id)
        await control.pause(clinic, first.chat_id)
        await control.resume(clinic, first.chat_id)
        assert days_left(await memory_of(scene, first)) == 30
    assert len(scene.calls(row)) == 1


@pytest.mark.parametrize("how", ["follow", "text"])
async def test_who_comes_back_is_kept_as_long_as_any_customer(scene: FaultScene, how: str) -> None:
    row = await scene.row("comes back")
    async with serving(scene):
        await do(scene, first := scene.message(row, "a", "hello"))
        await do(scene, scene.sim.event(row.clinic, first.chat_id, "unfollow"))
        assert days_left(await memory_of(scene, first)) == 30
        back = scene.sim.event(row.clinic, first.chat_id, "follow")
        await do(scene, back if how == "follow" else scene.message(row, "a", "me again"))
        assert days_left(await memory_of(scene, first)) == 365
        await do(scene, last := scene.message(row, "a", "one more"))
    assert len(scene.sim.answers(last.event_id)) == 1


@pytest.mark.parametrize("times", [1, 2])
async def test_silence_on_purpose_leaves_a_trace_without_words_and_a_replay_of_it_comes_to_nothing(
    scene: FaultScene, times: int
) -> None:
    row = await scene.row("silence")
    control = ConversationControl(scene.documents, SystemClock())
    clinic = await find_clinic(scene.documents, row.clinic.org_id)
    async with serving(scene):
        first = scene.message(row, "a", "SECRET")
        await control.pause(clinic, first.chat_id)
        for _ in range(times):
            await do(scene, first)
            await scene.stack.redis.command("FLUSHALL")  # the mailbox' own mark is gone
        (turn,) = await scene.turns(row.clinic.org_id)
        assert (turn["state"], turn["reason"]) == ("ignored", "handoff")
        assert "SECRET" not in str(turn)
        replay = await ReplayTurn(scene.documents, shared.tasks(settings(scene)), SystemClock())(turn["id"])
        assert replay.outcome is Outcome.IGNORED
    assert scene.sim.answers(first.event_id) == []


@pytest.mark.parametrize("meanwhile", ["forgotten", "withdrawn", "paused"])
async def test_what_is_done_to_a_memory_while_a_turn_runs_stands(
    scene: FaultScene, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    row = await scene.row(f"meanwhile {meanwhile}")
    facts = [{"key": key, "value": "SECRET", "because": "SECRET"} for key in ("nickname", "allergy")]
    monkeypatch.setattr(scene.stack.openai, "answer", lambda body: {"facts": facts})
    sent = scene.message(row, "a", "SECRET")
    customer = Conversation(row.clinic.org_id, "line", sent.chat_id)
    key = Key("customer_memory", f"{customer.org_id}:{customer.chat_id}")
    agreed = CustomerMemory((Fact("illness", "SECRET", "t0", 1),), consent=True, consent_ms=1)
    await scene.documents.commit([Create(key, agreed.encode_facts() | {"consent": True})])
    memories = MemoryChanges(scene.documents, SystemClock())

    async def change(known: Callable[[CustomerMemory], CustomerMemory]) -> None:
        await memories.change(customer, Retention(), known)

    async with serving(scene):
        sending = asyncio.create_task(do(scene, sent))
        async with asyncio.timeout(10):
            while not scene.stack.openai.calls or scene.stack.openai.calls[-1].ended_ms:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        if meanwhile == "forgotten":
            await change(lambda _: CustomerMemory().forgetting(customer.chat_id, sent.timestamp_ms - 1))
        elif meanwhile == "withdrawn":
            await change(lambda known: consent.decided(known, Session(), given=False, at_ms=2)[0])
        else:
            await change(lambda known: known.handed_off(9**14, "staff"))
        await sending
    known = CustomerMemory.decode(await memory_of(scene, sent), 2)
    left = {"forgotten": [], "withdrawn": ["nickname"], "paused": ["allergy", "illness", "nickname"]}
    assert sorted(fact.key for fact in known.facts) == left[meanwhile]
    assert known.consent is {"forgotten": None, "withdrawn": False, "paused": True}[meanwhile]
    assert known.in_handoff(2) is (meanwhile == "paused")
    assert len(scene.sim.answers(sent.event_id)) == 1


@pytest.mark.parametrize("redis_lost", [False, True])
async def test_a_message_on_its_way_when_its_customer_is_forgotten_reaches_no_model_and_no_store(
    scene: FaultScene, redis_lost: bool
) -> None:
    row = await scene.row(f"on its way, {redis_lost}")
    scene.stack.tasks.pause()
    sent = await scene.say(row, "a", "PRIVATE")
    async with connect(scene.stack.settings_env["REDIS_URL"]) as redis:
        mailbox = RedisMailbox(redis, lease_ms=1_000, session_ttl_s=600)
        conversations = RedisConversations(redis, lease_ms=1_000)
        rights = CustomerRights(scene.documents, conversations, mailbox, SystemClock())
        await rights.forget(Conversation(row.clinic.org_id, "line", sent.chat_id))
    if redis_lost:
        await scene.stack.redis.command("FLUSHALL")
    async with serving(scene):
        scene.stack.tasks.resume()
        await scene.stack.tasks.drained(10)
        assert scene.calls(row) == []
        turns = await scene.turns(row.clinic.org_id)
        assert [(t["state"], t["reason"]) for t in turns] == [("ignored", "forgotten")] * redis_lost
        assert "PRIVATE" not in await documents_text(scene.documents)
        assert "PRIVATE" not in await redis_text(scene.stack.redis.url)
        new = scene.message(row, "a", "new")
        await do(scene, new)
    assert len(scene.sim.answers(new.event_id)) == 1


async def test_a_replay_during_a_hand_off_is_replayed_again_after_it(scene: FaultScene) -> None:
    row = await scene.row("replay")
    control = ConversationControl(scene.documents, SystemClock())
    clinic = await find_clinic(scene.documents, row.clinic.org_id)
    scene.stack.openai.faults.add(LlmTrouble(LlmFaultKind.BAD_REQUEST))
    async with serving(scene):
        await do(scene, first := scene.message(row, "a", "price"))
        (failed,) = await scene.turns(row.clinic.org_id)
        assert failed["state"] == "failed"
        await control.pause(clinic, first.chat_id)
        replay = ReplayTurn(scene.documents, shared.tasks(settings(scene)), SystemClock())
        assert (await replay(failed["id"])).by == f"{failed['id']}-r1"
        await scene.stack.tasks.drained(10)
        assert [t["state"] for t in await scene.turns(row.clinic.org_id)] == ["failed", "ignored"]
        await control.resume(clinic, first.chat_id)
        assert (await replay(failed["id"])).by == f"{failed['id']}-r2"
        await scene.stack.tasks.drained(10)
        assert (await replay(failed["id"])).outcome is Outcome.ANSWERED
    assert len(scene.calls(row)) == 2


async def test_what_only_takes_back_leaves_no_trace(scene: FaultScene) -> None:
    row = await scene.row("taken back")
    async with serving(scene):
        await do(scene, unsend(scene, scene.message(row, "a")))
        await do(scene, scene.sim.event(row.clinic, row.sent[0].chat_id, "unfollow"))
    assert await scene.turns(row.clinic.org_id) == []


async def test_an_unsent_messages_words_vanish_from_the_clinics_questions_too(scene: FaultScene) -> None:
    row = await scene.row("questions")
    everybodys = {"topic": "บริการ", "question": "มีที่จอดรถไหม"}
    private = {"topic": "บริการ", "question": "รับ CANARY ไหม"}
    answers = iter([everybodys, everybodys, private])
    scene.stack.openai.answer = lambda _: {"missing": next(answers)}
    try:
        async with serving(scene):
            for user in ("a", "b", "a"):
                await do(scene, scene.message(row, user, "CANARY"))
            assert "CANARY" in await questions_of(scene, row)
            for sent in (row.sent[0], row.sent[2]):
                await do(scene, unsend(scene, sent))
    finally:
        scene.stack.openai.answer = None
    left = await questions_of(scene, row)
    assert "CANARY" not in left
    assert row.sent[0].chat_id not in left
    assert row.sent[1].chat_id in left, "others have asked the same"


async def questions_of(scene: FaultScene, row: Row) -> str:
    found = await scene.documents.query("questions", [Where("org_id", "==", row.clinic.org_id)])
    return str([document.data for document in found])
