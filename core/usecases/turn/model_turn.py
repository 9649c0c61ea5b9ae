"""A turn that the model answers: prompt, decision, call, settlement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal

from core.domain.budget import Candidate, DayBooks, Decision, Kind, budget_day, decide, may_grow
from core.domain.clinic import Clinic
from core.domain.errors import DocumentsUnavailableError, FairlaneError, UnavailableError
from core.domain.model_reply import ModelReply, parse_reply
from core.domain.money import charge, to_micro_baht, worst_case
from core.domain.prices import Prices
from core.domain.prompt import Prompt
from core.domain.role_manager import asked_for_less
from core.domain.tokens import prompt_bound, request_estimate
from core.domain.turn import TurnRecord, TurnState
from core.ports import log
from core.ports.clock import Clock
from core.ports.llm import LlmRequest, Usage
from core.ports.slots import NoSlotError
from core.usecases.clinics.price_list import PriceList
from core.usecases.journal.books import Settlement
from core.usecases.journal.commits import Effect
from core.usecases.journal.entries import ContendedError, Look, StoppedError, Stored, TurnMovedError
from core.usecases.journal.journal import Journal
from core.usecases.turn.ask_model import Ask, AskFailedError, AskModel, Bill

UNCOUNTED = Usage(0, 0)
"""Of an answer that came without counts: an answered call, charged at its worst case."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a turn starts from: its draft, the events that nobody has claimed yet, and what was read."""

    draft: TurnRecord
    unclaimed: Sequence[str]
    look: Look
    place: int | None = None


@dataclass(frozen=True, slots=True)
class Replied:
    """The model's answer is stored and paid."""

    stored: Stored
    reply: ModelReply


@dataclass(frozen=True, slots=True)
class Account:
    """A turn whose hold still stands, its attempts, and the prices that the hold was computed with: a price
    that changes meanwhile must not make a charge larger than its hold."""

    stored: Stored
    bill: Bill
    prices: Prices
    priced_ms: int


class ModelFailedError(Exception):
    """No answer will come; the account is to be settled with what the customer reads instead."""

    def __init__(self, reason: str, account: Account) -> None:
        super().__init__(reason)
        self.reason = reason
        self.account = account


