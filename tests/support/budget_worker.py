"""Turns of one clinic, run against the real journal without an LLM: a part for the budget's tests.

As a program it is one of several processes that share a day: arguments are one JSON object (see Load), the
environment names the document store, and a line of JSON with what happened goes to standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal

import uvloop

from core.adapters.sqlite_documents import SqliteDocuments
from core.adapters.system_clock import SystemClock
from core.domain.budget import Candidate, DayBooks, Decision, budget_day, decide
from core.domain.charges import ChargeKind, ChargeLine
from core.domain.clinic import BudgetPolicy
from core.domain.event import EventKind
from core.domain.money import charge, to_micro_baht, worst_case
from core.domain.prices import Price
from core.domain.turn import TurnEvent, TurnRecord, TurnState
from core.ports.clock import Clock
from core.ports.documents import DocumentStore
from core.ports.llm import Usage
from core.usecases.journal.books import Settlement
from core.usecases.journal.entries import ContendedError, StoppedError, Stored
from core.usecases.journal.journal import Journal

ORG = "bkk-smile"
RATE = Decimal(36)
BIG = Price("big", "test", Decimal(1), Decimal("0.05"), Decimal(5), Decimal("1.25"))
SMALL = Price("small", "test", Decimal("0.1"), Decimal("0.01"), Decimal("0.5"), Decimal("0.125"))
PRICES = {"big": BIG, "small": SMALL}
INPUT_BOUND, MAX_TOKENS = 2000, 600
# The dearest usage within the bounds: every input token is written to the cache.
FULL = Usage(input=INPUT_BOUND, cache_write=INPUT_BOUND, output=MAX_TOKENS)
WORST = {name: worst_case(price, INPUT_BOUND, MAX_TOKENS, RATE) for name, price in PRICES.items()}


def some_usage(rng: random.Random) -> Usage:
    """Any usage within the bounds."""
    total = rng.randint(0, INPUT_BOUND)
    cached = rng.randint(0, total)
    return Usage(total, rng.randint(0, MAX_TOKENS), cached, rng.randint(0, total - cached))


def charge_line(model: str, usage: Usage, micro_baht: int) -> ChargeLine:
    price = PRICES[model].record()
    return ChargeLine(
        ChargeKind.CALL, model, micro_baht, usage=asdict(usage), price=price, thb_per_usd=str(RATE)
    )


def chooser(policy: BudgetPolicy) -> Callable[[DayBooks], tuple[Decision, int]]:
    fallback = Candidate("small", WORST["small"]) if policy.fallback_model else None

    def choose(day: DayBooks) -> tuple[Decision, int]:
        decision = decide(policy, day, Candidate("big", WORST["big"]), fallback)
        return decision, to_micro_baht(policy.daily_budget_baht)

    return choose


@dataclass
class Worker:
    """One process's leader: the turn path's money, and nothing else of it."""

    documents: DocumentStore
    clock: Clock
    policy: BudgetPolicy
    timezone: str = "Asia/Bangkok"
    fence: int = 1
    models: list[str] = field(default_factory=list)

    @property
    def journal(self) -> Journal:
        return Journal(self.documents, self.clock)

    async def reserve(self, turn_id: str, said: str = "") -> Stored | None:
        """None: the turn was stopped, and counted. Tried as often as the queue would bring it."""
        while True:
            with suppress(ContendedError):
                return await self._reserve(turn_id, said)

    async def _reserve(self, turn_id: str, said: str) -> Stored | None:
        now_ms = self.clock.now_ms()
        day = budget_day(now_ms, self.timezone)
        loaded = await self.journal.load(ORG, day, turn_id, [turn_id])
        previous = loaded.turns.get(turn_id)
        unclaimed = [turn_id] if turn_id not in loaded.claims else []
        if previous is not None:
            if previous.record.state is not TurnState.RESERVED:
                return previous
            draft = replace(previous.record, fence=self.fence)
        else:
            events = (TurnEvent(turn_id, EventKind.TEXT, said, now_ms, now_ms, "m1"),) if said else ()
            draft = TurnRecord(
                turn_id, ORG, "line", "U1", "user", TurnState.RESERVED, events, now_ms, fence=self.fence
            )
        draft = draft.with_money(thb_per_usd=str(RATE))
        try:
            return await self.journal.reserve(draft, unclaimed, loaded, chooser(self.policy))
        except StoppedError as stopped:
            answered = replace(draft, state=TurnState.ANSWERED, reply="full", answered_ms=now_ms)
            await self.journal.stop(answered, unclaimed, previous, stopped)
            return None

    async def settle(self, stored: Stored, usage: Usage, *, ambiguous: int = 0) -> Stored:
        money = stored.record.money
        price = PRICES[money.model]
        cost = charge(price, usage, RATE).micro_baht
        unknown = ambiguous * money.worst_micro_baht
        self.models.append(money.model)
        answered = replace(
            stored.record, state=TurnState.ANSWERED, reply="ok", attempts=1, answered_ms=self.clock.now_ms()
        ).with_money(
            held_micro_baht=0,
            cost_micro_baht=money.cost_micro_baht + cost + unknown,
            ambiguous_micro_baht=money.ambiguous_micro_baht + unknown,
            price=price.record(),
            usage={
                "input": usage.input,
                "cached": usage.cached,
                "cache_write": usage.cache_write,
                "output": usage.output,
            },
        )
        ended = Settlement(
            stored.record.id,
            money.model,
            released=money.held_micro_baht,
            cost=cost,
            usages=[usage],
            calls=[charge_line(money.model, usage, cost)],
            ambiguous=ambiguous,
            ambiguous_cost=unknown,
            downgraded=money.decision == "fallback",
        )
        return await self.journal.settle(stored, answered, ended)

    async def turn(self, turn_id: str, usage: Usage, call_s: float = 0.0) -> bool:
        """A whole turn. False: stopped, no call."""
        stored = await self.reserve(turn_id)
        if stored is None:
            return False
        if stored.record.state is TurnState.RESERVED:
            await asyncio.sleep(call_s)
            await self.settle(stored, usage)
        return True


@dataclass(frozen=True)
class Load:
    """`turns` are all asked for at once; `at_once` of them run, as slots would let them.

    `full`: every call uses all of its worst case. `die_after`: once that many turns are settled, the others
    are reserved, and the process ends in the middle of their calls, without a word, as by kill -9.
    """

    turns: Sequence[str]
    budget_baht: str
    fence: int = 1
    full: bool = True
    call_s: float = 0.02
    at_once: int = 8
    seed: int = 0
    die_after: int | None = None


def open_store(variables: Mapping[str, str]) -> DocumentStore:
    """As bootstrap does, without importing the clients that no worker uses."""
    kind, _, path = variables.get("DOCUMENT_STORE", "firestore").partition(":")
    if kind == "sqlite":
        return SqliteDocuments(path)
    from core.adapters.firestore_documents import FirestoreDocuments  # noqa: PLC0415  takes a second to import

    return FirestoreDocuments(variables["GOOGLE_CLOUD_PROJECT"])


async def main(load: Load) -> None:
    documents = open_store(os.environ)
    policy = BudgetPolicy(Decimal(load.budget_baht), fallback_model=None)
    worker = Worker(documents, SystemClock(), policy, fence=load.fence)
    rng = random.Random(load.seed)
    slots = asyncio.Semaphore(load.at_once)

    async def one(turn_id: str) -> bool:
        async with slots:
            return await worker.turn(turn_id, FULL if load.full else some_usage(rng), load.call_s)

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)  # all processes begin together
    called = await asyncio.gather(*(one(turn_id) for turn_id in load.turns[: load.die_after]))
    if load.die_after is not None:
        await asyncio.gather(*(worker.reserve(turn_id) for turn_id in load.turns[load.die_after :]))
        os._exit(9)
    await documents.close()
    print(json.dumps({"called": sum(called), "stopped": len(called) - sum(called)}), flush=True)


if __name__ == "__main__":
    uvloop.run(main(Load(**json.loads(sys.argv[1]))))
