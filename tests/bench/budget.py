"""What one clinic's day document bears: reservations at once, and turns a second, against a real store.

On Google's Firestore emulator; it is started for this.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from google.cloud.firestore import AsyncClient, AsyncTransaction, async_transactional

from core.adapters.system_clock import SystemClock
from core.bootstrap import shared
from core.domain.clinic import BudgetPolicy
from core.domain.settings import Settings
from core.local.firestore_emulator import FirestoreEmulator
from core.local.processes import Guard
from core.ports.documents import ConflictError, Document, DocumentStore, Key, Version, Where, Write
from tests.bench.cold_emulator import warm
from tests.bench.table import Row
from tests.support.budget_worker import FULL, Worker

AT_ONCE, AT_ONCE_TARGET, LAST_S = (1, 5, 20), 5, 0.5
TURNS_PER_S = (0.5, 2, 10)
SECONDS = 6


class Counting:
    """A store that counts round trips and conflicts."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents
        self.trips = self.conflicts = 0

    async def get_many(self, keys: Sequence[Key]) -> list[Document | None]:
        self.trips += 1
        return await self._documents.get_many(keys)

    async def commit(self, writes: Sequence[Write]) -> list[Version]:
        self.trips += 1
        try:
            return await self._documents.commit(writes)
        except ConflictError:
            self.conflicts += 1
            raise

    async def query(self, collection: str, where: Sequence[Where] = (), **how: object) -> list[Document]:
        raise NotImplementedError

    async def close(self) -> None: ...


async def at_once(store: Counting, worker: Worker, n: int) -> tuple[float, float]:
    """Seconds until the last of n reservations has its money (the quickest of 5 rounds: the machine's other
    work is not ours), and conflicts a reservation."""
    times, before = [], store.conflicts
    for _ in range(5):
        tag = random.getrandbits(40)
        began = time.perf_counter()
        await asyncio.gather(*(worker.reserve(f"{tag}-{turn}") for turn in range(n)))
        times.append(time.perf_counter() - began)
    return min(times), (store.conflicts - before) / (5 * n)


async def sustained(store: Counting, worker: Worker, rate: float) -> tuple[float, float, float]:
    """Turns at `rate` a second with calls of 2 s: p50 and p95 of the seconds that the books take a turn."""
    costs: list[float] = []
    before = store.conflicts

    async def one(turn_id: str) -> None:
        began = time.perf_counter()
        stored = await worker.reserve(turn_id)
        reserved = time.perf_counter() - began
        await asyncio.sleep(2)
        began = time.perf_counter()
        if stored is not None:
            await worker.settle(stored, FULL)
        costs.append(reserved + time.perf_counter() - began)

    tag, turns = random.getrandbits(40), max(4, round(rate * SECONDS))
    async with asyncio.TaskGroup() as group:
        for turn in range(turns):
            group.create_task(one(f"{tag}-{turn}"))
            await asyncio.sleep(random.expovariate(rate))  # people don't write in time with each other
    ordered = sorted(costs)
    return statistics.median(ordered), ordered[int(len(ordered) * 0.95)], (store.conflicts - before) / turns


async def transactions(project: str, n: int) -> float:
    """Baseline: seconds until the last of n transactions of the client library has written the same."""
    client = AsyncClient(project=project)
    day = client.collection("org_ai_spend").document("baseline")

    @async_transactional
    async def reserve(transaction: AsyncTransaction, turn: int) -> None:
        held = (await day.get(transaction=transaction)).to_dict() or {"held": 0}
        transaction.set(day, {"held": held["held"] + 1})
        transaction.create(client.collection("turns").document(f"baseline-{turn}"), {"state": "reserved"})

    began = time.perf_counter()
    await asyncio.gather(*(reserve(client.transaction(max_attempts=20), turn) for turn in range(n)))
    took = time.perf_counter() - began
    client.close()
    return took


async def measure() -> list[Row]:
    settings = Settings.read({**os.environ, "GOOGLE_CLOUD_PROJECT": f"bench-{os.getpid()}"}, ())
    store = Counting(shared.documents(settings))
    worker = Worker(store, SystemClock(), BudgetPolicy(Decimal(1_000_000)))
    await warm(store)
    await worker.turn("warm up", FULL)
    before = store.trips
    await worker.turn("alone", FULL)
    trips = store.trips - before
    found = [Row("a turn's round trips for money: read, reserve, settle", f"{trips}", "≤ 3", "", trips <= 3)]
    for n in AT_ONCE:
        last, conflicts = await at_once(store, worker, n)
        figure, value = f"reservations of a clinic at once, the last of {n}", f"{last:.2f} s"
        if n == AT_ONCE_TARGET:
            baseline = f"transactions {await transactions(settings.google_cloud_project, n):.1f} s"
            found.append(Row(figure, value, f"≤ {LAST_S:g} s", baseline, last <= LAST_S))
        else:
            found.append(Row(figure, f"{value}, {conflicts:.1f} conflicts each", ""))
    for rate in TURNS_PER_S:
        p50, p95, conflicts = await sustained(store, worker, rate)
        value = f"p50 {p50 * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms, {conflicts:.1f} conflicts"
        note = " (30 messages a minute)" if rate == 0.5 else ""
        found.append(Row(f"books of a turn at {rate} turns/s of one clinic{note}", value, ""))
    return found


async def rows() -> list[Row]:
    if shutil.which("gcloud") is None:
        return [Row("a clinic's day document", "not measured: no gcloud, hence no Firestore emulator", "")]
    guard = Guard()
    with tempfile.TemporaryDirectory() as folder:
        emulator = FirestoreEmulator(guard=guard, folder=Path(folder))
        await emulator.start()
        os.environ["FIRESTORE_EMULATOR_HOST"] = emulator.address
        try:
            return await measure()
        finally:
            await emulator.stop()
            guard.close()