class ModelTurn:
    def __init__(
        self,
        journal: Journal,
        ask: AskModel,
        prices: PriceList,
        clock: Clock,
        *,
        thb_per_usd: Decimal,
        timezone: str = "Asia/Bangkok",
    ) -> None:
        """`timezone`: where a budget's day begins; a turn belongs to the day of its reservation."""
        self._journal = journal
        self._ask = ask
        self._prices = prices
        self._clock = clock
        self._thb_per_usd = thb_per_usd
        self._timezone = timezone

    async def __call__(
        self,
        clinic: Clinic,
        opened: Opened,
        prompt: Prompt,
        *,
        on_wait: Callable[[], Awaitable[None]],
        finish: Callable[[TurnRecord, ModelReply], tuple[TurnRecord, Sequence[Effect]]],
    ) -> Replied:
        """`finish` completes the record with the reply and says what else is to be written with it.

        Raises NoSlotError (no attempt was made, or this process ends), ContendedError (nor was one),
        StoppedError (the budget has no room), ModelFailedError (also after a defect of ours, once the model
        was called), TurnMovedError, UnavailableError, UnpricedModelError (nothing was written).
        """
        quote = await self._quote(clinic, prompt)
        run = _Run(self._journal, clinic, opened, prompt, quote, self._today)
        run.refuse_early()
        bill = Bill()
        ask = Ask(
            org_id=clinic.org_id,
            ticket=f"{opened.draft.id}/{opened.draft.fence}",
            reserve=run.reserve,
            grow=run.grow,
            parse=lambda answer: parse_reply(answer.content, answer.finish_reason),
            shorter=lambda request: replace(request, messages=asked_for_less(request.messages)),
            on_wait=on_wait,
            org_cap=clinic.limits.max_concurrent,
            tokens=request_estimate(run.quote.input_bound, clinic.model.max_tokens),
            place=opened.place,
        )
        try:
            reply = await self._ask(ask, bill)
            account = run.account(bill)
            record, effects = finish(account.stored.record, reply)
            return Replied(await self.settle(account, record, effects), reply)
        except AskFailedError as exc:
            await run.reservation()  # it may have been cut off with its slot
            raise ModelFailedError(exc.reason, run.account(bill)) from exc
        except (NoSlotError, UnavailableError, ContendedError, asyncio.CancelledError):
            await self._leave(run, bill)
            raise
        except (StoppedError, TurnMovedError):
            raise
        except Exception as exc:
            if not bill.attempts:
                await self._leave(run, bill)
                raise
            # Another try would be another call: the turn ends with what is known.
            log.error("turn.defect", exc=exc, reason=type(exc).__name__)
            raise ModelFailedError(f"defect_{type(exc).__name__}", run.account(bill)) from exc

    async def settle(self, account: Account, record: TurnRecord, effects: Sequence[Effect] = ()) -> Stored:
        """Charge what the attempts have cost, release the rest, store the reply. Once, whatever happens."""
        settled, ended = self._settlement(account, replace(record, state=TurnState.ANSWERED))
        return await self._journal.settle(account.stored, settled, ended, effects)

    async def _leave(self, run: _Run, bill: Bill) -> None:
        """The turn goes on elsewhere, where nobody would know what was called: charge what the attempts have
        cost, release the rest. Best effort; what stays held is charged by whoever goes on."""
        with suppress(FairlaneError):
            if await run.reservation():
                account = run.account(bill)
                left, ended = self._settlement(account, account.stored.record)
                await self._journal.settle(account.stored, left, replace(ended, ends=False), insist=False)

    def _settlement(self, account: Account, record: TurnRecord) -> tuple[TurnRecord, Settlement]:
        stored, bill, prices = account.stored, account.bill, account.prices
        money = stored.record.money
        price = prices.price_at(money.model, account.priced_ms)
        cost = sum(
            charge(
                price,
                answer.usage,
                self._thb_per_usd,
                multiplier=prices.tier_multiplier(answer.service_tier),
            ).micro_baht
            for answer in bill.answered
            if answer.usage
        )
        ambiguous = bill.ambiguous + sum(answer.usage is None for answer in bill.answered)
        ambiguous_cost = ambiguous * money.worst_micro_baht
        usages = [answer.usage or UNCOUNTED for answer in bill.answered]
        settled = replace(record, attempts=bill.attempts, waited_ms=bill.waited_ms).with_money(
            held_micro_baht=0,
            cost_micro_baht=money.cost_micro_baht + cost + ambiguous_cost,
            ambiguous_micro_baht=money.ambiguous_micro_baht + ambiguous_cost,
            ambiguous_attempts=money.ambiguous_attempts + ambiguous,
            usage=_total(money.usage, usages),
            price=price.record(),
            thb_per_usd=str(self._thb_per_usd),
            service_tier=bill.answered[-1].service_tier if bill.answered else None,
        )
        return settled, Settlement(
            record.id,
            money.model,
            released=money.held_micro_baht,
            cost=cost,
            usages=usages,
            ambiguous=ambiguous,
            ambiguous_cost=ambiguous_cost,
            downgraded=money.decision == Kind.FALLBACK,
        )

    def _today(self) -> str:
        return budget_day(self._clock.now_ms(), self._timezone)

    async def _quote(self, clinic: Clinic, prompt: Prompt) -> _Quote:
        """What a call costs at most, for the primary model and for the fallback (if it has a price)."""
        prices, now_ms = await self._prices.current(), self._clock.now_ms()
        # The longer of the two prompts that a call of this turn may have.
        longest = asked_for_less(prompt.messages)
        bound = prompt_bound(longest, schema_name=prompt.schema_name, schema=prompt.schema)

        def candidate(model: str) -> Candidate:
            price = prices.price_at(model, now_ms)
            return Candidate(model, worst_case(price, bound, clinic.model.max_tokens, self._thb_per_usd))

        name = clinic.budget.fallback_model
        fallback = candidate(name) if name and prices.is_priced(name, now_ms) else None
        return _Quote(prices, now_ms, bound, candidate(clinic.model.model_name), fallback)


