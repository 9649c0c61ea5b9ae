"""However the asking of a model ends: what is written, what becomes of the hold, what the customer reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from core.domain.budget import Decision, Kind, Reason
from core.domain.errors import RedisUnavailableError
from core.domain.event import EventKind, InboundEvent
from core.domain.inbound_policy import TurnPlan
from core.domain.memory import CustomerMemory
from core.domain.model_reply import ModelReply
from core.domain.moment import Moment
from core.domain.prices import UnpricedModelError
from core.domain.session import Session
from core.domain.task import EffectTask
from core.domain.texts import text
from core.domain.turn import TurnRecord, TurnState
from core.ports.line import ChannelCredentials
from core.ports.mailbox import Waiting
from core.ports.slots import NoSlotError, Refusal
from core.usecases.desk.chat import DeskChat
from core.usecases.journal.entries import ContendedError, StoppedError, Stored, TurnMovedError
from core.usecases.outbox.outbox import Outbox
from core.usecases.turn.answer import Answer, AnswerPolicy
from core.usecases.turn.context import Turn, TurnContext
from core.usecases.turn.delivery import Delivery
from core.usecases.turn.give_up import GiveUp
from core.usecases.turn.hold import AskFailedError, Hold, Holds
from core.usecases.turn.listen import Listen
from core.usecases.turn.load import LoadTurn
from core.usecases.turn.media import Fetched, Media
from core.usecases.turn.model import AskModel
from tests.support.clock import FakeClock
from tests.support.holds import CLINIC, NOTHING_LOADED, NotedJournal, a_hold
from tests.support.turn_samples import BEGUN_MS, CUSTOMER

STOPPED = StoppedError(Decision(Kind.STOP, None, 0, Reason.BUDGET_SPENT), NOTHING_LOADED.books, 1)


class Loaded(LoadTurn):
    def __init__(self) -> None: ...

    async def __call__(self, turn: Turn) -> TurnContext:
        channel = ChannelCredentials("1650000001", "secret")
        nothing = replace(NOTHING_LOADED, also=(None, None))
        return TurnContext(turn, CLINIC, channel, nothing, CustomerMemory(), Moment(BEGUN_MS))

    async def changed_by(self, context: TurnContext, plan: TurnPlan) -> TurnContext:
        return context


class Quoted(Holds):
    """`refuses`: instead of a hold."""

    def __init__(self, hold: Hold, refuses: Exception | None = None) -> None:
        self.hold = hold
        self.refuses = refuses

    async def quote(self, *_: Any) -> Hold:
        if self.refuses:
            raise self.refuses
        return self.hold


class Asked(AskModel):
    """Reserves and calls, if `calls`, and ends as it is told to."""

    def __init__(self, end: ModelReply | BaseException, *, calls: bool) -> None:
        self.end = end
        self.calls = calls

    async def __call__(self, hold: Hold, *_: Any) -> ModelReply:
        if self.calls:
            await hold.reserve(hold.provider)
            hold.bill.attempts += 1
        if isinstance(self.end, BaseException):
            raise self.end
        return self.end


class Handed(Delivery):
    def __init__(self) -> None:
        self.records: list[TurnRecord] = []

    def marked(self, channel: ChannelCredentials, record: TurnRecord, *, leads: bool = True) -> TurnRecord:
        return record

    @asynccontextmanager
    async def showing(self, *_: Any) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        async def show() -> None: ...

        yield show

    async def __call__(self, channel: ChannelCredentials, stored: Stored, **_: Any) -> Stored:
        self.records.append(stored.record)
        return stored


class NothingSent(Media):
    def __init__(self) -> None: ...

    async def takes(self, *_: Any) -> frozenset[str]:
        return frozenset()

    @asynccontextmanager
    async def fetched(self, _: ChannelCredentials, record: TurnRecord, *__: Any) -> AsyncIterator[Fetched]:
        yield Fetched(record)


class NobodyListens(Listen):
    def __init__(self) -> None: ...


class NobodyGivesUp(GiveUp):
    def __init__(self) -> None: ...


class NoDesk(DeskChat):
    def __init__(self) -> None: ...

    async def answer(self, *_: Any) -> None:
        return None


class Enqueued(Outbox):
    def __init__(self) -> None:
        self.effects: list[EffectTask] = []

    async def enqueue(self, *effects: EffectTask) -> None:
        self.effects += effects


class Scene:
    def __init__(
        self,
        clock: FakeClock,
        end: ModelReply | BaseException,
        *,
        calls: bool = True,
        refuses: Exception | None = None,
    ) -> None:
        self.steps: list[str] = []
        self.delivery = Handed()
        self.outbox = Enqueued()
        self.answer = Answer(
            Loaded(),
            NotedJournal(self.steps),
            Quoted(a_hold(self.steps), refuses),
            Asked(end, calls=calls),
            NothingSent(),
            NobodyListens(),
            self.delivery,
            NoDesk(),
            self.outbox,
            NobodyGivesUp(),
            clock,
            AnswerPolicy(patience_s=120, session_ttl_s=1800),
        )

    async def __call__(self) -> TurnRecord:
        """The record that went to LINE."""
        event = InboundEvent(
            "E1", CUSTOMER.org_id, CUSTOMER.chat_id, EventKind.TEXT, BEGUN_MS, BEGUN_MS, text="ราคาเท่าไหร่คะ"
        )
        answered = await self.answer(Turn(CUSTOMER, 7, Waiting((event,)), Session(), "E1"))
        assert answered.done_ids == ("E1",)
        (record,) = self.delivery.records
        return record


async def test_reply_is_settled_and_delivered(clock: FakeClock) -> None:
    scene = Scene(clock, ModelReply("900 บาทค่ะ"))
    record = await scene()
    assert (record.state, record.reply, record.failure) == (TurnState.ANSWERED, "900 บาทค่ะ", None)
    assert scene.steps == ["reserve", "settle"]
    assert not scene.outbox.effects


async def test_hand_off_by_the_model_causes_a_notice(clock: FakeClock) -> None:
    scene = Scene(clock, ModelReply("ได้ค่ะ", handoff="wants a refund"))
    record = await scene()
    assert [effect.id for effect in record.effects] == ["turn-handoff"]
    assert scene.outbox.effects == list(record.effects)


@pytest.mark.parametrize(
    ("end", "reason", "key"),
    [
        (AskFailedError("bad_answer"), "bad_answer", "busy"),
        (AskFailedError("budget"), "budget", "budget"),
        (AskFailedError("refusal"), "refusal", "staff"),
        (KeyError("a defect"), "defect_KeyError", "busy"),
    ],
    ids=["failed", "no budget for another attempt", "declined", "defect"],
)
async def test_called_without_a_reply_it_ends_with_an_apology_in_settled_books(
    clock: FakeClock, end: Exception, reason: str, key: str
) -> None:
    scene = Scene(clock, end)
    record = await scene()
    assert (record.reply, record.failure) == (text(CLINIC, key), reason)
    assert scene.steps == ["reserve", "settle"]


@pytest.mark.parametrize(
    "end",
    [
        NoSlotError(Refusal.DRAINING, 100),
        RedisUnavailableError("gone"),
        ContendedError("a commit"),
        asyncio.CancelledError(),
    ],
    ids=["draining", "redis", "contended", "cancelled"],
)
async def test_what_goes_on_elsewhere_leaves_no_hold_behind(clock: FakeClock, end: BaseException) -> None:
    scene = Scene(clock, end)
    with pytest.raises(type(end)):
        await scene()
    assert scene.steps == ["reserve", "leave"]


async def test_turn_that_moved_is_not_written_any_more(clock: FakeClock) -> None:
    scene = Scene(clock, TurnMovedError("elsewhere"))
    with pytest.raises(TurnMovedError):
        await scene()
    assert scene.steps == ["reserve"]


async def test_defect_before_a_call_is_tried_again(clock: FakeClock) -> None:
    scene = Scene(clock, KeyError("a defect"), calls=False)
    with pytest.raises(KeyError):
        await scene()
    assert scene.steps == []


async def test_stopped_turn_says_why(clock: FakeClock) -> None:
    scene = Scene(clock, ModelReply("never"), refuses=STOPPED)
    record = await scene()
    assert (record.reply, record.failure, record.push_allowed) == (text(CLINIC, "budget"), "budget", False)
    assert scene.steps == ["stop"]


async def test_model_without_a_price_is_not_met_with_silence(clock: FakeClock) -> None:
    scene = Scene(clock, ModelReply("never"), refuses=UnpricedModelError("gpt-x", ["gpt-y"]))
    record = await scene()
    assert (record.reply, record.failure) == (text(CLINIC, "busy"), "unpriced_model")
    assert scene.steps == ["answer"]


async def test_request_larger_than_a_minute_has_tokens_is_not_met_with_silence(clock: FakeClock) -> None:
    scene = Scene(clock, NoSlotError(Refusal.TOO_LARGE, 0), calls=False)
    record = await scene()
    assert (record.reply, record.failure) == (text(CLINIC, "busy"), "too_large")
    assert scene.steps == ["answer"]
