"""A budget that processes share: never exceeded at any moment, exactly the affordable calls made."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from core.adapters.system_clock import SystemClock
from core.domain.budget import DayBooks, budget_day
from core.domain.turn import TurnRecord
from core.ports.documents import DocumentStore
from core.usecases.journal.books import day_key
from tests.support.budget_worker import ORG, WORST, Load, open_store
from tests.support.recount import charged_by_day

ROOT = Path(__file__).parents[3]
WORKER = ROOT / "tests/support/budget_worker.py"
FIFTY = str(WORST["big"] * 50 / 1_000_000)


class Shared:
    """A document store that processes share: the variables that name it, and this process's own client."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables
        self.documents: DocumentStore = open_store(variables)
        self.seen: list[int] = []

    async def run(self, loads: list[Load]) -> list[dict[str, int] | None]:
        """All loads at once, one process each; None for one that died."""
        environment = {**os.environ, **self.variables, "PYTHONPATH": str(ROOT)}
        started = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                str(WORKER),
                json.dumps(asdict(load)),
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            for load in loads
        ]
        try:
            for process in started:
                assert process.stdout is not None
                assert await process.stdout.readline() == b"ready\n"
            outputs = await asyncio.gather(*(process.communicate(b"\n") for process in started))
        finally:
            for process in started:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        return [json.loads(output) if output else None for output, _ in outputs]

    @asynccontextmanager
    async def observed(self, day: str) -> AsyncIterator[None]:
        """Look at the day all the while: every state that is ever visible counts."""

        async def look() -> None:
            while True:
                self.seen.append((await self.day(day)).committed)
                await asyncio.sleep(0.005)

        looking = asyncio.create_task(look())
        try:
            yield
        finally:
            looking.cancel()

    async def day(self, day: str) -> DayBooks:
        (document,) = await self.documents.get_many([day_key(ORG, day)])
        return DayBooks.parse(document.data if document else None)

    async def turns(self) -> list[TurnRecord]:
        return [TurnRecord.decode(d.key.id, d.data) for d in await self.documents.query("turns")]


@pytest.fixture(params=["firestore", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shared]:
    variables: dict[str, Any] = {"GOOGLE_CLOUD_PROJECT": f"budget-{uuid.uuid4().hex[:12]}"}
    if request.param == "sqlite":
        variables["DOCUMENT_STORE"] = f"sqlite:{tmp_path / 'documents.db'}"
    else:
        variables["FIRESTORE_EMULATOR_HOST"] = request.getfixturevalue("firestore_emulator")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        found = Shared(variables)
        yield found
        await found.documents.close()


async def test_two_hundred_turns_over_four_processes_never_exceed_a_budget_for_fifty(store: Shared) -> None:
    day = budget_day(SystemClock().now_ms(), "Asia/Bangkok")
    loads = [Load([f"p{p}-{n}" for n in range(50)], FIFTY, seed=p) for p in range(4)]
    async with store.observed(day):
        results = await store.run(loads)
    books = await store.day(day)
    assert sum(result["called"] for result in results if result) == 50
    assert books.stopped == sum(result["stopped"] for result in results if result) == 150
    assert len(store.seen) > 10
    assert max(store.seen) <= 50 * WORST["big"] == books.spent
    assert (books.held, dict(books.holds), books.turns) == (0, {}, 50)
    assert sum(turn.money.cost_micro_baht for turn in await store.turns()) == books.spent
    assert await charged_by_day(store.documents, ORG) == {day: books.spent}


async def test_a_killed_process_is_charged_for_what_it_may_have_called_and_nothing_is_lost(
    store: Shared,
) -> None:
    day = budget_day(SystemClock().now_ms(), "Asia/Bangkok")
    turns = [f"t{n}" for n in range(8)]
    async with store.observed(day):
        died, *_ = await store.run([Load(turns, FIFTY, full=False, die_after=4)])
        assert died is None
        left = await store.day(day)
        assert sorted(left.holds) == ["t4", "t5", "t6", "t7"]
        assert left.held == sum(hold.amount for hold in left.holds.values())
        (taken,) = await store.run([Load(turns, FIFTY, fence=2, full=False, seed=2)])
    assert taken == {"called": 8, "stopped": 0}
    books, records = await store.day(day), await store.turns()
    assert (books.held, dict(books.holds), books.turns) == (0, {}, 8)
    assert books.ambiguous == 4
    assert books.spent == sum(record.money.cost_micro_baht for record in records)
    assert await charged_by_day(store.documents, ORG) == {day: books.spent}
    assert max(store.seen) <= 50 * WORST["big"]
