"""What one clinic's day document bears: reservations at once, and turns a second, against a real store.

    python -m tests.bench.budget

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

from core.bootstrap import shared
from core.domain.clinic import BudgetPolicy
from core.domain.settings import Settings
from core.local.firestore_emulator import FirestoreEmulator
from core.local.processes import Guard
from core.ports.clock import SystemClock
from core.ports.documents import ConflictError, Document, DocumentStore, Key, Version, Where, Write
from tests.usecases.budget_worker import FULL, Worker

AT_ONCE = (1, 2, 5, 10, 20)
TURNS_PER_S = (0.5, 1, 2, 5, 10, 20)
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
    """Seconds until the last of n reservations has its money (median of 5), and conflicts a reservation."""
    times, before = [], store.conflicts
    for _ in range(5):
        tag = random.getrandbits(40)
        began = time.perf_counter()
        await asyncio.gather(*(worker.reserve(f"{tag}-{turn}") for turn in range(n)))
        times.append(time.perf_counter() - began)
    return statistics.median(times), (store.conflicts - before) / (5 * n)


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


async def measure() -> None:
    settings = Settings.read({**os.environ, "GOOGLE_CLOUD_PROJECT": f"bench-{os.getpid()}"}, ())
    store = Counting(shared.documents(settings))
    worker = Worker(store, SystemClock(), BudgetPolicy(Decimal(1_000_000)))
    await worker.turn("warm up", FULL)
    before = store.trips
    await worker.turn("alone", FULL)
    print(f"round trips a turn, uncontended: {store.trips - before} (target 3: read, reserve, settle)")
    for n in AT_ONCE:
        last, conflicts = await at_once(store, worker, n)
        target = "  (target 0.5)" if n == 5 else ""
        print(f"{n:>3} reservations at once: last after {last:.3f} s, {conflicts:.2f} conflicts each{target}")
    for rate in TURNS_PER_S:
        p50, p95, conflicts = await sustained(store, worker, rate)
        note = "  (a clinic's 30 messages a minute)" if rate == 0.5 else ""
        times = f"p50 {p50 * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms"
        print(f"{rate:>4} turns/s: books take {times}, {conflicts:.2f} conflicts a turn{note}")


async def with_emulator() -> None:
    guard = Guard()
    with tempfile.TemporaryDirectory() as folder:
        emulator = FirestoreEmulator(guard=guard, folder=Path(folder))
        await emulator.start()
        os.environ["FIRESTORE_EMULATOR_HOST"] = emulator.address
        try:
            await measure()
        finally:
            await emulator.stop()
            guard.close()


def main() -> None:
    if shutil.which("gcloud") is None:
        print("skipped: no gcloud, hence no Firestore emulator")
        return
    asyncio.run(with_emulator())


if __name__ == "__main__":
    main()
