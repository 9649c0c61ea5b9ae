"""Every commit of a turn is made once, whatever the store says of it, and ends within its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import pytest

from core.domain.budget import DayBooks, Decision, Kind, Reason
from core.domain.errors import DocumentsUnavailableError
from core.domain.event import Conversation, EventKind
from core.domain.turn import TurnEvent, TurnRecord, TurnState
from core.ports.documents import DocumentStore
from core.ports.llm import Usage
from core.usecases.journal.books import Books, Settlement, day_key
from core.usecases.journal.entries import ContendedError, StoppedError, Stored, TurnMovedError
from core.usecases.journal.journal import Journal
from tests.support.clock import FakeClock
from tests.support.faulty_documents import CommitFaults, Fate, FaultyDocuments
from tests.support.recount import charged_by_day, miscounted

ORG, DAY, WORST, COST = "bkk-smile", "20261124", 1_000, 300
BUDGET = 10**9
DAY_NAME = f"org_ai_spend/{ORG}:{DAY}"


def draft(clock: FakeClock) -> TurnRecord:
    now_ms = clock.now_ms()
    event = TurnEvent("E1", EventKind.TEXT, "ราคาเท่าไหร่คะ", now_ms, now_ms, "m1")
    return TurnRecord("E1", ORG, "line", "U1", "user", TurnState.RESERVED, (event,), now_ms, fence=1)


def call(day: DayBooks) -> tuple[Decision, int]:
    return Decision(Kind.PRIMARY, "big", WORST, Reason.WITHIN_BUDGET), BUDGET


class Turn:
    """One turn's way through the journal, by steps."""

    def __init__(self, documents: DocumentStore, clock: FakeClock) -> None:
        self.clock = clock
        self.journal = Journal(documents, clock)

    async def reserve(self, _: Stored | None = None) -> Stored:
        loaded = await self.journal.load(ORG, DAY, "E1", ["E1"])
        return await self.journal.reserve(draft(self.clock), ["E1"], loaded, call)

    async def stop(self, _: Stored | None = None) -> Stored:
        books = Books.of(day_key(ORG, DAY), None)
        stopped = StoppedError(Decision(Kind.STOP, None, 0, Reason.BUDGET_SPENT), books, BUDGET)
        ready = replace(draft(self.clock), state=TurnState.ANSWERED, failure="budget")
        return await self.journal.stop(ready, ["E1"], None, stopped)

    async def answer(self, _: Stored | None = None) -> Stored:
        ready = replace(
            draft(self.clock), state=TurnState.ANSWERED, reply="900 บาทค่ะ", answered_ms=self.clock.now_ms()
        )
        ready = ready.with_money(decision="none", reason="sticker")
        return await self.journal.answer(ready, ["E1"], None, Books.of(day_key(ORG, DAY), None))

    async def grow(self, stored: Stored | None) -> Stored:
        assert stored
        grown = await self.journal.grow(stored, lambda *_: True)
        assert grown
        return grown

    async def settle(self, stored: Stored | None) -> Stored:
        assert stored
        money = stored.record.money
        now_ms = self.clock.now_ms()
        settled = replace(stored.record, state=TurnState.ANSWERED, reply="900 บาทค่ะ", answered_ms=now_ms)
        settled = settled.with_money(held_micro_baht=0, cost_micro_baht=COST)
        ended = Settlement("E1", "big", released=money.held_micro_baht, cost=COST, usages=[Usage(1, 1)])
        return await self.journal.settle(stored, settled, ended)

    async def leave(self, stored: Stored | None) -> Stored:
        """Given back by a leader that has called nobody."""
        assert stored
        released = Settlement("E1", "big", released=stored.record.money.held_micro_baht, ends=False)
        left = stored.record.with_money(held_micro_baht=0)
        return await self.journal.settle(stored, left, released, insist=False)

    async def take_over(self, stored: Stored | None) -> Stored:
        assert stored
        return await self.journal.take_over(stored, fence=2)

    async def deliver(self, stored: Stored | None) -> Stored:
        assert stored
        delivered = replace(stored.record, state=TurnState.DELIVERED, delivered_how="push")
        return await self.journal.update(stored, delivered)

    async def go(self, *steps: str, stored: Stored | None = None) -> Stored:
        for step in steps:
            take: Callable[[Stored | None], Coroutine[Any, Any, Stored]] = getattr(self, step)
            stored = await take(stored)
        assert stored
        return stored


# What goes before, the step whose commits have faults, and the day after it: spent, held, turns, stopped.
STEPS = [
    ((), "reserve", (0, WORST, 0, 0)),
    ((), "stop", (0, 0, 0, 1)),
    ((), "answer", (0, 0, 0, 0)),
    (("reserve",), "grow", (0, 2 * WORST, 0, 0)),
    (("reserve",), "leave", (0, 0, 0, 0)),
    (("reserve",), "settle", (COST, 0, 1, 0)),
    (("reserve", "grow"), "settle", (COST, 0, 1, 0)),
    (("answer",), "take_over", (0, 0, 0, 0)),
    (("answer",), "deliver", (0, 0, 0, 0)),
]
FAULTS = [[Fate.LANDED], [Fate.LOST, Fate.CONTENDED, Fate.LOST, Fate.LANDED], [Fate.LOST]]


