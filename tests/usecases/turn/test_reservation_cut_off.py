"""A reservation that is cut off on its way to the store, before anybody was called, costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from unittest import mock

import pytest
import pytest_asyncio

from core.adapters import redis_keys
from core.bootstrap import shared
from core.domain.event import Conversation
from core.domain.settings import Settings
from core.ports.documents import DocumentStore, Version, Write
from core.usecases.turn.lead import RunTurn
from tests.support.fault_scene import FaultScene, Row
from tests.support.faulty_documents import CommitFaults, FaultyDocuments
from tests.support.turn_scene import serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("turns")) as scene:
        yield scene


class SlowDocuments(FaultyDocuments):
    """The first commit is made at once; its answer comes after `slow_s`."""

    def __init__(self, documents: DocumentStore, slow_s: float) -> None:
        super().__init__(documents, CommitFaults())
        self.slow_s = slow_s
        self.made = asyncio.Event()

    async def commit(self, writes: Sequence[Write]) -> list[Version]:
        versions = await super().commit(writes)
        if not self.made.is_set():
            self.made.set()
            await asyncio.sleep(self.slow_s)
        return versions


Lose = Callable[[FaultScene, Row, RunTurn], Awaitable[None]]


async def lose_slot(scene: FaultScene, row: Row, run: RunTurn) -> None:
    await scene.stack.redis.command("DEL", redis_keys.slots("leases"), redis_keys.slots("tickets"))


async def lose_lead(scene: FaultScene, row: Row, run: RunTurn) -> None:
    conversation = Conversation(row.clinic.org_id, "line", row.sent[0].chat_id)
    await scene.stack.redis.command("DEL", redis_keys.mailbox(conversation, "lead"))


async def cancel(scene: FaultScene, row: Row, run: RunTurn) -> None:
    for running in run._running:
        running.cancel("draining")


@pytest.mark.parametrize("lose", [lose_slot, lose_lead, cancel])
async def test_reservation_whose_turn_is_cut_off_before_a_call_is_not_charged(
    scene: FaultScene, lose: Lose
) -> None:
    row = await scene.row(f"cut off {lose}")
    made: list[SlowDocuments] = []
    make = shared.documents

    def slow(settings: Settings) -> DocumentStore:
        made.append(SlowDocuments(make(settings), 1.5))
        return made[-1]

    with mock.patch.object(shared, "documents", slow):
        async with serving(scene, SLOT_LEASE_S="1.2", SLOT_WAIT_S="5") as run:
            await scene.say(row)
            await asyncio.wait_for(made[0].made.wait(), 5)
            await lose(scene, row, run)
            assert await scene.sim.wait_answered([row.sent[0].event_id], 15) == []
            verdict = await scene.verdict(row)
    assert verdict.clean
    assert (verdict.calls, verdict.ambiguous) == (1, 0)
