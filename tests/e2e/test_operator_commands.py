"""What operators do while everything runs: replays, hand-offs, forgetting; and customers who leave."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from core.adapters.file_secrets import FileSecrets
from core.adapters.redis_connection import connect
from core.adapters.redis_mailbox import RedisMailbox
from core.adapters.sqlite_documents import SqliteDocuments
from core.domain import clinic as settings
from core.domain import texts
from core.domain.event import EventKind, InboundEvent
from core.domain.turn import TurnState
from core.local import demo_answers
from core.local.line_api import LineCall, LineTrouble
from core.local.openai_api import Latency
from core.local.openai_faults import LlmFaultKind, LlmTrouble
from core.local.simulator import Clinic, LineSimulator, Sent
from core.local.stack import LocalStack, StackOptions
from core.ops.cli import app
from core.ports.documents import Key, Merge
from core.usecases.clinics.documents import channel_document, org_document
from tests.support.everything_kept import documents_text, redis_text
from tests.support.recount import miscounted
from tests.support.turn_samples import sample, store

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("operator commands")]


class Ops:
    """The stack, and the `fairlane` command with its environment; every test has a clinic of its own."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self.sim = LineSimulator(stack.line, stack.webhook_url)
        self.documents = SqliteDocuments(stack.documents_url.removeprefix("sqlite:"))
        self._secrets = FileSecrets(stack.settings_env["SECRET_STORE"].removeprefix("file:"))
        stack.openai.answer = demo_answers.answer

    async def close(self) -> None:
        await self.sim.close()
        await self.documents.close()

    async def clinic(self, org_id: str) -> Clinic:
        shown = self.sim.clinic(org_id, name=org_id)
        channel = shown.channel
        clinic = settings.Clinic(org_id, org_id, channel.bot_user_id, channel.channel_id, "Persona.")
        secret = {"channel_id": channel.channel_id, "channel_secret": channel.channel_secret}
        await self._secrets.put(clinic.secret_name, secret)
        await self.documents.commit(
            [
                Merge(Key("orgs", org_id), org_document(clinic)),
                Merge(Key("line_channels", channel.bot_user_id), channel_document(org_id)),
            ]
        )
        return shown

    async def fairlane(self, *arguments: str) -> Result:
        env = self.stack.settings_env
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=env)

    async def json(self, *arguments: str) -> Any:
        result = await self.fairlane(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    async def say(self, clinic: Clinic, user: str, words: str) -> Sent:
        return await self.do(self.sim.message(clinic, user, "text", text=words))

    async def do(self, sent: Sent) -> Sent:
        await self.sim.send(sent)
        assert sent.acked, sent.acks
        await self.stack.tasks.drained(20)
        return sent

    def delivered(self, clinic: Clinic) -> list[tuple[LineCall, str]]:
        of_clinic = [d for d in self.stack.line.deliveries if d.channel_id == clinic.channel.channel_id]
        return [(d.how, "\n".join(d.texts)) for d in of_clinic]

    def calls(self, clinic: Clinic) -> int:
        return sum(call.clinic == clinic.org_id for call in self.stack.openai.calls)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ops(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ops]:
    options = StackOptions(
        turns=2,
        run_dir=tmp_path_factory.mktemp("operators"),
        latency=Latency(median_s=0.03),
        environment={"SLOT_LEASE_S": "1", "LLM_BACKOFF_S": "0.05"},
    )
    async with LocalStack(options) as stack:
        ops = Ops(stack)
        yield ops
        await ops.close()


async def test_reply_that_line_refused_is_pushed_by_a_replay_and_paid_once(ops: Ops) -> None:
    clinic = await ops.clinic("refused")
    ops.stack.line.faults.add(LineTrouble.MONTHLY_LIMIT, when=lambda call: call.call is LineCall.REPLY)
    sent = await ops.say(clinic, ops.sim.user(clinic, "ploy"), "ราคาขูดหินปูนเท่าไหร่คะ")
    assert ops.delivered(clinic) == []
    (failed,) = await ops.json("turns", "list", "--state", "failed", "--org", "refused")
    assert failed["failure"] == "undeliverable: quota"
    for outcome in ("finishing", "answered"):
        (replay,) = (await ops.json("turns", "replay", failed["turn_id"]))["turns"]
        assert replay["outcome"] == outcome
        await ops.stack.tasks.drained(10)
    ((how, text),) = ops.delivered(clinic)
    assert how is LineCall.PUSH
    assert sent.text in text
    assert ops.calls(clinic) == 1
    turn = await ops.json("turns", "show", failed["turn_id"])
    assert (turn["state"], turn["delivered_how"], turn["failure"]) == ("delivered", "push", None)


async def test_turn_that_the_model_failed_is_answered_anew_by_a_replay(ops: Ops) -> None:
    clinic = await ops.clinic("rejected")
    ops.stack.openai.faults.add(
        LlmTrouble(LlmFaultKind.BAD_REQUEST), when=lambda call: call.clinic == "rejected"
    )
    sent = await ops.say(clinic, ops.sim.user(clinic, "ploy"), "ฟอกสีฟันเท่าไหร่คะ")
    ((_, busy),) = ops.delivered(clinic)
    assert sent.text not in busy
    (failed,) = await ops.json("turns", "list", "--state", "failed", "--org", "rejected")
    for outcome in ("new turn", "answered"):
        done = await ops.json("turns", "replay", "--all-failed", "--org", "rejected")
        assert [replay["outcome"] for replay in done["turns"]] == [outcome]
        await ops.stack.tasks.drained(10)
    _, (how, text) = ops.delivered(clinic)
    assert how is LineCall.PUSH
    assert sent.text in text
    assert done["turns"][0]["by"] == f"{failed['turn_id']}-r1"


async def test_what_is_counted_and_stated_is_so_after_failures_replays_and_forgetting(
    ops: Ops,
) -> None:
    clinic = await ops.clinic("counted")
    first, second = ops.sim.user(clinic, "ploy"), ops.sim.user(clinic, "nok")
    ops.stack.line.faults.add(LineTrouble.MONTHLY_LIMIT, when=lambda call: call.call is LineCall.REPLY)
    await ops.say(clinic, first, "ขูดหินปูนเท่าไหร่คะ")
    ops.stack.openai.faults.add(
        LlmTrouble(LlmFaultKind.BAD_REQUEST), when=lambda call: call.clinic == "counted"
    )
    await ops.say(clinic, second, "ฟอกสีฟันเท่าไหร่คะ")
    await ops.json("turns", "replay", "--all-failed", "--org", "counted")
    await ops.stack.tasks.drained(10)
    await ops.do(ops.sim.message(clinic, second, "sticker", packageId="1", stickerId="1", keywords=[]))
    await ops.json("conversations", "pause", "counted", second)
    await ops.say(clinic, second, "มีใครอยู่ไหมคะ")  # met with silence
    month = f"{datetime.now(ZoneInfo('Asia/Bangkok')):%Y-%m}"
    for _ in range(2):
        counted = await ops.json("insights", "--org", "counted")
        kinds = {"turns": 4, "answered": 2, "fixed": 1, "fallbacks": 1, "stopped": 0}
        assert {name: counted[name] for name in kinds} == kinds
        assert (counted["pushes"], counted["conversations"]) == (2, 2)
        assert await miscounted(ops.documents, "counted") == ""
        stated = await ops.json("statement", "counted", month)
        assert len(stated["charges"]) == 2
        assert stated["booked_micro_baht"] == sum(line["micro_baht"] for line in stated["charges"]) > 0
        await ops.json("customers", "forget", "counted", second, "--yes")


async def test_turn_that_got_stuck_with_its_call_is_answered_by_a_replay(ops: Ops) -> None:
    clinic = await ops.clinic("stuck")
    user = ops.sim.user(clinic, "ploy")
    own = {
        "org_id": "stuck",
        "chat_id": user,
        "user_id": user,
        "created_ms": time.time_ns() // 10**6 - 3_600_000,
    }
    turn = sample("stuck-turn", state=TurnState.RESERVED, failure=None, reply="", answered_ms=None, **own)
    await store(ops.documents, turn)
    for outcome in ("finishing", "answered"):
        (replay,) = (await ops.json("turns", "replay", "stuck-turn"))["turns"]
        assert replay["outcome"] == outcome
        await ops.stack.tasks.drained(10)
    ((how, text),) = ops.delivered(clinic)
    assert how is LineCall.PUSH
    assert "words of stuck-turn" in text


async def test_staff_take_a_conversation_over_and_give_it_back(ops: Ops) -> None:
    clinic = await ops.clinic("people")
    user = ops.sim.user(clinic, "ploy")
    await ops.json("conversations", "pause", "people", user)
    await ops.say(clinic, user, "มีใครอยู่ไหมคะ")
    assert ops.delivered(clinic) == []
    assert [h["chat_id"] for h in await ops.json("conversations", "list", "--org", "people")] == [user]
    for _ in range(2):
        await ops.json("conversations", "resume", "people", user, "--notify")
    sent = await ops.say(clinic, user, "ราคาจัดฟันเท่าไหร่คะ")
    (_, ended), (_, answer) = ops.delivered(clinic)
    known = settings.Clinic("people", "people", "", "")
    assert ended == texts.text(known, "handoff_ended")
    assert sent.text in answer


async def test_hand_off_that_staff_begin_while_a_turn_runs_is_not_lost(ops: Ops) -> None:
    clinic = await ops.clinic("meanwhile")
    user = ops.sim.user(clinic, "ploy")
    usual, ops.stack.openai.latency = ops.stack.openai.latency, Latency(median_s=1.5)
    await ops.sim.send(ops.sim.message(clinic, user, "text", text="ชื่อพลอยค่ะ แพ้ยาเพนิซิลลินค่ะ"))
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0.01)
            if ops.stack.openai.running_by_clinic["meanwhile"]:
                break
    ops.stack.openai.latency = usual
    await ops.json("conversations", "pause", "meanwhile", user)
    assert ops.stack.openai.running_by_clinic["meanwhile"]
    await ops.stack.tasks.drained(20)
    shown = await ops.json("customers", "show", "meanwhile", user)
    assert [fact["key"] for fact in shown["memory"]["facts"]] == ["nickname"]  # health waits for consent
    assert shown["memory"]["handoff_reason"] == "staff"
    before = len(ops.delivered(clinic))
    await ops.say(clinic, user, "ราคาเท่าไหร่คะ")
    assert len(ops.delivered(clinic)) == before


