"""The price table with its overriding documents `ai_model_prices/{model}`, seen by every instance in 60 s."""

from __future__ import annotations

from core.domain import log
from core.domain.prices import Prices, PriceTableError, load_prices
from core.ports.clock import Clock
from core.ports.documents import DocumentStore

COLLECTION = "ai_model_prices"


class PriceList:
    def __init__(self, documents: DocumentStore, clock: Clock, *, ttl_s: float = 60) -> None:
        self._documents = documents
        self._clock = clock
        self._ttl_s = ttl_s
        self._prices: Prices | None = None
        self._read_at = 0.0

    async def current(self) -> Prices:
        """At most `ttl_s` old. Raises DocumentsUnavailableError."""
        if self._prices is None or self._clock.monotonic() - self._read_at >= self._ttl_s:
            self._prices = await self._read()
            self._read_at = self._clock.monotonic()
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
