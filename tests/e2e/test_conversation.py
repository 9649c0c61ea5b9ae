"""The conversation through the real functions: state and memory over instances, whoever writes from wherever,
everything that LINE sends besides text, and a Redis that stops or hangs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from core.adapters.file_secrets import FileSecrets
from core.adapters.sqlite_documents import SqliteDocuments
from core.domain import clinic as settings
from core.domain import texts
from core.domain.event_kinds import KINDS, is_wordless
from core.domain.task import TurnTask
from core.local import demo_answers
from core.local.line_events import line_id
from core.local.openai_api import Call, Latency
from core.local.simulator import Clinic, LineSimulator, Sent
from core.local.stack import LocalStack, StackOptions
from core.local.task_dispatcher import Attempt, DispatchPlan
from core.ports.documents import Key, Merge
from core.usecases.clinics.documents import channel_document, org_document

pytestmark = pytest.mark.asyncio(loop_scope="module")

INSTANCES = 4


class Talk:
    """A stack with four turn instances; every test has clinics of its own."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self.sim = LineSimulator(stack.line, stack.webhook_url)
        self.documents = SqliteDocuments(stack.documents_url.removeprefix("sqlite:"))
        self._secrets = FileSecrets(stack.settings_env["SECRET_STORE"].removeprefix("file:"))
        self._steered: dict[str, int] = {}
        stack.tasks.on_dispatch = self._plan
        stack.openai.answer = demo_answers.answer

    async def close(self) -> None:
        await self.sim.close()
        await self.documents.close()

    async def clinic(self, org_id: str, **more: Any) -> Clinic:
        clinic = self.sim.clinic(org_id, name=org_id)
        channel = clinic.channel
        known = settings.Clinic(org_id, org_id, channel.bot_user_id, channel.channel_id, "Persona.", **more)
        secret = {"channel_id": channel.channel_id, "channel_secret": channel.channel_secret}
        await self._secrets.put(known.secret_name, secret)
        await self.documents.commit(
            [
                Merge(Key("orgs", org_id), org_document(known)),
                Merge(Key("line_channels", channel.bot_user_id), channel_document(org_id)),
            ]
        )
        return clinic

    def _plan(self, attempt: Attempt) -> DispatchPlan | None:
        instance = self._steered.get(TurnTask.decode(attempt.body).event.event_id)
        return None if instance is None else DispatchPlan(target=self.stack.turn_urls[instance])

    async def say(
        self, clinic: Clinic, user: str, words: str, *, instance: int | None = None, **more: Any
    ) -> Sent:
        """Said and done: answered, or finished with in silence."""
        return await self.do(self.sim.message(clinic, user, "text", text=words, **more), instance)

    async def do(self, sent: Sent, instance: int | None = None) -> Sent:
        if instance is not None:
            self._steered[sent.event_id] = instance
        await self.sim.send(sent)
        assert sent.acks[0].status == 200
        await self.stack.tasks.drained(20)
        return sent

    def answers(self, sent: Sent) -> list[str]:
        return [text for delivery in self.sim.answers(sent.event_id) for text in delivery.texts]

    def call(self, sent: Sent) -> Call:
        """The one call of the model about a message."""
        (call,) = self.calls(sent)
        return call

    def calls(self, sent: Sent) -> list[Call]:
        of_clinic = [call for call in self.stack.openai.calls if call.clinic == sent.clinic.org_id]
        return [call for call in of_clinic if sent.text and sent.text in call.last_words]


def prompt(call: Call) -> str:
    return "\n".join(f"{m['role']}: {m['content']}" for m in call.messages)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def talk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Talk]:
    options = StackOptions(
        turns=INSTANCES,
        run_dir=tmp_path_factory.mktemp("conversation"),
        latency=Latency(median_s=0.03),
        environment={"SENDER_MESSAGES_PER_10S": "1000", "SLOT_LEASE_S": "2"},
    )
    async with LocalStack(options) as stack:
        talk = Talk(stack)
        yield talk
        await talk.close()


