"""The price list: documents override what ships, and every instance sees it within a minute."""

from __future__ import annotations

import pytest

from core.ports.clock import SystemClock
from core.ports.documents import DocumentStore, Key, Merge
from core.usecases.price_list import COLLECTION, PriceList

NOW_MS = 1_795_500_000_000  # 2026-11-24
ROW = {"from": "2026-01-01", "input": 3, "output": 4}


class MovedClock(SystemClock):
    def __init__(self) -> None:
        super().__init__()
        self.moved_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.moved_s


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