async def the_day(documents: DocumentStore) -> DayBooks:
    (document,) = await documents.get_many([day_key(ORG, DAY)])
    return DayBooks.parse(document.data if document else None)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "ABORTED"])
@pytest.mark.parametrize("script", FAULTS, ids="-".join)
@pytest.mark.parametrize(("before", "step", "day"), STEPS, ids=[" ".join((*s[0], s[1])) for s in STEPS])
async def test_commit_is_made_once_whatever_the_store_says_of_it(
    documents: DocumentStore,
    clock: FakeClock,
    before: Sequence[str],
    step: str,
    day: tuple[int, ...],
    script: list[Fate],
    code: str,
) -> None:
    stored = await Turn(documents, clock).go(*before) if before else None
    faults = CommitFaults(script=list(script), codes=[code])
    written = await Turn(FaultyDocuments(documents, faults), clock).go(step, stored=stored)
    assert faults.script == []
    found = await Turn(documents, clock).journal.load(ORG, DAY, "E1", ["E1"])
    assert found.turns["E1"] == written
    books = await the_day(documents)
    assert (books.spent, books.held, books.turns, books.stopped) == day
    assert await miscounted(documents, ORG) == ""
    assert await charged_by_day(documents, ORG) == ({DAY: books.spent} if books.spent else {})
    # Whoever wrote it can go on: the version is the one that the store has.
    await Turn(documents, clock).journal.update(written, replace(written.record, waited_ms=1))


async def test_commit_that_was_made_is_recognised_although_words_were_unsent_since(
    documents: DocumentStore, clock: FakeClock
) -> None:
    turn = Turn(documents, clock)
    conversation = Conversation(ORG, "line", "U1")

    class Unsending(FaultyDocuments):
        async def commit(self, writes: Any) -> Any:
            try:
                return await super().commit(writes)
            except DocumentsUnavailableError:
                await turn.journal.forget_message(conversation, "m1")
                raise

    faults = CommitFaults(script=[Fate.LANDED], codes=["UNAVAILABLE"])
    stored = await Turn(Unsending(documents, faults), clock).reserve()
    assert stored.record.events[0].text == ""
    await turn.go("settle", stored=stored)
    books = await the_day(documents)
    assert (books.spent, books.held) == (COST, 0)


async def test_leader_that_was_taken_over_hears_so_also_after_a_failure(
    documents: DocumentStore, clock: FakeClock
) -> None:
    stored = await Turn(documents, clock).go("answer")
    await Turn(documents, clock).take_over(stored)
    for step in ("deliver", "take_over"):
        faulty = FaultyDocuments(documents, CommitFaults(script=[Fate.LOST], codes=["UNAVAILABLE"]))
        with pytest.raises(TurnMovedError):
            await Turn(faulty, clock).go(step, stored=stored)


@pytest.mark.parametrize("step", ["reserve", "stop", "grow", "leave"])
async def test_day_that_stays_contended_is_left_after_a_few_commits(
    documents: DocumentStore, clock: FakeClock, step: str
) -> None:
    stored = await Turn(documents, clock).go("reserve") if step in {"grow", "leave"} else None
    faults = CommitFaults(contended={DAY_NAME})
    began = clock.monotonic()
    with pytest.raises(ContendedError):
        await Turn(FaultyDocuments(documents, faults), clock).go(step, stored=stored)
    assert clock.monotonic() - began <= 3
    assert faults.counts[Fate.CONTENDED] <= 15


async def test_paid_answer_is_settled_when_a_day_is_contended_for_thirty_seconds(
    documents: DocumentStore, clock: FakeClock
) -> None:
    stored = await Turn(documents, clock).go("reserve")
    faults = CommitFaults(contended={DAY_NAME})
    until = clock.monotonic() + 30

    class Passing(FakeClock):
        async def sleep(self, seconds: float) -> None:
            clock.advance(seconds)
            if clock.monotonic() > until:
                faults.contended = ()
            await asyncio.sleep(0)

        def monotonic(self) -> float:
            return clock.monotonic()

    await Turn(FaultyDocuments(documents, faults), Passing()).go("settle", stored=stored)
    books = await the_day(documents)
    assert (books.spent, books.held) == (COST, 0)
    assert faults.counts[Fate.CONTENDED] <= 120


@pytest.mark.parametrize(("step", "longest_s"), [("reserve", 3), ("settle", 45)])
async def test_store_that_stays_down_is_said_to_be_down_in_time(
    documents: DocumentStore, clock: FakeClock, step: str, longest_s: float
) -> None:
    stored = await Turn(documents, clock).go("reserve") if step == "settle" else None
    faulty = FaultyDocuments(documents, CommitFaults(lost=1.0, codes=["UNAVAILABLE"]))
    began = clock.monotonic()
    with pytest.raises(DocumentsUnavailableError):
        await Turn(faulty, clock).go(step, stored=stored)
    assert longest_s / 2 <= clock.monotonic() - began <= longest_s
