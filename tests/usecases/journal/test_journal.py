"""Who may write a turn, and when: claims, take-over, and a reply's way to LINE, on both document stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from pytest_mock import MockerFixture
from redis.asyncio import Redis

from core.adapters.redis_mailbox import RedisMailbox
from core.domain.event import TOKEN_FRESH_MS, Conversation, EventKind, InboundEvent
from core.domain.turn import TurnEvent, TurnRecord, TurnState
from core.ports.documents import DocumentStore
from core.ports.line import ChannelCredentials, LineError, LineFault, Sent
from core.ports.mailbox import Lead
from core.usecases.journal.books import Books, day_key
from core.usecases.journal.entries import Stored, TurnMovedError
from core.usecases.journal.journal import Journal
from core.usecases.turn.delivery import ANNOUNCED_FROM_MS, Delivery
from core.usecases.turn.line_delivery import LineDelivery
from tests.support.clock import FakeClock
from tests.support.turn_samples import CUSTOMER, sample, store

ORG, DAY, CHAT = "bkk-smile", "20261124", "U" + "a" * 32
CHANNEL = ChannelCredentials("1650000001", "s3cret")


def answered(clock: FakeClock, **changes: Any) -> TurnRecord:
    now_ms = clock.now_ms()
    record = TurnRecord(
        id="E1",
        org_id=ORG,
        channel="line",
        chat_id=CHAT,
        chat_type="user",
        user_id=CHAT,
        state=TurnState.ANSWERED,
        events=(TurnEvent("E1", EventKind.TEXT, "ราคาเท่าไหร่คะ", now_ms, now_ms, "m1"),),
        created_ms=now_ms,
        fence=1,
        reply="900 บาทค่ะ",
        reply_token="token",
        token_arrived_ms=now_ms,
        answered_ms=now_ms,
    )
    return replace(record, **changes)


@pytest.fixture
def journal(documents: DocumentStore, clock: FakeClock) -> Journal:
    return Journal(documents, clock)


async def stored(journal: Journal, record: TurnRecord) -> Stored:
    return await journal.answer(record, record.event_ids, None, Books.of(day_key(ORG, DAY), None))


async def found(journal: Journal) -> TurnRecord:
    return (await journal.load(ORG, DAY, "E1", ["E1"])).turns["E1"].record


async def test_event_is_claimed_by_one_turn_only(journal: Journal, clock: FakeClock) -> None:
    await stored(journal, answered(clock))
    with pytest.raises(TurnMovedError):
        await stored(journal, answered(clock, id="E2", fence=2))
    loaded = await journal.load(ORG, DAY, "E2", ["E1"])
    assert loaded.claims == {"E1": "E1"}
    assert set(loaded.turns) == {"E1"}


async def test_leader_that_was_taken_over_can_write_nothing(journal: Journal, clock: FakeClock) -> None:
    mine = await stored(journal, answered(clock))
    taken = await journal.take_over(mine, fence=2)
    for change in ({"delivering": "push"}, {"state": TurnState.DELIVERED}):
        with pytest.raises(TurnMovedError):
            await journal.update(mine, replace(mine.record, **change))
    delivered = await journal.update(taken, replace(taken.record, state=TurnState.DELIVERED))
    assert (await found(journal)) == delivered.record
    with pytest.raises(TurnMovedError):
        await journal.take_over(mine, fence=3)  # what it had read has changed since


async def test_message_that_is_unsent_meanwhile_stays_forgotten(journal: Journal, clock: FakeClock) -> None:
    mine = await stored(journal, answered(clock))
    for _ in range(2):
        (forgotten,) = await journal.forget_message(Conversation(ORG, "line", CHAT), "m1")
        assert forgotten == mine.record.without_words()
    written = await journal.update(
        mine, replace(mine.record, state=TurnState.DELIVERED, delivered_how="reply")
    )
    record = await found(journal)
    assert record == written.record
    assert (record.state, record.delivered_how) == (TurnState.DELIVERED, "reply")
    assert (record.reply, record.events[0].text) == ("", "")


async def test_what_is_taken_out_of_a_map_is_gone_from_the_turns_document(
    journal: Journal, clock: FakeClock
) -> None:
    maps = {"guard": {"amounts": ["500"], "outcome": "unsure"}, "prompt": {"day": "2026-11-24", "rest": "d"}}
    mine = await stored(journal, answered(clock, **maps))
    (forgotten,) = await journal.forget_message(Conversation(ORG, "line", CHAT), "m1")
    assert (await found(journal)) == forgotten == mine.record.without_words()
    assert dict(forgotten.guard) == {"outcome": "unsure"}


async def test_unsending_reads_the_messages_own_turns_however_long_the_chat_is(
    documents: DocumentStore, clock: FakeClock, mocker: MockerFixture
) -> None:
    journal = Journal(documents, clock)
    await store(documents, *(sample(f"t{n}", events=(message(f"t{n}", f"m{n}"),)) for n in range(40)))
    await store(documents, sample("elsewhere", chat_id="U" + "9" * 32, events=(message("elsewhere", "m7"),)))
    query = mocker.spy(type(documents), "query")
    for n in (7, 8):
        (forgotten,) = await journal.forget_message(CUSTOMER, f"m{n}")
        assert (forgotten.id, forgotten.events[0].text) == (f"t{n}", "")
    assert sum(len(found) for found in query.spy_return_list) <= 3


def message(event_id: str, message_id: str) -> TurnEvent:
    return TurnEvent(event_id, EventKind.TEXT, "words", 1, 1, message_id)


class CrashError(BaseException):
    """The process ended here."""


class FarSide:
    """LINE, which looks at the journal when it is called."""

    def __init__(self, journal: Journal, *faults: LineFault, crash: bool = False) -> None:
        self.journal = journal
        self.crash = crash
        self.faults = list(faults)
        self.calls: list[tuple[str, str | None]] = []

    async def _call(self, how: str) -> Sent:
        self.calls.append((how, (await found(self.journal)).delivering))
        if self.crash:
            raise CrashError
        if self.faults:
            raise LineError(self.faults.pop(0), "refused")
        return Sent(("m2",))

    async def reply(self, *_: Any) -> Sent:
        return await self._call("reply")

    async def push(self, *_: Any, **more: Any) -> Sent:
        return await self._call("push")


HERE = Conversation(ORG, "line", CHAT)


@pytest.fixture
async def mailbox(redis_url: str) -> AsyncIterator[RedisMailbox]:
    async with Redis.from_url(redis_url) as redis:
        yield RedisMailbox(redis, lease_ms=10_000, session_ttl_s=60)


async def led(mailbox: RedisMailbox) -> int:
    """The fence of a leader of the conversation."""
    begun = await mailbox.begin(InboundEvent("E1", ORG, CHAT, EventKind.TEXT, 1, 1))
    assert isinstance(begun, Lead)
    return begun.fence


def delivery(
    journal: Journal, line: FarSide, clock: FakeClock, mailbox: RedisMailbox | None = None
) -> Delivery:
    return Delivery(LineDelivery(line, clock), line, journal, mailbox, clock)  # type: ignore[arg-type]


async def test_journal_says_push_before_a_push_although_the_token_was_fresh_when_the_reply_was_stored(
    journal: Journal, clock: FakeClock
) -> None:
    line = FarSide(journal)
    over = delivery(journal, line, clock)
    reply = await stored(journal, over.marked(CHANNEL, answered(clock)))
    assert reply.record.delivering == "reply"
    clock.advance(TOKEN_FRESH_MS / 1000 + 1)
    delivered = await over(CHANNEL, reply)
    assert line.calls == [("push", "push")]
    assert delivered.record.delivered_how == "push"


async def test_refused_token_of_a_first_call_gives_way_to_a_push(journal: Journal, clock: FakeClock) -> None:
    line = FarSide(journal, LineFault.INVALID_TOKEN)
    over = delivery(journal, line, clock)
    await over(CHANNEL, await stored(journal, over.marked(CHANNEL, answered(clock))))
    assert line.calls == [("reply", "reply"), ("push", "push")]


@pytest.mark.parametrize(
    ("age_s", "state", "presumed", "failure"),
    [
        (TOKEN_FRESH_MS / 1000, TurnState.DELIVERED, True, None),
        (TOKEN_FRESH_MS / 1000 + 1, TurnState.FAILED, False, "undeliverable: unknown"),
    ],
    ids=["fresh", "stale"],
)
async def test_refused_token_after_a_crash_means_that_line_had_accepted_only_while_it_is_fresh(
    journal: Journal, clock: FakeClock, age_s: float, state: TurnState, presumed: bool, failure: str | None
) -> None:
    line = FarSide(journal, LineFault.INVALID_TOKEN)
    over = delivery(journal, line, clock)
    left = await stored(journal, over.marked(CHANNEL, answered(clock)))
    clock.advance(age_s)
    taken = await journal.take_over(left, fence=2)
    await over(CHANNEL, taken, called_before=await over.may_have_called(left.record))
    assert line.calls == [("reply", "reply")]
    record = await found(journal)
    assert (record.state, record.presumed, record.failure) == (state, presumed, failure)


async def test_slow_leader_whose_turn_was_delivered_by_another_does_not_push(
    journal: Journal, clock: FakeClock
) -> None:
    line = FarSide(journal, LineFault.INVALID_TOKEN)  # the other one's reply has used the token
    over = delivery(journal, line, clock)
    mine = await stored(journal, over.marked(CHANNEL, answered(clock)))
    await journal.take_over(mine, fence=2)
    with pytest.raises(TurnMovedError):
        await over(CHANNEL, mine)
    assert line.calls == [("reply", "reply")]


async def test_reply_whose_leader_died_before_it_called_line_is_pushed_when_its_token_is_stale(
    journal: Journal, clock: FakeClock, mailbox: RedisMailbox
) -> None:
    line = FarSide(journal)
    over = delivery(journal, line, clock, mailbox)
    record = answered(clock, fence=await led(mailbox))
    clock.advance(ANNOUNCED_FROM_MS / 1000)
    left = await stored(journal, over.marked(CHANNEL, record))
    assert (left.record.delivering, left.record.announced) == ("reply", True)
    clock.advance(60)
    called_before = await over.may_have_called(left.record)
    taken = await journal.take_over(left, fence=left.record.fence + 1)
    delivered = await over(CHANNEL, taken, called_before=called_before)
    assert line.calls == [("push", "push")]
    assert (delivered.record.state, delivered.record.delivered_how) == (TurnState.DELIVERED, "push")


@pytest.mark.parametrize("then", ["trace is there", "trace is lost"])
async def test_reply_whose_leader_died_while_it_called_line_is_not_pushed(
    journal: Journal, clock: FakeClock, mailbox: RedisMailbox, redis_url: str, then: str
) -> None:
    record = answered(clock, fence=await led(mailbox))
    clock.advance(ANNOUNCED_FROM_MS / 1000)
    dying = FarSide(journal, crash=True)
    over = delivery(journal, dying, clock, mailbox)
    left = await stored(journal, over.marked(CHANNEL, record))
    with pytest.raises(CrashError):
        await over(CHANNEL, left)
    assert dying.calls == [("reply", "reply")]
    clock.advance(60)
    async with Redis.from_url(redis_url) as redis:
        if then == "trace is lost":
            await redis.flushall()
            # Of a process that has known no other data.
            mailbox = RedisMailbox(redis, lease_ms=10_000, session_ttl_s=60)
        else:
            await mailbox.finish(HERE, record.fence, ())
        line = FarSide(journal, LineFault.INVALID_TOKEN)
        over = delivery(journal, line, clock, mailbox)
        fence = await led(mailbox)
        called_before = await over.may_have_called(left.record)
        taken = await journal.take_over(left, fence)
        ended = (await over(CHANNEL, taken, called_before=called_before)).record
        assert (ended.failure, line.calls) == ("undeliverable: unknown", [("reply", "reply")])
        assert await over.may_have_called(taken.record) == "reply", "whoever comes then is told the same"


async def test_leader_that_was_overtaken_does_not_call_line_with_an_old_token(
    journal: Journal, clock: FakeClock, mailbox: RedisMailbox
) -> None:
    line = FarSide(journal)
    over = delivery(journal, line, clock, mailbox)
    fence = await led(mailbox)
    clock.advance(ANNOUNCED_FROM_MS / 1000)
    record = answered(clock, fence=fence, token_arrived_ms=clock.now_ms() - ANNOUNCED_FROM_MS)
    mine = await stored(journal, over.marked(CHANNEL, record))
    await mailbox.finish(HERE, fence, ())
    await led(mailbox)
    with pytest.raises(TurnMovedError):
        await over(CHANNEL, mine)
    assert line.calls == []
