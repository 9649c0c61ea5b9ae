"""The money that a turn holds for its calls: reserved inside its first slot, grown before an attempt that it
does not cover, settled once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal

from core.domain.budget import Kind, budget_day, may_grow
from core.domain.errors import DocumentsUnavailableError, FairlaneError
from core.domain.model_reply import ModelReply
from core.domain.prompt import Prompt
from core.domain.turn import TurnRecord
from core.ports.clock import Clock
from core.ports.llm import LlmRequest
from core.usecases.clinics.price_list import PriceList
from core.usecases.journal.commits import Effect
from core.usecases.journal.entries import ContendedError, Loaded, StoppedError, Stored, TurnMovedError
from core.usecases.journal.journal import Journal
from core.usecases.turn.context import TurnContext
from core.usecases.turn.quote import Bill, Quote


class AskFailedError(FairlaneError):
    """No answer will come: attempts or time are used up, or the failure is permanent. `reason` is short."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the model gave no answer: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A reply that no customer may read, since nothing covers these amounts of money in it."""

    reply: ModelReply
    amounts: tuple[str, ...]


class Holds:
    def __init__(
        self,
        journal: Journal,
        prices: PriceList,
        clock: Clock,
        *,
        thb_per_usd: Decimal,
        timezone: str = "Asia/Bangkok",
    ) -> None:
        """`timezone`: where a budget's day begins; a turn belongs to the day of its reservation."""
        self._journal = journal
        self._prices = prices
        self._clock = clock
        self._thb_per_usd = thb_per_usd
        self._timezone = timezone

    async def quote(
        self, context: TurnContext, draft: TurnRecord, unclaimed: Sequence[str], prompt: Prompt
    ) -> Hold:
        """A hold that is not reserved yet; nothing was written. Raises StoppedError if the budget has no room
        as it was read (a stopped clinic's turn does not wait for a slot), UnpricedModelError."""
        prices, now_ms = await self._prices.current(), self._clock.now_ms()
        quote = Quote.of(context.clinic, prompt, prices, self._thb_per_usd, now_ms)
        books = context.loaded.books
        decision, budget = quote.choose(books.day)
        if decision.kind is Kind.STOP:
            raise StoppedError(decision, books, budget)
        return Hold(self._journal, quote, draft, unclaimed, context.loaded, self._today)

    def _today(self) -> str:
        return budget_day(self._clock.now_ms(), self._timezone)


class Hold:
    """`bill`: what the attempts under it have cost so far. `request`: what the next attempt asks, once the
    model is decided. `uncovered`: what the guard of prices has held back."""

    def __init__(
        self,
        journal: Journal,
        quote: Quote,
        draft: TurnRecord,
        unclaimed: Sequence[str],
        loaded: Loaded,
        today: Callable[[], str],
    ) -> None:
        self.quote = quote
        self.bill = Bill()
        self.request: LlmRequest | None = None
        self.uncovered: Uncovered | None = None
        self._journal = journal
        self._draft = draft
        self._unclaimed = unclaimed
        self._loaded = loaded
        self._today = today
        self._stored: Stored | None = None
        self._reserving: asyncio.Future[Stored] | None = None
        self._covered = 1

    @property
    def record(self) -> TurnRecord:
        """The reserved turn. Raises TurnMovedError if it ended before it was reserved."""
        return self._reserved().record

    async def reserve(self) -> LlmRequest:
        """Claim the turn's events, hold the worst case of the model that the budget allows, and say what to
        ask it. Once, however often it is called. Raises StoppedError, TurnMovedError, ContendedError."""
        if self.request is None:
            if self._reserving is None:
                self._reserving = asyncio.ensure_future(self._reserve())
            # Who loses their slot meanwhile must still know what is held: the next slot finds it reserved.
            self._stored = await asyncio.shield(self._reserving)
            self.request = self.quote.request(self._stored.record.money.model)
        return self.request

    async def cover(self) -> None:
        """Hold another worst case if what is held was used up: by each attempt that was or may have been
        billed. Raises AskFailedError if the budget has no room for it, or if the books can't be asked: it has
        been called, so the turn is not put back, it ends with what is known."""
        if self._stored is None or self.bill.uncertain_or_paid < self._covered:
            return
        try:
            budget = self.quote.clinic.budget
            grown = await self._journal.grow(self._stored, lambda day, more: may_grow(budget, day, more))
        except (ContendedError, DocumentsUnavailableError) as exc:
            raise AskFailedError("books") from exc
        if grown is None:
            raise AskFailedError("budget")
        self._stored = grown
        self._covered += 1

    async def reserved(self) -> bool:
        """Whether anything is held, also by a reservation that was cut off on its way. Raises what became of
        that."""
        if self._stored is None and self._reserving:
            self._stored = await self._reserving
        return self._stored is not None

    async def settle(self, record: TurnRecord, effects: Sequence[Effect] = ()) -> Stored:
        """Charge what the attempts have cost, release the rest, store the reply and its effects. Once,
        whatever happens."""
        stored = self._reserved()
        settled, ended = self.quote.settlement(stored.record, self.bill, record)
        return await self._journal.settle(stored, settled, ended, effects)

    async def leave(self) -> None:
        """The turn goes on elsewhere, where nobody would know what was called: charge what the attempts have
        cost, release the rest. Best effort; what stays held is charged by whoever goes on."""
        with suppress(FairlaneError):
            if await self.reserved():
                stored = self._reserved()
                left, ended = self.quote.settlement(stored.record, self.bill, stored.record)
                await self._journal.settle(stored, left, replace(ended, ends=False), insist=False)

    async def _reserve(self) -> Stored:
        loaded = await self._journal.on_day(self._loaded, self.quote.clinic.org_id, self._today())
        return await self._journal.reserve(self._draft, self._unclaimed, loaded, self.quote.choose)

    def _reserved(self) -> Stored:
        if self._stored is None:
            raise TurnMovedError(f"turn {self._draft.id} ended before it was reserved")
        return self._stored
