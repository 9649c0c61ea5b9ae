"""The clinic directory: free when it knows, fresh within a minute, and alive while a store is down."""

from __future__ import annotations

import asyncio
import time
import timeit
from collections.abc import Sequence
from typing import Any

import pytest

from core.adapters.file_secrets import FileSecrets
from core.domain.clinic import BudgetPolicy, Clinic, ModelConfig
from core.domain.errors import (
    DocumentsUnavailableError,
    InvalidInputError,
    SecretsUnavailableError,
    TooManyUnknownError,
)
from core.ports.documents import Create, Delete, Document, DocumentStore, Key, Merge, Version, Write
from core.usecases.clinics import directory as clinic_directory
from core.usecases.clinics.directory import ClinicDirectory
from core.usecases.clinics.documents import (
    budget_document,
    channel_document,
    clinic_from,
    model_document,
    org_document,
)
from tests.support.clock import FakeClock

BOT = "U8e742f61d673b39c7fff3cecb7536ef0"
CLINIC = Clinic("bkk-smile", "Bangkok Smile", BOT, "1650000001")


class Counted(DocumentStore):
    """A store that counts its reads, and that can be slow or down."""

    def __init__(self, store: DocumentStore) -> None:
        self.store = store
        self.reads = 0
        self.is_down = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def get_many(self, keys: Sequence[Key]) -> list[Document | None]:
        self.reads += 1
        await self.gate.wait()
        if self.is_down:
            raise DocumentsUnavailableError("as asked")
        return await self.store.get_many(keys)

    async def commit(self, writes: Sequence[Write]) -> list[Version]:
        return await self.store.commit(writes)

    async def query(self, collection: str, *args: Any, **more: Any) -> list[Document]:
        return await self.store.query(collection, *args, **more)

    async def close(self) -> None:
        """The store is its fixture's."""


@pytest.fixture
async def store(documents: DocumentStore, secrets: FileSecrets) -> Counted:
    await secrets.put(CLINIC.secret_name, {"channel_id": "1650000001", "channel_secret": "s"})
    await documents.commit(
        [
            Create(Key("orgs", CLINIC.org_id), org_document(CLINIC)),
            Create(Key("line_channels", BOT), channel_document(CLINIC.org_id)),
        ]
    )
    return Counted(documents)


@pytest.fixture
def secrets(tmp_path_factory: pytest.TempPathFactory) -> FileSecrets:
    return FileSecrets(str(tmp_path_factory.mktemp("secrets") / "secrets.json"))


@pytest.fixture
def directory(store: Counted, secrets: FileSecrets, clock: FakeClock) -> ClinicDirectory:
    """Patient, since a busy machine's store may be slow."""
    return ClinicDirectory(store, secrets, clock, patience_s=10)


async def test_a_known_clinic_is_found_without_any_read(store: Counted, directory: ClinicDirectory) -> None:
    found = await directory.by_destination(BOT)
    assert found is not None
    assert found[0] == CLINIC
    assert (found[1].channel_id, found[1].channel_secret) == ("1650000001", "s")
    before = store.reads
    assert await directory.by_destination(BOT) is found
    assert store.reads == before


async def test_a_destination_nobody_has_is_asked_for_once_in_a_short_while(
    store: Counted, directory: ClinicDirectory, clock: FakeClock
) -> None:
    other = "U" + "1" * 32
    assert [await directory.by_destination(other) for _ in range(5)] == [None] * 5
    assert store.reads == 1
    await store.store.commit([Create(Key("line_channels", other), channel_document(CLINIC.org_id))])
    clock.advance(6)
    assert await directory.by_destination(other) is not None


async def test_a_stampede_reads_once_and_survives_the_one_that_started_it(
    store: Counted, directory: ClinicDirectory
) -> None:
    store.gate.clear()
    callers = [asyncio.create_task(directory.by_org(CLINIC.org_id)) for _ in range(50)]
    await asyncio.sleep(0.01)
    callers[0].cancel()
    store.gate.set()
    first, *others = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(first, asyncio.CancelledError)
    assert all(isinstance(found, tuple) and found[0] == CLINIC for found in others)
    assert store.reads == 1


