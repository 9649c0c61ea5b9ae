"""What is booked is what the provider has served, however often the document store says that a commit that it
made has failed. Whole turns, on both stores; Firestore's errors pass through its own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from unittest import mock

import pytest
import pytest_asyncio

from core.adapters.firestore_documents import FirestoreDocuments
from core.bootstrap import shared
from core.domain.budget import DayBooks
from core.domain.clinic import BudgetPolicy, Limits
from core.domain.money import charge
from core.domain.prices import load_prices
from core.domain.settings import Settings
from core.local.openai_api import Latency
from core.ports.documents import Create, DocumentStore, Key
from core.ports.llm import Usage
from tests.support.fault_scene import FaultScene, Row
from tests.support.faulty_documents import CommitFaults, Fate, FaultyDocuments, FaultyFirestore
from tests.support.turn_scene import serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUNDS, CUSTOMERS, CLINICS = 5, 40, 4
TURNS = ROUNDS * CUSTOMERS
RICH = BudgetPolicy(Decimal(100_000))
FAST = Limits(messages_per_minute=60_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("turns")) as scene:
        scene.stack.openai.latency = Latency(0.05, 0.3)
        yield scene


@asynccontextmanager
async def faulty_store(
    kind: str, scene: FaultScene, faults: CommitFaults, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[dict[str, str], DocumentStore]]:
    """The turn's settings with a store that has these faults, and the same store without."""
    if kind == "sqlite":
        make = shared.documents

        def faulty(settings: Settings) -> DocumentStore:
            return FaultyDocuments(make(settings), faults)

        with mock.patch.object(shared, "documents", faulty):
            yield {}, scene.documents
        return
    emulator, project = request.getfixturevalue("firestore_emulator"), request.getfixturevalue("project")
    patch = request.getfixturevalue("monkeypatch")
    truth = FirestoreDocuments(project, timeout_s=20.0)
    for collection in ("orgs", "org_ai_budgets", "line_channels"):
        known = await scene.documents.query(collection)
        await truth.commit([Create(Key(collection, document.key.id), document.data) for document in known])
    async with FaultyFirestore(emulator, faults) as server:
        patch.setenv("FIRESTORE_EMULATOR_HOST", server.address)
        yield {"DOCUMENT_STORE": "firestore", "GOOGLE_CLOUD_PROJECT": project}, truth
    await truth.close()


async def booked(store: DocumentStore, org_ids: set[str]) -> tuple[int, int, int]:
    """The days' spend, what they still hold, and the sum of the turns' costs."""
    days = [DayBooks.parse(d.data) for d in await store.query("org_ai_spend") if d.data["org_id"] in org_ids]
    turns = [d.data["cost_micro_baht"] for d in await store.query("turns") if d.data["org_id"] in org_ids]
    return sum(day.spent for day in days), sum(day.held for day in days), sum(turns)


def served(scene: FaultScene, row: Row) -> int:
    """What the provider would bill for this row's calls."""
    prices, total = load_prices(), 0
    for call in scene.calls(row):
        assert call.usage is not None
        used = Usage(call.usage.prompt, call.usage.completion, call.usage.cached, call.usage.cache_write)
        total += charge(prices.price_at(call.model, call.started_ms), used, Decimal(36)).micro_baht
    return total


@pytest.mark.timeout(300)  # fifteen seconds, but a machine with other work needs its time
@pytest.mark.parametrize("kind", ["sqlite", "firestore"])
async def test_booked_is_served_in_a_brownout_of_the_document_store(
    scene: FaultScene, kind: str, request: pytest.FixtureRequest
) -> None:
    row = await scene.row(f"brownout {kind}")
    clinics = [await scene.clinic(limits=FAST, budget=RICH) for _ in range(CLINICS)]
    faults = CommitFaults(landed=0.15, lost=0.05, seed=7)
    async with (
        faulty_store(kind, scene, faults, request) as (environment, store),
        serving(scene, **environment),
    ):
        for _ in range(ROUNDS):
            sent = [scene.message(row, str(n), clinic=clinics[n % CLINICS]) for n in range(CUSTOMERS)]
            await asyncio.gather(*map(scene.sim.send, sent))
            while late := [one for one in sent if not one.acked]:  # the machine is busy
                await asyncio.gather(*map(scene.sim.redeliver, late))
            assert await scene.sim.wait_answered([one.event_id for one in sent], 100) == []
        await scene.stack.tasks.drained(20)
        spent, held, cost = await booked(store, {clinic.org_id for clinic in clinics})
    assert (len(scene.calls(row)), held) == (TURNS, 0)
    assert spent == cost == served(scene, row)
    assert faults.counts[Fate.LANDED] > TURNS / 4
