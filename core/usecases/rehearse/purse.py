"""The budget of a rehearsal: every call to the provider, whoever makes it, is paid from one purse, which
holds the call's worst case before it is made. Whatever dies, no more than the purse had was spent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal

from core.domain.money import charge, worst_case
from core.domain.prices import Prices
from core.domain.tokens import prompt_bound
from core.ports.clock import Clock
from core.ports.llm import Llm, LlmAnswer, LlmError, LlmFault, LlmRequest

BUDGET = "rehearsal_budget"
"""The code of a call that was not made since the purse had no room for it."""


@dataclass(slots=True)
class Purse:
    """Micro-baht. `is_used_up`: a call was refused."""

    budget: int
    spent: int = 0
    held: int = 0
    is_used_up: bool = False
    _settled: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def hold(self, worst: int) -> bool:
        """Hold a call's worst case. Where only what other calls hold is in the way, wait for what they leave;
        False if the purse has no room for it."""
        async with self._settled:
            await self._settled.wait_for(
                lambda: not self.held or self.spent + self.held + worst <= self.budget
            )
            if self.is_used_up or self.spent + worst > self.budget:
                self.is_used_up = True
                return False
            self.held += worst
            return True

    async def settle(self, worst: int, cost: int) -> None:
        async with self._settled:
            self.held -= worst
            self.spent += cost
            self._settled.notify_all()


class PaidLlm:
    """See core.ports.llm. What is not known to be free is charged at its worst case, as in production."""

    def __init__(self, llm: Llm, purse: Purse, prices: Prices, clock: Clock, thb_per_usd: Decimal) -> None:
        self._llm = llm
        self._purse = purse
        self._prices = prices
        self._clock = clock
        self._thb_per_usd = thb_per_usd

    async def complete(self, request: LlmRequest, *, timeout_s: float) -> LlmAnswer:
        price = self._prices.price_at(request.model, self._clock.now_ms())
        bound = prompt_bound(request.messages, schema_name=request.schema_name, schema=request.schema)
        worst = worst_case(price, bound, request.max_tokens, self._thb_per_usd)
        if not await self._purse.hold(worst):
            raise LlmError(LlmFault.REJECTED, "the rehearsal's budget is used up", code=BUDGET)
        cost = worst
        try:
            answer = await self._llm.complete(request, timeout_s=timeout_s)
            if answer.usage:
                tier = self._prices.tier_multiplier(answer.service_tier)
                cost = charge(price, answer.usage, self._thb_per_usd, multiplier=tier).micro_baht
        except LlmError as exc:
            cost = worst if exc.fault is LlmFault.AMBIGUOUS else 0
            raise
        finally:
            await asyncio.shield(self._purse.settle(worst, cost))
        return answer

    async def close(self) -> None:
        await self._llm.close()