async def test_forgotten_customer_is_a_stranger_and_nothing_is_answered_again(ops: Ops) -> None:
    clinic = await ops.clinic("forgetting")
    user = ops.sim.user(clinic, "ploy")
    first = await ops.say(clinic, user, "ชื่อคานารีค่ะ แพ้ยาคานารีค่ะ ราคาขูดหินปูนเท่าไหร่คะ")
    waiting = InboundEvent("waits", "forgetting", user, EventKind.TEXT, 1, 1, text="คานารีรออยู่", user_id=user)
    redis = connect(ops.stack.redis.url)
    await RedisMailbox(redis, lease_ms=10, session_ttl_s=60).begin(waiting)
    await redis.aclose()
    exported = (await ops.fairlane("customers", "export", "forgetting", user)).stdout
    assert exported.count("คานารี") >= 5
    await ops.json("customers", "forget", "forgetting", user, "--yes")
    left = await documents_text(ops.documents) + await redis_text(ops.stack.redis.url)
    assert "คานารี" not in left
    logs = "".join(path.read_text() for path in ops.stack.logs)
    assert "คานารี" not in logs
    (turn,) = await ops.json("turns", "list", "--org", "forgetting")
    assert (turn["turn_id"], turn["state"]) == (first.event_id, "delivered")
    assert turn["cost_micro_baht"] > 0
    said = len(ops.delivered(clinic))
    await ops.sim.redeliver(first)
    again = await ops.say(clinic, user, "สวัสดีค่ะ")
    assert len(ops.delivered(clinic)) == said + 1
    call = next(call for call in reversed(ops.stack.openai.calls) if again.text in call.last_words)
    assert "คานารี" not in str(call.messages)