async def test_changes_are_seen_within_a_minute(
    store: Counted, directory: ClinicDirectory, clock: FakeClock, secrets: FileSecrets
) -> None:
    await directory.by_destination(BOT)
    await store.store.commit(
        [
            Merge(Key("orgs", CLINIC.org_id), {"persona": "ใหม่"}),
            Create(Key("ai_model_config", "default"), {"model_name": "gpt-6-luna"}),
        ]
    )
    await secrets.put(CLINIC.secret_name, {"channel_id": "1650000001", "channel_secret": "new"})
    clock.advance(60)
    found = await directory.by_destination(BOT)
    assert found is not None
    assert (found[0].persona, found[0].model.model_name) == ("ใหม่", "gpt-6-luna")
    assert found[1].channel_secret == "new"


async def test_a_reissued_secret_is_known_as_soon_as_a_signature_raises_doubt(
    directory: ClinicDirectory, clock: FakeClock, secrets: FileSecrets
) -> None:
    known = await directory.by_destination(BOT)
    await secrets.put(CLINIC.secret_name, {"channel_id": "1650000001", "channel_secret": "new"})
    clock.advance(1)
    assert await directory.by_destination_anew(BOT) is known  # what was read just now is not doubted
    clock.advance(3)
    both = await asyncio.gather(directory.by_destination_anew(BOT), directory.by_destination_anew(BOT))
    assert [found and found[1].channel_secret for found in both] == ["new", "new"]
    assert await directory.by_destination(BOT) is both[0]


@pytest.mark.parametrize("is_down", [False, True])
async def test_a_hundred_forged_signatures_cause_one_read(
    store: Counted, directory: ClinicDirectory, clock: FakeClock, is_down: bool
) -> None:
    known = await directory.by_destination(BOT)
    clock.advance(10)
    before, store.is_down = store.reads, is_down
    for _ in range(50):
        assert await directory.by_destination_anew(BOT) == known
    assert await asyncio.gather(*(directory.by_destination_anew(BOT) for _ in range(50))) == [known] * 50
    assert store.reads == before + (1 if is_down else 2)  # the channel, then the clinic


async def test_a_clinic_that_is_taken_out_is_gone_within_a_minute(
    store: Counted, directory: ClinicDirectory, clock: FakeClock
) -> None:
    await directory.by_destination(BOT)
    await store.store.commit([Delete(Key("line_channels", BOT))])
    clock.advance(60)
    assert await directory.by_destination(BOT) is None


async def test_what_was_known_serves_while_the_store_is_down_but_not_for_ever(
    store: Counted, directory: ClinicDirectory, clock: FakeClock
) -> None:
    await directory.by_destination(BOT)
    store.is_down = True
    clock.advance(60)
    assert await directory.by_destination(BOT) is not None
    reads = store.reads
    assert await directory.by_destination(BOT) is not None
    assert store.reads == reads  # a store that is down is not asked by every request
    clock.advance(600)
    with pytest.raises(DocumentsUnavailableError):
        await directory.by_destination(BOT)
    store.is_down = False
    assert await directory.by_destination(BOT) is not None


async def test_a_store_that_hangs_costs_a_known_clinic_nothing(
    store: Counted, directory: ClinicDirectory, clock: FakeClock
) -> None:
    known = await directory.by_destination(BOT)
    await store.store.commit([Merge(Key("orgs", CLINIC.org_id), {"persona": "new"})])
    store.gate.clear()
    clock.advance(31)
    async with asyncio.timeout(0.1):
        assert [await directory.by_destination(BOT) for _ in range(100)] == [known] * 100
    await asyncio.sleep(0.01)
    assert store.reads == 3  # the two at first, and one that hangs
    store.gate.set()
    async with asyncio.timeout(10):
        while (found := await directory.by_destination(BOT)) is known:  # noqa: ASYNC110  read beside it
            await asyncio.sleep(0.01)
    assert found is not None
    assert found[0].persona == "new"