async def test_five_turns_over_four_instances_and_a_restart_know_all_that_was_said(talk: Talk) -> None:
    clinic = await talk.clinic("five-turns")
    user = talk.sim.user(clinic, "ploy")
    words = ("ชื่อพลอยค่ะ", "สนใจฟอกสีฟันค่ะ", "แพ้ยาเพนิซิลลินค่ะ", "ราคาเท่าไหร่คะ", "ตกลงนัดวันศุกร์ค่ะ")
    spoken: list[Sent] = []
    for i, said in enumerate(words):
        if i == 3:
            await talk.stack.kill_turn(0)
            await talk.stack.restart_turn(0)
        sent = await talk.say(clinic, user, said, instance=i % INSTANCES)
        (answer,) = talk.answers(sent)
        known = prompt(talk.call(sent))
        for earlier in spoken:
            assert f"user: {earlier.text}" in known
            assert f"assistant: {talk.answers(earlier)[0]}" in known
        assert "คุณพลอย" in answer
        spoken.append(sent)
    state = demo_answers.tagged(talk.call(spoken[-1]).messages, "state")
    assert (state["service"], state["stage"]) == ("ฟอกสีฟัน", "advising")
    logs = [log.read_text() for log in talk.stack.logs if log.stem.startswith("turn")]
    assert [sum(f'"turn":"{s.event_id}"' in log for s in spoken) for log in logs] == [2, 1, 1, 1]


async def test_after_its_time_to_live_a_conversation_begins_anew_and_the_memory_stays(talk: Talk) -> None:
    await talk.stack.restart_turn(3, environment={"SESSION_TTL_S": "3"})
    clinic = await talk.clinic("forgetful")
    user = talk.sim.user(clinic, "ploy")
    await talk.say(clinic, user, "ชื่อพลอยค่ะ สนใจจัดฟัน", instance=3)
    soon = await talk.say(clinic, user, "ราคาเท่าไหร่คะ", instance=3)
    assert "user: ชื่อพลอยค่ะ สนใจจัดฟัน" in prompt(talk.call(soon))
    await asyncio.sleep(3.2)
    late = await talk.say(clinic, user, "กลับมาแล้วค่ะ", instance=3)
    assert "จัดฟัน" not in prompt(talk.call(late))
    assert demo_answers.tagged(talk.call(late).messages, "state")["stage"] == "greeting"
    assert demo_answers.tagged(talk.call(late).messages, "memory") == {"nickname": "พลอย"}


async def test_two_clinics_with_the_same_user_id_never_see_each_others(talk: Talk) -> None:
    one, other = await talk.clinic("one-side"), await talk.clinic("other-side")
    user = line_id("U", "the same customer")
    for clinic, name in ((one, "นัท"), (other, "บีม")):
        await talk.say(clinic, user, f"ชื่อ{name}ค่ะ")
    for clinic, name, stranger in ((one, "นัท", "บีม"), (other, "บีม", "นัท")):
        again = await talk.say(clinic, user, "จำได้ไหมคะ")
        (answer,) = talk.answers(again)
        assert f"คุณ{name}" in answer
        assert stranger not in prompt(talk.call(again))


async def test_in_a_group_only_what_addresses_the_bot_is_answered(talk: Talk) -> None:
    clinic = await talk.clinic("in-a-group")
    group, user = line_id("C", "group"), talk.sim.user(clinic, "nok")
    chatter = await talk.say(clinic, user, "เย็นนี้กินอะไรดี", chat_id=group)
    assert (talk.answers(chatter), talk.calls(chatter)) == ([], [])
    mention = await talk.say(clinic, user, "ขูดหินปูนราคาเท่าไหร่", chat_id=group, mention_bot=True)
    assert len(talk.answers(mention)) == 1
    (delivery,) = talk.sim.answers(mention.event_id)
    quoting = await talk.say(
        clinic, user, "แล้วฟอกสีฟันล่ะ", chat_id=group, quotedMessageId=delivery.message_ids[0]
    )
    assert len(talk.answers(quoting)) == 1
    assert "เย็นนี้กินอะไรดี" not in prompt(talk.call(quoting))


@pytest.mark.parametrize("kind", [k for k in KINDS if is_wordless(k) and k != "unknown"])
async def test_what_has_no_words_gets_a_truthful_line_without_the_model(talk: Talk, kind: str) -> None:
    clinic = await talk.clinic(f"sends-{kind}")
    sent = await talk.do(talk.sim.message(clinic, talk.sim.user(clinic, "may"), kind))
    key = f"{kind}_lost" if kind in {"image", "audio"} else kind  # LINE's stand-in has no bytes of it
    assert talk.answers(sent) == [texts.text(settings.Clinic("", "", "", ""), key)]
    assert not [call for call in talk.stack.openai.calls if call.clinic == clinic.org_id]