@dataclass(frozen=True, slots=True)
class _Quote:
    prices: Prices
    now_ms: int
    input_bound: int
    primary: Candidate
    fallback: Candidate | None


class _Run:
    """One turn's reservation, made inside the first slot."""

    def __init__(
        self,
        journal: Journal,
        clinic: Clinic,
        opened: Opened,
        prompt: Prompt,
        quote: _Quote,
        today: Callable[[], str],
    ) -> None:
        self._today = today
        self._journal = journal
        self._clinic = clinic
        self._opened = opened
        self._prompt = prompt
        self.quote = quote
        self.stored: Stored | None = None
        self._reserving: asyncio.Future[Stored] | None = None

    def refuse_early(self) -> None:
        """A stopped clinic's turn does not wait for a slot."""
        decision, budget = self._choose(self._opened.look.books.day)
        if decision.kind is Kind.STOP:
            raise StoppedError(decision, self._opened.look.books, budget)

    def account(self, bill: Bill) -> Account:
        if self.stored is None:
            raise TurnMovedError(f"turn {self._opened.draft.id} ended before it was reserved")
        return Account(self.stored, bill, self.quote.prices, self.quote.now_ms)

    async def reserve(self) -> LlmRequest:
        if self._reserving is None:
            self._reserving = asyncio.ensure_future(self._reserve())
        # Who loses their slot meanwhile must still know what is held: the next slot finds it reserved.
        self.stored = await asyncio.shield(self._reserving)
        model = self.stored.record.money.model
        takes = self.quote.prices.capabilities(model)
        return LlmRequest(
            model=model,
            messages=self._prompt.messages,
            max_tokens=self._clinic.model.max_tokens,
            schema_name=self._prompt.schema_name,
            schema=self._prompt.schema,
            temperature=takes.temperature_to_send(self._clinic.model.temperature),
            reasoning_effort=takes.reasoning_effort,
            output_limit=takes.output_limit,
            cache_key=self._prompt.cache_key,
        )

    async def _reserve(self) -> Stored:
        look = await self._journal.on_day(self._opened.look, self._clinic.org_id, self._today())
        return await self._journal.reserve(self._opened.draft, self._opened.unclaimed, look, self._choose)

    async def reservation(self) -> Stored | None:
        """What is held, also by a reservation that was cut off on its way. Raises what became of that."""
        if self.stored is None and self._reserving:
            self.stored = await self._reserving
        return self.stored

    async def grow(self) -> bool:
        if self.stored is None:
            return False
        try:
            grown = await self._journal.grow(
                self.stored, lambda day, more: may_grow(self._clinic.budget, day, more)
            )
        except (ContendedError, DocumentsUnavailableError) as exc:
            # It has been called, so the turn is not put back: it ends with what is known.
            raise AskFailedError("books") from exc
        self.stored = grown or self.stored
        return grown is not None

    def _choose(self, day: DayBooks) -> tuple[Decision, int]:
        policy = self._clinic.budget
        decision = decide(policy, day, self.quote.primary, self.quote.fallback)
        return decision, to_micro_baht(policy.daily_budget_baht)


def _total(before: Mapping[str, int], usages: Sequence[Usage]) -> dict[str, int]:
    """Tokens of all answered attempts (an answer that broke the schema was paid, too)."""
    return {
        kind: before.get(kind, 0) + sum(getattr(usage, kind) for usage in usages)
        for kind in ("input", "cached", "cache_write", "output")
    }