async def test_a_clinic_not_seen_for_long_waits_for_a_hanging_store_once_and_briefly(
    store: Counted, secrets: FileSecrets, clock: FakeClock
) -> None:
    directory = ClinicDirectory(store, secrets, clock, patience_s=0.2)
    known = await directory.by_destination(BOT)
    store.gate.clear()
    clock.advance(60)
    began = time.monotonic()
    assert await directory.by_destination(BOT) == known
    assert 0.15 < time.monotonic() - began < 5
    clock.advance(1)
    async with asyncio.timeout(0.15):
        assert await directory.by_destination(BOT) == known
    store.gate.set()
    await asyncio.sleep(0.05)


async def test_a_document_that_someone_broke_leaves_the_last_good_settings(
    store: Counted, directory: ClinicDirectory, clock: FakeClock
) -> None:
    await directory.by_org(CLINIC.org_id)
    await store.store.commit([Merge(Key("orgs", CLINIC.org_id), {"memory": "perhaps"})])
    clock.advance(60)
    found = await directory.by_org(CLINIC.org_id)
    assert found is not None
    assert found[0].memory is True


async def test_without_memory_a_store_that_is_down_is_no_answer(
    store: Counted, directory: ClinicDirectory
) -> None:
    store.is_down = True
    with pytest.raises(DocumentsUnavailableError):
        await directory.by_destination(BOT)
    with pytest.raises(DocumentsUnavailableError):
        await directory.by_org(CLINIC.org_id)


async def test_a_clinic_without_its_secret_is_unavailable_not_absent(
    store: Counted, clock: FakeClock, tmp_path_factory: pytest.TempPathFactory
) -> None:
    empty = FileSecrets(str(tmp_path_factory.mktemp("empty") / "secrets.json"))
    directory = ClinicDirectory(store, empty, clock)
    for find in (directory.by_destination(BOT), directory.by_org(CLINIC.org_id)):
        with pytest.raises(
            SecretsUnavailableError, match="line-bkk-smile is missing: apply its clinic again"
        ):
            await find
    await empty.put(CLINIC.secret_name, {"channel_id": "1650000001", "channel_secret": "s"})
    assert await directory.by_destination(BOT) is not None


@pytest.mark.parametrize("secret", [{}, {"channel_id": "1"}, {"channel_id": "1", "channel_secret": ""}])
async def test_nobody_can_sign_with_a_secret_that_is_empty(
    store: Counted, directory: ClinicDirectory, secrets: FileSecrets, secret: dict[str, str]
) -> None:
    await secrets.put(CLINIC.secret_name, secret)
    with pytest.raises(InvalidInputError, match="line-bkk-smile"):
        await directory.by_destination(BOT)


async def test_a_channel_that_leads_nowhere_is_named(store: Counted, directory: ClinicDirectory) -> None:
    await store.store.commit([Merge(Key("line_channels", BOT), {"org_id": ""})])
    with pytest.raises(InvalidInputError, match=BOT):
        await directory.by_destination(BOT)


async def test_made_up_destinations_do_not_fill_the_memory(
    store: Counted, directory: ClinicDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clinic_directory, "MAX_ABSENT", 20)
    await directory.by_destination(BOT)
    for n in range(100):
        await directory.by_destination(f"U{n:032x}")
    assert len(directory._entries) <= 1 + 20
    reads = store.reads
    assert await directory.by_destination(BOT) is not None
    assert store.reads == reads


async def test_a_hit_costs_microseconds(directory: ClinicDirectory) -> None:
    await directory.by_destination(BOT)

    async def hits() -> float:
        start = timeit.default_timer()
        for _ in range(2_000):
            await directory.by_destination(BOT)
        return (timeit.default_timer() - start) / 2_000

    best_s = min([await hits() for _ in range(5)])
    assert best_s < 50e-6  # measured 1 µs; a read would be hundreds


def test_documents_and_a_clinic_are_the_same_both_ways() -> None:
    clinic = Clinic(
        "a", "A", BOT, "1", model=ModelConfig("m", 1, None), budget=BudgetPolicy(fallback_model=None)
    )
    model, budget = model_document(clinic.model), budget_document(clinic.budget)
    assert clinic_from("a", org_document(clinic), model, None, budget, None) == clinic
    assert clinic_from("a", org_document(clinic), None, model, None, budget) == clinic