async def test_location_goes_into_the_prompt_and_a_follow_is_greeted(talk: Talk) -> None:
    clinic = await talk.clinic("follows", privacy_notice="ประกาศของคลินิก")
    user = talk.sim.user(clinic, "fon")
    follow = await talk.do(talk.sim.event(clinic, user, "follow"))
    assert len(talk.answers(follow)) == 1
    assert "ประกาศของคลินิก" in talk.answers(follow)[0]
    place = await talk.do(talk.sim.message(clinic, user, "location"))
    assert len(talk.answers(place)) == 1
    (call,) = [call for call in talk.stack.openai.calls if call.clinic == clinic.org_id]
    assert "ถนนสุขุมวิท" in call.last_words


async def test_unsent_message_is_forgotten_by_prompt_and_journal(talk: Talk) -> None:
    clinic = await talk.clinic("unsends")
    user = talk.sim.user(clinic, "ice")
    sent = await talk.say(clinic, user, "ชื่อไอซ์ครับ โทร 0812345678")
    assert len(talk.answers(sent)) == 1
    gone = talk.sim.event(clinic, user, "unsend", unsend={"messageId": sent.event["message"]["id"]})
    await talk.do(gone)
    assert len(talk.sim.answers(sent.event_id)) == 1
    later = await talk.say(clinic, user, "ถอนฟันเจ็บไหม")
    assert not re.search("0812345678|ไอซ์", prompt(talk.call(later)))
    stored = [*await talk.documents.query("turns"), *await talk.documents.query("customer_memory")]
    assert not [d.key for d in stored if re.search("0812345678|ไอซ์", str(d.data))]


@pytest.mark.parametrize("kind", ["unfollow", "memberLeft", "videoPlayComplete"])
async def test_other_events_are_taken_and_get_no_answer(talk: Talk, kind: str) -> None:
    clinic = await talk.clinic(f"no-{kind.lower()}")
    before = len(talk.stack.line.deliveries)
    await talk.do(talk.sim.event(clinic, talk.sim.user(clinic, "one"), kind))
    assert len(talk.stack.line.deliveries) == before


async def test_an_event_that_nobody_knows_is_taken(talk: Talk) -> None:
    clinic = await talk.clinic("no-teleport")
    sent = talk.sim.event(clinic, talk.sim.user(clinic, "one"), "teleport")
    body = json.dumps({"destination": clinic.channel.bot_user_id, "events": [sent.event]}).encode()
    assert (await talk.sim.post(clinic, body)).status == 200
    await talk.stack.tasks.drained(10)
    assert talk.answers(sent) == []


@pytest.mark.parametrize("how", ["hangs", "stops"])
async def test_what_is_acknowledged_while_redis_is_away_is_answered_when_it_is_back(
    talk: Talk, how: str
) -> None:
    clinic = await talk.clinic(f"redis-{how}")
    await talk.say(clinic, talk.sim.user(clinic, "early"), "เปิดกี่โมงคะ")
    redis = talk.stack.redis
    if how == "hangs":
        redis.pause()
    else:
        await redis.kill()
    said: Mapping[str, str] = {f"customer-{i}": f"คำถามที่ {i} ค่ะ" for i in range(3)}
    sent = await asyncio.gather(
        *(talk.sim.say(clinic, talk.sim.user(clinic, name), words) for name, words in said.items())
    )
    assert [s.acks[0].status for s in sent] == [200, 200, 200]
    assert max(s.acks[0].latency_s for s in sent) < 2.0
    await asyncio.sleep(3.0 if how == "hangs" else 0.5)  # past the clients' time-outs
    assert not any(talk.answers(s) for s in sent)
    if how == "hangs":
        redis.resume()
    else:
        await redis.start()
    assert await talk.sim.wait_answered([s.event_id for s in sent], 30) == []
    await talk.stack.tasks.drained(20)
    assert [len(talk.answers(s)) for s in sent] == [1, 1, 1]
    assert talk.stack.tasks.dead == []
