"""The money that a turn holds for its calls: reserved inside its first slot, grown before an attempt that it
does not cover, settled once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal

from core.domain.budget import DayBooks, Decision, Kind, budget_day, may_grow
from core.domain.errors import DocumentsUnavailableError, FairlaneError
from core.domain.media import Wanted
from core.domain.model_reply import ModelReply
from core.domain.prompt import Prompt
from core.domain.providers import Providers
from core.domain.settings import default
from core.domain.turn import TurnRecord
from core.ports.clock import Clock
from core.ports.llm import LlmRequest
from core.usecases.clinics.price_list import PriceList
from core.usecases.journal.commits import Effect
from core.usecases.journal.entries import ContendedError, Loaded, StoppedError, Stored, TurnMovedError
from core.usecases.journal.journal import Journal
from core.usecases.turn.context import TurnContext
from core.usecases.turn.quote import NOTHING_SENT, Bill, Heard, Quote


class AskFailedError(FairlaneError):
    """No answer will come: attempts or time are used up, or the failure is permanent. `reason` is short."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the model gave no answer: {reason}")
        self.reason = reason


class OtherProviderError(FairlaneError):
    """The decision fell on a model of another provider than the slot is for: nothing was written."""


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
        providers: Providers | None = None,
        transcribe_model: str = default("TRANSCRIBE_MODEL"),
    ) -> None:
        """`timezone`: where a budget's day begins; a turn belongs to the day of its reservation.
        `transcribe_model`: writes voice messages down."""
        self._journal = journal
        self._prices = prices
        self._clock = clock
        self._thb_per_usd = thb_per_usd
        self._timezone = timezone
        self._providers = providers
        self._transcribe_model = transcribe_model

    async def quote(
        self,
        context: TurnContext,
        draft: TurnRecord,
        unclaimed: Sequence[str],
        prompt: Prompt,
        media: Wanted = NOTHING_SENT,
    ) -> Hold:
        """A hold that is not reserved yet; nothing was written. `media`: what is fetched only if the budget
        has room. Raises StoppedError if the budget has no room
        as it was read (a stopped clinic's turn does not wait for a slot), UnpricedModelError,
        BarredProviderError."""
        prices, now_ms = await self._prices.current(), self._clock.now_ms()
        quote = Quote.of(
            context.clinic,
            prompt,
            prices,
            self._thb_per_usd,
            now_ms,
            providers=self._providers,
            media=media,
            audio_price=prices.audio_price_at(self._transcribe_model, now_ms),
        )
        books = context.loaded.books
        decision, budget = quote.choose(books.day)
        if decision.kind is Kind.STOP:
            raise StoppedError(decision, books, budget)
        return Hold(self._journal, quote, draft, unclaimed, context.loaded, self._today)

    def _today(self) -> str:
        return budget_day(self._clock.now_ms(), self._timezone)