@pytest.mark.parametrize(
    ("budget", "named"),
    [
        ({"daily_budget_baht": "much"}, "org_ai_budgets/a, field daily_budget_baht: 'much'"),
        ({"daily_budget_baht": True}, "field daily_budget_baht"),
        ({"hard_stop_enabled": "no"}, "field hard_stop_enabled: 'no': expected true or false"),
        ({"downgrade_threshold": -1}, "field downgrade_threshold"),
    ],
)
def test_a_field_that_can_not_be_right_is_named(budget: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        clinic_from("a", {}, None, None, budget, None)


async def test_made_up_destinations_cost_a_bounded_number_of_reads_and_no_known_clinic_its_answer(
    store: Counted, secrets: FileSecrets
) -> None:
    clock = FakeClock()
    directory = ClinicDirectory(store, secrets, clock, unknown_per_s=20, unknown_burst=50)
    assert await directory.by_destination(BOT)
    reads = store.reads
    refused = 0
    for n in range(2_000):  # in 10 s
        try:
            assert await directory.by_destination(f"U{n:032x}") is None
        except TooManyUnknownError:
            refused += 1
        assert await directory.by_destination(BOT)
        await clock.sleep(0.005)
    assert store.reads - reads <= 50 + 10 * 20 + 2
    assert refused >= 2_000 - 50 - 10 * 20 - 2
    await clock.sleep(3)
    assert await directory.by_destination("U" + "f" * 32) is None  # a new clinic's first webhook: looked up


async def test_a_destination_that_is_asked_for_again_and_again_counts_once(
    store: Counted, secrets: FileSecrets
) -> None:
    clock = FakeClock()
    directory = ClinicDirectory(store, secrets, clock, unknown_per_s=1, unknown_burst=1)
    for _ in range(500):
        assert await directory.by_destination("U" + "0" * 32) is None


async def test_a_mark_that_was_not_seen_makes_the_clinic_be_read_anew_once(
    store: Counted, directory: ClinicDirectory
) -> None:
    assert await directory.by_org("bkk-smile")
    await store.commit([Merge(Key("orgs", "bkk-smile"), {"mode": "off"})])
    before = store.reads
    modes = []
    for mark in ("", "1", "1", "1"):
        found = await directory.by_org("bkk-smile", mark)
        modes.append(found and found[0].mode)
    assert modes == ["live", "off", "off", "off"]
    assert store.reads == before + 1


async def test_a_reading_from_before_the_mark_does_not_come_back_over_the_newer_one(
    store: Counted, directory: ClinicDirectory, clock: FakeClock
) -> None:
    await directory.by_org("bkk-smile")
    clock.advance(31)
    held, store.gate = store.gate, asyncio.Event()
    old_gate = store.gate
    assert await directory.by_org("bkk-smile")  # read anew beside it, by a reading that is slow
    await asyncio.sleep(0.01)
    store.gate = held
    clock.advance(0.1)
    await store.commit([Merge(Key("orgs", "bkk-smile"), {"mode": "off"})])
    newer = await directory.by_org("bkk-smile", "1")
    assert newer is not None
    assert newer[0].mode == "off"
    old_gate.set()
    await asyncio.sleep(0.05)
    assert await directory.by_org("bkk-smile", "1") is newer


async def test_two_turns_with_a_new_mark_wait_for_the_same_reading(
    store: Counted, directory: ClinicDirectory
) -> None:
    await directory.by_org("bkk-smile")
    await store.commit([Merge(Key("orgs", "bkk-smile"), {"mode": "off"})])
    before = store.reads
    found = await asyncio.gather(*(directory.by_org("bkk-smile", "1") for _ in range(3)))
    assert [each and each[0].mode for each in found] == ["off"] * 3
    assert store.reads == before + 1


async def test_a_new_mark_while_the_store_is_down_leaves_what_is_known(
    store: Counted, directory: ClinicDirectory, clock: FakeClock
) -> None:
    await directory.by_org("bkk-smile")
    await store.commit([Merge(Key("orgs", "bkk-smile"), {"mode": "off"})])
    store.is_down = True
    known = await directory.by_org("bkk-smile", "1")
    assert known is not None
    assert known[0].mode == "live"
    store.is_down = False
    clock.advance(6)
    found = await directory.by_org("bkk-smile", "1")
    assert found is not None
    assert found[0].mode == "off"
