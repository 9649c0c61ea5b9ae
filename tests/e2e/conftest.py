"""The stack that faults are done to, and the table that their rows go into."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

import pytest
import pytest_asyncio

from tests.support.fault_scene import FaultScene, Row, Verdict, fault_scene


class Reckon(Protocol):
    def __call__(self, row: Row, verdict: Verdict, what: str = "") -> None: ...


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[FaultScene]:
    """A module's own settings, if it has any, stand in its SETTINGS."""
    settings = getattr(request.module, "SETTINGS", {})
    async with fault_scene(tmp_path_factory.mktemp("faults"), **settings) as scene:
        yield scene


@pytest.fixture
def reckon(record_property: Callable[[str, object], None]) -> Reckon:
    """Writes a row into the table (tests/support/fault_table.py), then insists on it."""

    def reckon(row: Row, verdict: Verdict, what: str = "") -> None:
        counts = f"{verdict.calls} calls, {verdict.ambiguous} ambiguous, {verdict.hows}"
        happened = "; ".join(filter(None, (what, counts)))
        record_property("fault", (row.name, happened, verdict.lost, verdict.twice, verdict.paid_twice))
        assert verdict.clean, verdict

    return reckon