async def test_data_of_a_customer_who_left_goes_after_thirty_days(ops: Ops) -> None:
    clinic = await ops.clinic("leaving")
    user = ops.sim.user(clinic, "ploy")
    await ops.say(clinic, user, "ชื่อพลอยค่ะ สนใจจัดฟัน")
    (remembered,) = await ops.documents.get_many([Key("customer_memory", f"leaving:{user}")])
    assert remembered is not None
    assert remembered.data["expire_at"] > datetime.now(UTC) + timedelta(days=360)
    await ops.do(ops.sim.event(clinic, user, "unfollow"))
    (left,) = await ops.documents.get_many([Key("customer_memory", f"leaving:{user}")])
    assert left is not None
    days = (left.data["expire_at"] - datetime.now(UTC)) / timedelta(days=1)
    assert 29.9 < days <= 30
    shown = await ops.json("customers", "show", "leaving", user)
    assert shown["session"]["exchanges"] == []
    assert shown["session"]["service"] is None
    assert len(ops.delivered(clinic)) == 1


async def test_unsent_message_leaves_no_word_behind_whether_or_not_its_turn_had_begun(ops: Ops) -> None:
    clinic = await ops.clinic("unsent")
    user = ops.sim.user(clinic, "ploy")
    ops.stack.tasks.pause()
    message = await ops.sim.send(ops.sim.message(clinic, user, "text", text="ส่งผิดค่ะ"))
    unsend = ops.sim.event(clinic, user, "unsend", unsend={"messageId": message.event["message"]["id"]})
    await ops.sim.send(unsend)
    ops.stack.tasks.resume()
    await ops.stack.tasks.drained(20)
    assert "ส่งผิด" not in await documents_text(ops.documents) + await redis_text(ops.stack.redis.url)
