"""The purse of a rehearsal: whatever calls come to, and whenever it dies, no more was spent than it had."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.adapters.system_clock import SystemClock
from core.domain.money import charge, worst_case
from core.domain.prices import load_prices
from core.domain.prompt import Message
from core.domain.settings import default
from core.domain.tokens import prompt_bound
from core.ports.llm import LlmAnswer, LlmError, LlmFault, LlmRequest, Usage
from core.usecases.rehearse.purse import BUDGET, PaidLlm, Purse

MODEL, THB = "gpt-6.1-terra", default("THB_PER_USD")
PRICES = load_prices()


def request(words: str) -> LlmRequest:
    return LlmRequest(MODEL, (Message("user", words),), 600, "reply", {})


def worst_of_x() -> int:
    row = PRICES.price_at(MODEL, SystemClock().now_ms())
    return worst_case(row, prompt_bound(request("x").messages, schema_name="reply", schema={}), 600, THB)


@dataclass
class Provider:
    """Answers as the script says; `billed` is what it may have billed at most so far, calls under way at
    their worst: what a process that dies now would leave behind."""

    script: list[str]
    purse: Purse
    billed: int = 0
    seen: list[int] = field(default_factory=list)

    async def complete(self, request: LlmRequest, *, timeout_s: float) -> LlmAnswer:
        row = PRICES.price_at(request.model, SystemClock().now_ms())
        bound = prompt_bound(request.messages, schema_name=request.schema_name, schema=request.schema)
        worst = worst_case(row, bound, request.max_tokens, THB)
        self.billed += worst
        self.seen.append(self.billed)
        what = self.script.pop() if self.script else "ok"
        await asyncio.sleep(0)
        if what in {"lost", "uncounted"}:
            if what == "lost":
                raise LlmError(LlmFault.AMBIGUOUS, "lost")
            return LlmAnswer("{}", None, request.model, "stop")
        usage = Usage(input=bound, output=request.max_tokens) if what == "dear" else Usage(input=10, output=5)
        if what == "refused":
            self.billed -= worst
            raise LlmError(LlmFault.RETRYABLE, "500", status=500)
        self.billed += charge(row, usage, THB).micro_baht - worst
        return LlmAnswer("{}", usage, request.model, "stop")

    async def close(self) -> None: ...


@settings(deadline=None, max_examples=60)
@given(
    budget=st.integers(0, 3_000_000),
    script=st.lists(st.sampled_from(["ok", "dear", "lost", "uncounted", "refused"]), max_size=60),
    at_once=st.integers(1, 8),
)
def test_no_moment_finds_more_spent_than_there_was(budget: int, script: list[str], at_once: int) -> None:
    async def spend() -> None:
        purse = Purse(budget)
        provider = Provider(list(script), purse)
        llm = PaidLlm(provider, purse, PRICES, SystemClock(), THB)

        async def caller(n: int) -> None:
            while not purse.is_used_up and provider.script:
                try:
                    await llm.complete(request("ก" * (n + 1) * 100), timeout_s=1)
                except LlmError as exc:
                    if exc.code == BUDGET:
                        return

        await asyncio.gather(*(caller(n) for n in range(at_once)))
        assert all(billed <= budget for billed in provider.seen)
        assert provider.billed == purse.spent <= budget
        assert purse.held == 0

    asyncio.run(spend())


async def test_a_call_waits_for_what_others_hold_before_it_is_refused() -> None:
    worst = worst_of_x()
    purse = Purse(worst + worst // 2)
    llm = PaidLlm(Provider([], purse), purse, PRICES, SystemClock(), THB)
    answers = await asyncio.gather(*(llm.complete(request("x"), timeout_s=1) for _ in range(5)))
    assert len(answers) == 5
    assert not purse.is_used_up


async def test_once_a_call_was_refused_no_smaller_one_is_made() -> None:
    worst = worst_of_x()
    purse = Purse(worst)
    llm = PaidLlm(Provider([], purse), purse, PRICES, SystemClock(), THB)
    with pytest.raises(LlmError, match="used up"):
        await llm.complete(request("x" * 5_000), timeout_s=1)
    with pytest.raises(LlmError, match="used up"):
        await llm.complete(request("x"), timeout_s=1)


async def test_a_call_that_is_cut_off_is_paid_at_its_worst() -> None:
    purse = Purse(10_000_000)

    class Hanging(Provider):
        async def complete(self, request: LlmRequest, *, timeout_s: float) -> LlmAnswer:
            await asyncio.sleep(60)
            raise AssertionError

    llm = PaidLlm(Hanging([], purse), purse, PRICES, SystemClock(), THB)
    call = asyncio.create_task(llm.complete(request("x"), timeout_s=1))
    await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert (purse.held, purse.spent) == (0, worst_of_x())
