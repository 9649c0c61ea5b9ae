"""The price table with its overriding documents `ai_model_prices/{model}`, seen by every instance in 60 s."""

from __future__ import annotations

import asyncio

from core.domain.errors import DocumentsUnavailableError, UnavailableError
from core.domain.prices import Prices, PriceTableError, load_prices
from core.ports import log
from core.ports.clock import Clock
from core.ports.documents import DocumentStore

COLLECTION = "ai_model_prices"
_FIRST_TIMEOUT_S = 10.0
"""Of the read that nothing known can stand in for: a new connection takes its time."""


class PriceList:
    """Seconds: prices are read again after `ttl_s`; while the store is down, or takes longer than
    `timeout_s`, the last known ones go on to serve and it is asked again every `retry_s`."""

    def __init__(
        self,
        documents: DocumentStore,
        clock: Clock,
        *,
        ttl_s: float = 60,
        timeout_s: float = 2.0,
        retry_s: float = 5.0,
    ) -> None:
        self._documents = documents
        self._clock = clock
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._prices: Prices | None = None
        self._due_at = 0.0  # monotonic seconds
        self._reading: asyncio.Task[Prices] | None = None

    async def current(self) -> Prices:
        """At most `ttl_s` old while the store answers. Raises DocumentsUnavailableError if no read has ever
        succeeded."""
        if self._prices is not None and self._clock.monotonic() < self._due_at:
            return self._prices
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._refresh())
            self._reading.add_done_callback(self._ended)
        # One reader for all, which goes on if the turn that started it is cancelled.
        return await asyncio.shield(self._reading)

    def _ended(self, reading: asyncio.Task[Prices]) -> None:
        self._reading = None
        if not reading.cancelled():
            reading.exception()  # whoever waits gets it; nobody may be waiting

    async def _refresh(self) -> Prices:
        try:
            async with asyncio.timeout(_FIRST_TIMEOUT_S if self._prices is None else self._timeout_s):
                self._prices = await self._read()
            self._due_at = self._clock.monotonic() + self._ttl_s
        except (UnavailableError, TimeoutError) as exc:
            reason = str(exc) or "the document store does not answer in time"
            if self._prices is None:
                raise DocumentsUnavailableError(f"prices: {reason}") from exc
            log.warning("prices.stale", reason=reason)
            self._due_at = self._clock.monotonic() + self._retry_s
        return self._prices

    async def _read(self) -> Prices:
        """A document that can't be read leaves its model at the shipped price: clinics go on."""
        prices = load_prices()
        for document in await self._documents.query(COLLECTION):
            try:
                prices = prices.overridden({document.key.id: document.data})
            except PriceTableError as exc:
                log.error("prices.document_refused", model=document.key.id, reason=str(exc))
        return prices