class Hold:
    """`bill`: what the attempts under it have cost so far. `request`: what the next attempt asks, once the
    model is decided. `out`: models that can't be asked now. `uncovered`: what the guard of prices has held
    back."""

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
        self.out: set[str] = set()
        self.uncovered: Uncovered | None = None
        self._journal = journal
        self._draft = draft
        self._unclaimed = unclaimed
        self._loaded = loaded
        self._today = today
        self._stored: Stored | None = None
        self._reserving: asyncio.Future[Stored] | None = None
        self._held = 0
        self._model: str | None = None

    @property
    def record(self) -> TurnRecord:
        """The reserved turn. Raises TurnMovedError if it ended before it was reserved."""
        return self._reserved().record

    @property
    def model(self) -> str:
        """The one that the next attempt asks; until money is held, as the day's books were read."""
        return self._model or self._chosen(self.out)

    @property
    def provider(self) -> str:
        return self.quote.providers.of(self.model)

    @property
    def is_blind(self) -> bool:
        """Whether the model that the next attempt asks takes no pictures, as far as is known yet."""
        return not self.quote.sees(self.model)

    def begin(self, draft: TurnRecord, prompt: Prompt) -> None:
        """The turn and what it asks, once its pictures are there; the worst case had room for them."""
        self._draft = draft
        self.ask(prompt)

    def ask(self, prompt: Prompt) -> None:
        """What the next attempt asks instead."""
        self.quote = replace(self.quote, prompt=prompt)
        self.request = None

    @property
    def other_model(self) -> str | None:
        """The one that can be asked instead of `model`, if there is one."""
        outage = self.quote.outage
        if outage is None:
            return None
        other = outage.model if self.model != outage.model else self._chosen(())
        return None if other in self.out or other == self.model else other

    def turn_to_other(self) -> bool:
        """Let the next attempt ask the other model; False if there is none."""
        other = self.other_model
        self._model = other or self._model
        return other is not None

    async def reserve(self, provider: str) -> LlmRequest:
        """Claim the turn's events, hold the worst case of the model that the budget allows, and say what to
        ask it. Once, however often it is called. `provider`: whose slot this is for.

        Raises StoppedError, TurnMovedError, ContendedError; OtherProviderError if `model` is now another
        provider's.
        """
        await self.claim(provider)
        if self.provider != provider:
            raise OtherProviderError(f"{self.model} is not asked at {provider}")
        if self.request is None:
            self.request = self.quote.request(self.model)
        elif self.request.model != self.model:
            self.request = self.quote.asked_instead(self.request, self.model)
        return self.request

    async def claim(self, provider: str | None = None) -> None:
        """The first part of `reserve`. Without a `provider`, whatever the model is: it is not asked yet."""
        if self._stored is not None:
            return
        if self._reserving is None:
            self._reserving = asyncio.ensure_future(self._reserve(provider))
        try:
            # Who loses their slot meanwhile must still know what is held: the next slot finds it so.
            self._stored = await asyncio.shield(self._reserving)
        except OtherProviderError:
            self._reserving = None
            raise
        self._model = self._stored.record.money.model
        self._held = self.quote.worst(self._model)

    async def cover(self) -> None:
        """Hold more if what is held was used up, by each attempt that was or may have been billed, or does
        not suffice for another model. Without room for that one, the model stays what it was.

        Raises AskFailedError if the budget has no room, or if the books can't be asked: it has been called,
        so the turn is not put back, it ends with what is known.
        """
        if self._stored is None:
            return
        used = sum(self.quote.worst(call.model) for call in self.bill.calls)
        more = used + self.quote.worst(self.model) - self._held
        if more <= 0:
            return
        grown = await self._grown(more)
        if grown is None:
            reserved = self._stored.record.money.model
            if self.model == reserved or reserved in self.out:
                raise AskFailedError("budget")
            self._model = reserved
            await self.cover()
            return
        self._stored = grown
        self._held += more

    async def cover_listening(self, more: int) -> None:
        """Hold another worst case of writing a voice message down. Raises AskFailedError as `cover` does."""
        grown = await self._grown(more) if more else self._stored
        if grown is None:
            raise AskFailedError("budget")
        self._stored = grown

    async def listened(self, heard: Heard) -> None:
        """Charge what writing voice messages down has cost, keep one call's worst case, and store their
        words: whoever finds the turn after a crash does not pay for them again."""
        stored = self._reserved()
        record, ended = self.quote.listened(stored.record, heard)
        self._stored = await self._journal.settle(stored, record, ended)

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

    async def _grown(self, more: int) -> Stored | None:
        budget = self.quote.clinic.budget
        try:
            return await self._journal.grow(
                self._reserved(), lambda day, more: may_grow(budget, day, more), more
            )
        except (ContendedError, DocumentsUnavailableError) as exc:
            raise AskFailedError("books") from exc

    async def _reserve(self, provider: str | None) -> Stored:
        def choose(day: DayBooks) -> tuple[Decision, int]:
            decision, budget = self.quote.choose(day, self.out)
            if provider and decision.model and self.quote.providers.of(decision.model) != provider:
                self._model = decision.model
                raise OtherProviderError(f"{decision.model} is not asked at {provider}")
            return decision, budget

        loaded = await self._journal.on_day(self._loaded, self.quote.clinic.org_id, self._today())
        return await self._journal.reserve(self._draft, self._unclaimed, loaded, choose)

    def _chosen(self, out: Collection[str]) -> str:
        decision, _ = self.quote.choose(self._loaded.books.day, out)
        return decision.model or self.quote.primary.model

    def _reserved(self) -> Stored:
        if self._stored is None:
            raise TurnMovedError(f"turn {self._draft.id} ended before it was reserved")
        return self._stored
