"""The price list: documents override what ships, and every instance sees it within a minute."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from core.adapters.system_clock import SystemClock
from core.domain.errors import DocumentsUnavailableError
from core.ports.documents import Document, DocumentStore, Key, Merge
from core.usecases.clinics.price_list import COLLECTION, PriceList

NOW_MS = 1_795_500_000_000  # 2026-11-24
ROW = {"from": "2026-01-01", "input": 3, "output": 4}


class MovedClock(SystemClock):
    def __init__(self) -> None:
        super().__init__()
        self.moved_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.moved_s


class Disturbed:
    """A store in front of a real one whose listing can be slow or fail."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents
        self.slow_s = 0.0
        self.down = False
        self.reads = 0

    async def query(self, collection: str) -> list[Document]:
        self.reads += 1
        await asyncio.sleep(self.slow_s)
        if self.down:
            raise DocumentsUnavailableError("down")
        return await self._documents.query(collection)


async def output_of(prices: PriceList) -> float:
    return float((await prices.current()).price_at("gpt-6-luna", NOW_MS).output)


async def test_a_changed_price_is_seen_within_a_minute(documents: DocumentStore) -> None:
    clock = MovedClock()
    prices = PriceList(documents, clock)
    assert (await prices.current()).price_at("gpt-6-luna", NOW_MS).output != 4
    await documents.commit([Merge(Key(COLLECTION, "gpt-6-luna"), {"prices": [ROW]})])
    assert (await prices.current()).price_at("gpt-6-luna", NOW_MS).output != 4, "no read for every turn"
    clock.moved_s = 60
    assert (await prices.current()).price_at("gpt-6-luna", NOW_MS).output == 4


async def test_a_document_that_cannot_be_read_leaves_the_shipped_price_and_is_logged(
    documents: DocumentStore, caplog: pytest.LogCaptureFixture
) -> None:
    await documents.commit(
        [
            Merge(Key(COLLECTION, "gpt-6-luna"), {"prices": "cheap"}),
            Merge(Key(COLLECTION, "house-model"), {"prices": [ROW]}),
        ]
    )
    found = await PriceList(documents, SystemClock()).current()
    assert found.price_at("gpt-6-luna", NOW_MS).version == found.version
    assert found.is_priced("house-model", NOW_MS)
    assert [record.getMessage() for record in caplog.records] == ["prices.document_refused"]


@pytest.mark.parametrize("fault", [{"down": True}, {"slow_s": 30.0}])
async def test_known_prices_serve_while_the_store_is_down_or_slow(
    documents: DocumentStore, caplog: pytest.LogCaptureFixture, fault: dict[str, Any]
) -> None:
    await documents.commit([Merge(Key(COLLECTION, "gpt-6-luna"), {"prices": [ROW]})])
    clock, store = MovedClock(), Disturbed(documents)
    prices = PriceList(store, clock, timeout_s=0.05)  # type: ignore[arg-type]
    assert await output_of(prices) == 4
    vars(store).update(fault)
    await documents.commit([Merge(Key(COLLECTION, "gpt-6-luna"), {"prices": [{**ROW, "output": 5}]})])
    clock.moved_s = 60
    started = time.perf_counter()
    assert [await output_of(prices) for _ in range(3)] == [4, 4, 4]
    assert time.perf_counter() - started < 1.5
    assert store.reads == 2, "asked again after a pause, not for every turn"
    assert [record.getMessage() for record in caplog.records] == ["prices.stale"]
    store.down, store.slow_s = False, 0.0
    clock.moved_s = 65
    prices._timeout_s = 20.0  # the real store may be busy
    assert await output_of(prices) == 5


async def test_turns_that_come_together_read_once(documents: DocumentStore) -> None:
    store = Disturbed(documents)
    store.slow_s = 0.02
    prices = PriceList(store, SystemClock())  # type: ignore[arg-type]
    first = asyncio.create_task(prices.current())
    others = [asyncio.create_task(prices.current()) for _ in range(20)]
    await asyncio.sleep(0.005)
    first.cancel()
    found = await asyncio.gather(*others)
    assert store.reads == 1
    assert all(each is found[0] for each in found)


async def test_only_the_first_read_may_fail_and_the_next_one_tries_again(documents: DocumentStore) -> None:
    store = Disturbed(documents)
    store.down = True
    prices = PriceList(store, SystemClock())  # type: ignore[arg-type]
    with pytest.raises(DocumentsUnavailableError, match="prices: down"):
        await prices.current()
    store.down = False
    assert (await prices.current()).is_priced("gpt-6-luna", NOW_MS)
