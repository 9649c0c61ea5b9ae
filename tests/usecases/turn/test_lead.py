"""One task of the queue, from its arrival to the customer, in one process with real parts around it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from core.adapters import redis_keys
from core.adapters.system_clock import SystemClock
from core.domain.clinic import BudgetPolicy, Clinic, ModelConfig
from core.domain.event import Conversation
from core.domain.task import TurnTask
from core.domain.texts import text
from core.domain.turn import TurnRecord, TurnState, journaled
from core.local.http_server import Response
from core.local.line_api import LineCall, LineTrouble
from core.local.openai_api import Latency, LlmTrouble
from core.local.openai_api import LlmFaultKind as Kind
from core.ops.cli import app
from core.ports.documents import Create, Key, Where
from core.ports.mailbox import Lead
from core.usecases.clinics.documents import model_document
from core.usecases.journal.books import Books, day_key
from core.usecases.journal.journal import Journal
from core.usecases.turn import line_delivery as deliver
from tests.support.fault_scene import FaultScene, Row
from tests.support.turn_scene import said, serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


ANY = Clinic("any", "Any", "", "")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("turns")) as scene:
        yield scene


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "fairlane")
    return caplog


def events(logged: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    return [vars(record)["fields"] for record in logged.records if record.getMessage() == name]


async def working(scene: FaultScene, row: Row, calls: int = 1) -> None:
    """Until the model has been asked."""
    async with asyncio.timeout(5):
        while len(scene.calls(row)) < calls:  # noqa: ASYNC110  the stand-in counts, it does not tell
            await asyncio.sleep(0.01)


async def test_ordinary_turn_is_reserved_answered_and_delivered(scene: FaultScene) -> None:
    row = await scene.row("ordinary")
    async with serving(scene):
        await scene.say(row)
        await scene.verdict(row)
        await scene.say(row)
        verdict = await scene.verdict(row)
    assert verdict.clean
    assert [turn["state"] for turn in verdict.turns] == ["delivered", "delivered"]
    turn = verdict.turns[0]
    assert turn["id"] == row.sent[0].event_id
    assert turn["attempts"] == 1
    assert turn["created_ms"] <= turn["reserved_ms"] <= turn["answered_ms"] <= turn["delivered_ms"]
    assert 0 < turn["cost_micro_baht"] <= turn["worst_micro_baht"]
    remembered = scene.calls(row)[1].messages
    assert f"{row.name} 0" in str(remembered)


async def test_paid_answer_with_flaws_is_delivered_after_one_call(
    scene: FaultScene, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await scene.row("flaws")
    flawed = {"reply": "ได้ค่ะ \ud83d", "service": "\ud83d", "handoff": False, "facts": ["x"]}
    flawed |= {"stage": "ลูกค้าชื่อพลอย", "preference": {"time": "am"}, "quick_replies": ["\ud83d"]}
    monkeypatch.setattr(scene.stack.openai, "_content", lambda body: json.dumps(flawed))
    async with serving(scene):
        await scene.say(row)
        verdict = await scene.verdict(row)
    assert verdict.clean
    assert (verdict.calls, said(scene, row.sent[0])) == (1, ["ได้ค่ะ \ufffd"])
    assert "พลอย" not in str([vars(record) for record in logged.records])


async def test_what_arrives_meanwhile_is_put_back_and_answered_by_the_running_task(
    scene: FaultScene, logged: pytest.LogCaptureFixture
) -> None:
    row = await scene.row("meanwhile")
    async with serving(scene, SLOT_LEASE_S="1.5"):
        await scene.say(row)
        await working(scene, row)
        for _ in range(3):
            await scene.say(row)
        assert await scene.sim.wait_answered([sent.event_id for sent in row.sent], 5) == []
        assert scene.stack.tasks.stats().backlog >= 3, "the successors wait for the lease's end"
        verdict = await scene.verdict(row)
    assert verdict.clean
    assert len(verdict.turns) == 2
    assert {put_back["reason"] for put_back in events(logged, "turn.putback")} == {"held"}
    assert len(events(logged, "turn.duplicate")) == 3


async def test_turn_without_a_slot_is_put_back_with_its_place_and_then_answered(
    scene: FaultScene, logged: pytest.LogCaptureFixture
) -> None:
    row = await scene.row("no slot")
    async with serving(scene, CHAT_MAX_CONCURRENT="1", SLOT_WAIT_S="0.1"):
        await scene.say(row, "a")
        await working(scene, row)
        await scene.say(row, "b")
        put_back = TurnTask.decode((await scene.put_back(row)).body)
        verdict = await scene.verdict(row)
    assert put_back.place is not None
    assert put_back.hop == 1
    assert events(logged, "turn.putback")[0]["reason"] == "waited"
    assert verdict.clean
    assert scene.stack.openai.most_by_clinic[scene.calls(row)[0].clinic] == 1


async def test_past_its_patience_a_customer_hears_so_once_and_no_call_is_made(scene: FaultScene) -> None:
    row = await scene.row("patience")
    scene.stack.openai.faults.add(LlmTrouble(Kind.QUOTA))
    async with serving(scene, PATIENCE_S="1"):
        await scene.say(row, "a")  # opens the circuit
        await scene.verdict(row)
        await scene.say(row, "b")
        # The circuit stays open for ten minutes, but nobody is put back beyond their patience.
        put_back = await scene.put_back(row)
        assert put_back.schedule_s - put_back.created_s < 1.5
        verdict = await scene.verdict(row)
    assert verdict.clean
    assert said(scene, row.sent[1]) == [text(ANY, "busy")]
    assert {turn["failure"] for turn in verdict.turns} == {"insufficient_quota", "patience"}
    assert verdict.calls == 1


async def test_whoever_waits_for_an_open_circuit_asks_again_when_it_has_closed_or_patience_ends(
    scene: FaultScene,
) -> None:
    """Sooner it would be a dispatch for nothing."""
    row = await scene.row("circuit closed by hand")
    scene.stack.openai.faults.add(LlmTrouble(Kind.QUOTA))
    async with serving(scene):
        await scene.say(row, "a")  # opens the circuit for ten minutes
        await scene.verdict(row)
        await scene.say(row, "b")
        put_back = await scene.put_back(row)
    assert 115 < put_back.schedule_s - put_back.created_s < 121


async def test_who_waits_for_a_circuit_that_an_operator_closes_is_brought_forward(
    scene: FaultScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await scene.row("brought forward")
    scene.stack.openai.faults.add(LlmTrouble(Kind.QUOTA))
    for name, value in scene.stack.settings_env.items():
        monkeypatch.setenv(name, value)
    async with serving(scene, CHAT_MAX_CONCURRENT_PER_ORG="2"):
        await scene.say(row, "first")  # opens the circuit for ten minutes
        await scene.verdict(row)
        for n in range(9):
            await scene.say(row, f"u{n}")
        async with asyncio.timeout(10):
            while sum(task.hop > 0 for task in waiting(scene)) < 3:  # noqa: ASYNC110  the queue does not tell
                await asyncio.sleep(0.02)
        done = await asyncio.to_thread(CliRunner().invoke, app, ["slots", "close-circuit"])
        verdict = await scene.verdict(row)
    assert "calls may go through again" in done.output
    assert "turns brought forward" in done.output
    assert verdict.clean
    assert [turn["failure"] for turn in verdict.turns].count(None) == 9


def waiting(scene: FaultScene) -> list[TurnTask]:
    return [TurnTask.decode(task.body) for task in scene.stack.tasks.queue().store.tasks.values()]


async def test_whoever_lost_patience_behind_a_turn_that_has_some_left_does_not_come_all_the_time(
    scene: FaultScene, logged: pytest.LogCaptureFixture
) -> None:
    row = await scene.row("behind another")
    scene.stack.openai.faults.add(LlmTrouble(Kind.QUOTA))
    async with serving(scene) as run:
        await scene.say(row, "a")  # opens the circuit
        await scene.verdict(row)
        scene.stack.tasks.pause()
        await scene.say(row, "b")
        (stored,) = scene.stack.tasks.queue().store.tasks.values()
        task = TurnTask.decode(stored.body)
        later = replace(task.event, event_id="later", message_id="later")
        left = TurnRecord(
            id="later",
            org_id=later.org_id,
            channel="line",
            chat_id=later.chat_id,
            chat_type="user",
            state=TurnState.RESERVED,
            events=(journaled(later),),
            created_ms=later.arrived_ms,
        )
        books = Books.of(day_key(later.org_id, "20261124"), None)
        await Journal(scene.documents, SystemClock()).answer(left, left.event_ids, None, books)
        begun = await run._mailbox.begin(replace(later, timestamp_ms=task.event.timestamp_ms))
        assert isinstance(begun, Lead)
        await run._mailbox.finish(later.conversation, begun.fence, ())
        await run(replace(task, event=replace(task.event, arrived_ms=task.event.arrived_ms - 300_000)))
    (put_back,) = events(logged, "turn.putback")
    assert put_back["reason"] == "circuit"
    assert 900 <= put_back["delay_ms"] <= 1_000
    scene.stack.tasks.resume()


async def test_cooldown_of_the_provider_puts_other_turns_back(
    scene: FaultScene, logged: pytest.LogCaptureFixture
) -> None:
    row = await scene.row("cooldown")
    scene.stack.openai.faults.add(LlmTrouble(Kind.RATE_LIMIT, retry_after_s=1.5))
    async with serving(scene, SLOT_WAIT_S="0.2"):
        await scene.say(row, "a")
        await working(scene, row)
        await asyncio.sleep(0.1)
        await scene.say(row, "b")
        verdict = await scene.verdict(row)
    assert verdict.clean
    assert events(logged, "turn.putback")[0]["reason"] == "cooldown"


async def test_spent_budget_is_told_once_an_hour_and_costs_nothing(scene: FaultScene) -> None:
    row = await scene.row("budget")
    row.clinic = await scene.clinic(budget=BudgetPolicy(daily_budget_baht=Decimal("0.0001")))
    async with serving(scene):
        await scene.say(row)
        await scene.verdict(row)
        await scene.say(row)
        verdict = await scene.verdict(row)
    assert [said(scene, sent) for sent in row.sent] == [[text(ANY, "budget")], []]
    assert [turn["failure"] for turn in verdict.turns] == ["budget", "budget"]
    assert verdict.clean
    assert verdict.calls == 0


async def test_budget_notice_that_reached_nobody_does_not_silence_the_next_one(scene: FaultScene) -> None:
    row = await scene.row("budget unheard")
    row.clinic = await scene.clinic(budget=BudgetPolicy(daily_budget_baht=Decimal("0.0001")))
    async with serving(scene):
        await scene.sim.send(scene.message(row, token=False))
        await scene.verdict(row)
        await scene.say(row)
        verdict = await scene.verdict(row)
    assert said(scene, row.sent[1]) == [text(ANY, "budget")]
    assert [turn["delivered_how"] for turn in verdict.turns] == ["none", "reply"]


async def test_leader_whose_lease_is_lost_stops_and_the_next_one_answers(
    scene: FaultScene, logged: pytest.LogCaptureFixture
) -> None:
    row = await scene.row("lease lost")
    async with serving(scene, SLOT_LEASE_S="0.6"):
        scene.stack.openai.faults.add(LlmTrouble(Kind.HANG))
        sent = await scene.say(row)
        await working(scene, row)
        conversation = Conversation(row.clinic.org_id, "line", sent.chat_id)
        await scene.stack.redis.command("DEL", redis_keys.mailbox(conversation, "lead"))
        verdict = await scene.verdict(row)
    assert verdict.clean
    assert verdict.ambiguous == 1
    put_back = events(logged, "turn.putback")[0]
    assert (put_back["reason"], put_back["delay_ms"]) == ("lost", 100), "in time for whoever leads now"


async def test_draining_hands_back_what_waits_and_finishes_what_runs(
    scene: FaultScene, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await scene.row("draining")
    monkeypatch.setattr(scene.stack.openai, "latency", Latency(1.5, 0.0))
    async with serving(scene, CHAT_MAX_CONCURRENT="1") as run:
        await scene.say(row, "a")
        await working(scene, row)
        await scene.say(row, "b")
        await asyncio.sleep(0.5)
        await run.drain()
        assert [len(said(scene, sent)) for sent in row.sent] == [1, 0]
    assert {put_back["reason"] for put_back in events(logged, "turn.putback")} == {"draining"}


@pytest.mark.parametrize("backoff_s", ["0.6", "20"], ids=["ends in time", "is cut off"])
async def test_draining_in_a_backoff_after_a_refused_call_leaves_nothing_to_charge(
    scene: FaultScene, logged: pytest.LogCaptureFixture, backoff_s: str
) -> None:
    row = await scene.row(f"draining in backoff {backoff_s}")
    scene.stack.openai.faults.add(LlmTrouble(Kind.ERROR_500))
    async with serving(scene, LLM_BACKOFF_S=backoff_s) as run:
        run._policy = replace(run._policy, drain_s=1.0)
        await scene.say(row)
        await working(scene, row)
        await asyncio.sleep(0.1)
        scene.stack.tasks.pause()  # what is put back goes to another instance
        await run.drain()
    scene.stack.tasks.resume()
    (turn,) = await scene.turns(row.clinic.org_id)
    assert (turn["state"], turn["held_micro_baht"], turn["cost_micro_baht"]) == ("reserved", 0, 0)
    (day,) = await scene.documents.query("org_ai_spend", [Where("org_id", "==", row.clinic.org_id)])
    assert (day.data["held"], day.data["holds"]) == (0, {})
    assert [put_back["reason"] for put_back in events(logged, "turn.putback")] == ["draining"]


async def test_what_a_dead_leader_left_is_delivered_first_and_what_is_new_gets_its_own_turn(
    scene: FaultScene, logged: pytest.LogCaptureFixture
) -> None:
    row = await scene.row("left behind")
    async with serving(scene):
        scene.stack.tasks.pause()
        for _ in range(3):
            await scene.say(row)
        bodies = [task.body for task in scene.stack.tasks.queue().store.tasks.values()]
        first, second, _ = sorted((TurnTask.decode(b).event for b in bodies), key=lambda e: e.timestamp_ms)
        left = TurnRecord(
            id=first.event_id,
            org_id=first.org_id,
            channel="line",
            chat_id=first.chat_id,
            chat_type="user",
            state=TurnState.ANSWERED,
            events=(journaled(first), journaled(second)),
            created_ms=first.arrived_ms,
            reply="ตอบไว้แล้วค่ะ",
            reply_token=second.reply_token,
            token_arrived_ms=second.arrived_ms,
            delivering="reply",
        )
        books = Books.of(day_key(first.org_id, "20261124"), None)
        await Journal(scene.documents, SystemClock()).answer(left, left.event_ids, None, books)
        scene.stack.tasks.resume()
        verdict = await scene.verdict(row)
    assert verdict.clean
    assert [(turn["id"], len(turn["events"])) for turn in verdict.turns] == [
        (row.sent[0].event_id, 2),
        (row.sent[2].event_id, 1),
    ]
    assert said(scene, row.sent[1]) == ["ตอบไว้แล้วค่ะ"]
    assert verdict.calls == 1
    assert len(events(logged, "turn.taken_over")) == 1


async def test_event_is_not_lost_when_what_a_dead_leader_left_takes_all_the_time(
    scene: FaultScene, logged: pytest.LogCaptureFixture
) -> None:
    row = await scene.row("no time left")
    async with serving(scene) as run:
        run._policy = replace(run._policy, lead_for_s=0.2)  # a call takes longer
        scene.stack.tasks.pause()
        for _ in range(2):
            await scene.say(row)
        store = scene.stack.tasks.queue().store
        tasks = {name: TurnTask.decode(task.body) for name, task in store.tasks.items()}
        dead, second = sorted(tasks, key=lambda name: tasks[name].event.timestamp_ms)
        first = tasks[dead].event
        left = TurnRecord(
            id=first.event_id,
            org_id=first.org_id,
            channel="line",
            chat_id=first.chat_id,
            chat_type="user",
            state=TurnState.RESERVED,
            events=(journaled(first),),
            created_ms=first.arrived_ms,
            reply_token=first.reply_token,
            token_arrived_ms=first.arrived_ms,
        )
        books = Books.of(day_key(first.org_id, "20261124"), None)
        await Journal(scene.documents, SystemClock()).answer(left, left.event_ids, None, books)
        led = await run._mailbox.begin(first)
        assert isinstance(led, Lead)
        await run._mailbox.finish(first.conversation, led.fence, ())
        await run(tasks[second])
        assert [put_back["reason"] for put_back in events(logged, "turn.putback")] == ["not_yet"]
        store.remove(store.tasks[second], time.time())  # its run has ended with 2xx
        scene.stack.tasks.resume()
        verdict = await scene.verdict(row)
    assert verdict.clean
    assert [len(said(scene, sent)) for sent in row.sent] == [1, 1]


async def test_event_id_that_another_clinic_has_used_is_nobodys_answer(
    scene: FaultScene, logged: pytest.LogCaptureFixture
) -> None:
    row = await scene.row("its own")
    other = await scene.clinic()
    async with serving(scene):
        await scene.say(row)
        assert (await scene.verdict(row)).clean
        forged = scene.sim.message(other, scene.sim.user(other, "forger"), "text", text="ขอคำตอบด้วย")
        event = {**forged.event, "webhookEventId": row.sent[0].event_id}
        await scene.sim.send(replace(forged, event=event))
        async with asyncio.timeout(5):
            while not events(logged, "turn.failed"):  # noqa: ASYNC110  a log line tells nobody
                await asyncio.sleep(0.02)
    assert [event["reason"] for event in events(logged, "turn.failed")] == ["foreign_event_id"]
    assert scene.stack.tasks.stats().backlog == 0


async def test_model_without_a_price_gets_the_busy_message_and_no_call(scene: FaultScene) -> None:
    row = await scene.row("unpriced")
    model = model_document(ModelConfig(model_name="gpt-written-by-hand"))
    await scene.documents.commit([Create(Key("ai_model_config", row.clinic.org_id), model)])
    async with serving(scene):
        await scene.say(row)
        verdict = await scene.verdict(row)
    assert said(scene, row.sent[0]) == [text(ANY, "busy")]
    assert verdict.turns[0]["failure"] == "unpriced_model"
    assert verdict.calls == 0


async def test_request_larger_than_a_minute_s_tokens_gets_the_busy_message_at_once(scene: FaultScene) -> None:
    row = await scene.row("too large")
    async with serving(scene, LLM_TOKENS_PER_MINUTE="100"):
        await scene.say(row)
        verdict = await scene.verdict(row)
    assert said(scene, row.sent[0]) == [text(ANY, "busy")]
    assert verdict.turns[0]["failure"] == "too_large"
    assert verdict.calls == 0


async def test_answer_without_counts_is_charged_at_its_worst_case(
    scene: FaultScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await scene.row("uncounted")
    counted = scene.stack.openai._response

    def uncounted(*args: Any) -> Response:
        body = json.loads(counted(*args).body)
        return Response.of_json({name: value for name, value in body.items() if name != "usage"})

    monkeypatch.setattr(scene.stack.openai, "_response", uncounted)
    async with serving(scene):
        await scene.say(row)
        verdict = await scene.verdict(row)
    (turn,) = verdict.turns
    assert (turn["state"], verdict.ambiguous, verdict.books) == ("delivered", 1, "")
    assert turn["cost_micro_baht"] == turn["ambiguous_micro_baht"] == turn["worst_micro_baht"] > 0


async def test_one_clinics_trouble_at_line_puts_its_reply_back_and_slows_nobody(
    scene: FaultScene, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "_LAST_TRY_S", 0.0)
    row = await scene.row("channel")
    failed = scene.stack.tasks.stats().failed_attempts
    scene.stack.line.faults.add(
        LineTrouble.RATE_LIMIT, times=2, when=lambda seen: seen.call is LineCall.REPLY
    )
    async with serving(scene) as run:
        run._policy = replace(run._policy, channel_pause_s=0.1)
        await scene.say(row)
        verdict = await scene.verdict(row)
    assert verdict.clean
    assert verdict.calls == 1
    assert [put_back["reason"] for put_back in events(logged, "turn.putback")] == ["channel"] * 2
    assert scene.stack.tasks.stats().failed_attempts == failed


async def test_one_chats_error_at_line_ends_and_slows_nobody(
    scene: FaultScene, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "_LAST_TRY_S", 0.0)
    row = await scene.row("one chat")
    failed = scene.stack.tasks.stats().failed_attempts
    scene.stack.line.faults.add(
        LineTrouble.ERROR_BEFORE, times=None, when=lambda seen: seen.call in {LineCall.REPLY, LineCall.PUSH}
    )
    async with serving(scene) as run:
        run._policy = replace(run._policy, channel_pause_s=0.1, channel_patience_s=2.0)
        await scene.say(row)
        verdict = await scene.verdict(row)
    scene.stack.line.faults.clear()
    (turn,) = verdict.turns
    assert turn["state"] == "failed"
    assert (verdict.calls, verdict.books) == (1, "")
    assert {put_back["reason"] for put_back in events(logged, "turn.putback")} == {"channel"}
    assert len(events(logged, "turn.putback")) < 10
    assert scene.stack.tasks.stats().failed_attempts == failed


async def test_provider_that_asks_for_more_time_than_a_turn_has_gets_it_while_there_is_patience(
    scene: FaultScene, logged: pytest.LogCaptureFixture
) -> None:
    row = await scene.row("long cooldown")
    scene.stack.openai.faults.add(LlmTrouble(Kind.RATE_LIMIT, retry_after_s=2))
    async with serving(scene, LLM_DEADLINE_S="1.5", SLOT_WAIT_S="0.5"):
        await scene.say(row)
        verdict = await scene.verdict(row)
    assert verdict.clean
    assert (verdict.turns[0]["state"], verdict.calls) == ("delivered", 2)
    assert {put_back["reason"] for put_back in events(logged, "turn.putback")} == {"cooldown"}


async def test_reply_that_waits_too_long_for_its_channel_is_left_to_an_operator(
    scene: FaultScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "_LAST_TRY_S", 0.0)
    row = await scene.row("channel, for good")
    scene.stack.line.faults.add(LineTrouble.RATE_LIMIT, times=None)
    async with serving(scene) as run:
        run._policy = replace(run._policy, channel_pause_s=0.1, channel_patience_s=0.5)
        await scene.say(row)
        verdict = await scene.verdict(row)
    (turn,) = verdict.turns
    assert (turn["state"], turn["failure"]) == ("failed", "undeliverable: channel_unavailable")
    assert turn["reply"]
    assert verdict.books == ""
