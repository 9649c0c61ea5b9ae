"""Every change of a clinic is a version, whatever command made it; both stores."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from core.adapters.file_secrets import FileSecrets
from core.domain.clinic import Clinic, Mode
from core.domain.clinic_prices import ListedPrice
from core.domain.errors import InvalidInputError
from core.ports.documents import Create, Document, DocumentStore, Key, Merge, Version, Where, Write
from core.ports.line import ChannelCredentials
from core.usecases.clinics.documents import org_document
from core.usecases.operate.apply_clinics import ApplyClinics, IncompleteError, Plan
from core.usecases.operate.budget_policies import Changes, change_policy
from core.usecases.operate.change_clinic import ChangeClinic
from core.usecases.operate.clinic_changes import Wanted, WantedClinic
from core.usecases.operate.clinic_diff import diff
from core.usecases.operate.clinic_mode import switch_mode
from core.usecases.operate.clinic_state import ClinicState
from core.usecases.operate.clinic_versions import (
    FOUND,
    ClinicVersion,
    NoSuchVersionError,
    find_version,
    versions_of,
)
from core.usecases.operate.remove_clinic import RemoveClinic
from core.usecases.operate.rollback_clinic import RollbackClinic
from core.usecases.operate.stored_clinics import NoSuchClinicError, read_stored
from tests.support.clock import FakeClock

ORG = "bkk-smile"
SCALING = ListedPrice("ขูดหินปูน", Decimal(900), Decimal(900))
CLINIC = Clinic(ORG, "Bangkok Smile", "U1", "1650000001", persona="สุภาพ\nเปิด 10.00 น.", prices=(SCALING,))
CHANNEL = ChannelCredentials("1650000001", "canary")


class Operator:
    """An operator with commands: what each is to change stands in its name."""

    def __init__(self, documents: DocumentStore, folder: Path, name: str = "nid@example.com") -> None:
        self.documents = documents
        self.secrets = FileSecrets(str(folder / "secrets.json"))
        self.clock = FakeClock()
        self.name = name
        self.change = ChangeClinic(documents, self.clock, name)
        self.roll_back = RollbackClinic(documents, self.clock, name)
        self.applying = ApplyClinics(documents, self.secrets, self.clock, name)

    async def plan(self, clinic: Clinic = CLINIC, **more: Any) -> Plan:
        return await self.applying.plan(Wanted((WantedClinic(clinic, CHANNEL, **more),)))

    async def apply(self, clinic: Clinic = CLINIC, **more: Any) -> None:
        await self.applying.apply(await self.plan(clinic, **more))

    async def mode(self, mode: Mode) -> None:
        await switch_mode(self.change, ORG, mode)

    async def budget(self, baht: int) -> None:
        changes = Changes(daily_budget_baht=Decimal(baht))
        await change_policy(self.documents, self.clock, self.name, ORG, changes)

    async def remove(self) -> None:
        removing = RemoveClinic(self.documents, self.secrets, self.clock, self.name)
        await removing(await removing.plan(ORG))

    async def history(self, org_id: str = ORG) -> list[ClinicVersion]:
        return list(reversed(await versions_of(self.documents, org_id)))

    async def told(self) -> list[tuple[int, str, str]]:
        return [(v.n, v.author.what, ", ".join(v.fields)) for v in await self.history()]

    async def number(self) -> int:
        return (await read_stored(self.documents)).clinic(ORG).version


@pytest.fixture
def operator(documents: DocumentStore, tmp_path: Path) -> Operator:
    return Operator(documents, tmp_path)


async def test_each_command_that_changes_a_clinic_makes_one_version(operator: Operator) -> None:
    await operator.apply()
    await operator.apply(replace(CLINIC, persona="อบอุ่น"), keeps_mode=True)
    await operator.mode(Mode.OFF)
    await operator.budget(400)
    await operator.roll_back(ORG, 2)
    assert await operator.told() == [
        (1, "apply", ""),
        (2, "apply", "persona"),
        (3, "mode", "mode"),
        (4, "budgets set", "budget.daily_budget_baht"),
        (5, "rollback to 2", "budget.daily_budget_baht, mode"),
    ]
    assert {v.author.by for v in await operator.history()} == {"nid@example.com"}
    assert {v.author.at_ms for v in await operator.history()} == {operator.clock.now_ms()}
    assert await operator.number() == 5


SAME: list[Callable[[Operator], Awaitable[object]]] = [
    lambda operator: operator.apply(),
    lambda operator: operator.mode(Mode.LIVE),
    lambda operator: operator.budget(400),
    lambda operator: operator.roll_back(ORG, 2),
    lambda operator: operator.roll_back(ORG, 1, dry_run=True),
]


@pytest.mark.parametrize("same", SAME)
async def test_what_changes_nothing_makes_none(
    operator: Operator, same: Callable[[Operator], Awaitable[object]]
) -> None:
    await operator.apply(budget={"daily_budget_baht": 400})
    await operator.budget(500)
    await operator.budget(400)
    await operator.roll_back(ORG, 1)  # what it is already
    assert await operator.number() == 3
    before = await read_stored(operator.documents)
    if same is SAME[0]:
        await operator.apply(budget={"daily_budget_baht": 400})
    elif same is SAME[3]:
        await operator.roll_back(ORG, 3)
    else:
        await same(operator)
    assert await read_stored(operator.documents) == before
    assert len(await operator.history()) == 3


async def test_a_clinic_from_before_becomes_version_1_with_its_first_change(operator: Operator) -> None:
    """Its turns up to then name none."""
    await operator.documents.commit([Create(Key("orgs", ORG), org_document(CLINIC))])
    assert await operator.number() == 0
    await operator.mode(Mode.OFF)
    first, second = await operator.history()
    assert (first.n, first.author.what, first.author.by, first.fields) == (1, FOUND, "", ())
    assert (second.n, second.author.what, second.fields) == (2, "mode", ("mode",))
    assert first.state.org == org_document(CLINIC)


async def test_an_edit_past_the_commands_is_a_version_of_its_own(operator: Operator) -> None:
    """In the console: who it was, nobody can tell; what it was, the next change does."""
    await operator.apply()
    await operator.documents.commit([Merge(Key("orgs", ORG), {"persona": "edited"})])
    await operator.mode(Mode.OFF)
    assert await operator.told() == [(1, "apply", ""), (2, FOUND, "persona"), (3, "mode", "mode")]


async def test_a_new_secret_is_told_and_never_shown(operator: Operator) -> None:
    await operator.apply()
    await operator.secrets.put(f"line-{ORG}", {"channel_id": CHANNEL.channel_id, "channel_secret": "other"})
    await operator.apply()
    assert await operator.told() == [(1, "apply", ""), (2, "apply", "line.channel_secret")]
    found = await operator.documents.query("org_versions")
    assert "canary" not in str(found)


async def test_what_connect_notes_is_no_version_and_outlasts_a_rollback(operator: Operator) -> None:
    await operator.apply()
    await operator.apply(replace(CLINIC, persona="b"))
    await operator.documents.commit([Merge(Key("orgs", ORG), {"connected": {"ok": True}}, if_exists=True)])
    await operator.roll_back(ORG, 1)
    stored = await read_stored(operator.documents)
    assert stored.orgs[ORG].data["connected"] == {"ok": True}
    assert [v.n for v in await operator.history()] == [1, 2, 3]


async def test_a_removed_clinics_versions_stay_and_go_on_when_it_comes_back(operator: Operator) -> None:
    await operator.apply()
    await operator.remove()
    assert [v.author.what for v in await operator.history()] == ["apply", "remove"]
    with pytest.raises(NoSuchClinicError):
        await operator.roll_back(ORG, 1)
    with pytest.raises(InvalidInputError, match="was removed by it"):
        await operator.roll_back(ORG, 2)
    await operator.apply()
    assert await operator.number() == 3
    assert [v.n for v in await operator.history()] == [1, 2, 3]


async def test_the_defaults_have_versions_of_their_own(operator: Operator) -> None:
    for max_tokens in (600, 700, 700):
        wanted = Wanted((WantedClinic(CLINIC, CHANNEL),), model={"max_tokens": max_tokens})
        await operator.applying.apply(await operator.applying.plan(wanted))
    changes = Changes(daily_budget_baht=Decimal(250))
    await change_policy(operator.documents, operator.clock, "me", "default", changes)
    told = [(v.n, v.author.what, v.fields) for v in await operator.history("default")]
    budget = ("budget.daily_budget_baht",)
    assert told == [(1, "apply", ()), (2, "apply", ("model.max_tokens",)), (3, "budgets set", budget)]
    await operator.roll_back("default", 1)
    stored = await read_stored(operator.documents)
    assert (stored.model("default"), stored.budget("default")) == ({"max_tokens": 600}, None)
    assert await operator.number() == 1, "the clinic's own settings are what they were"


async def test_a_version_that_can_not_be_used_any_more_is_not_brought_back(operator: Operator) -> None:
    await operator.apply(model={"model_name": "gpt-4o-mini"})
    await operator.apply()
    operator.clock.advance(400 * 86_400)
    with pytest.raises(InvalidInputError, match="gpt-4o-mini was shut down on 2027-01-14"):
        await operator.roll_back(ORG, 1)
    with pytest.raises(NoSuchVersionError, match="clinics history bkk-smile"):
        await operator.roll_back(ORG, 9)


async def test_the_channel_is_not_rolled_back(operator: Operator) -> None:
    """Its secret has no versions: an id that does not fit it would silence the clinic."""
    await operator.apply()
    await operator.apply(replace(CLINIC, bot_user_id="U2", persona="b"))
    await operator.roll_back(ORG, 1)
    clinic = (await read_stored(operator.documents)).clinic(ORG)
    assert (clinic.bot_user_id, clinic.persona) == ("U2", CLINIC.persona)


# At the same time


async def test_of_two_applies_at_once_one_wins_and_the_other_is_told(
    documents: DocumentStore, tmp_path: Path
) -> None:
    first, second = Operator(documents, tmp_path, "first"), Operator(documents, tmp_path, "second")
    await first.apply()
    plans = await asyncio.gather(
        first.plan(replace(CLINIC, persona="first's")), second.plan(replace(CLINIC, persona="second's"))
    )
    results = await asyncio.gather(
        first.applying.apply(plans[0]), second.applying.apply(plans[1]), return_exceptions=True
    )
    (told,) = [result for result in results if result is not None]
    assert isinstance(told, IncompleteError)
    assert "was changed by someone else meanwhile" in str(told)
    winner = "first" if results[0] is None else "second"
    latest = (await first.history())[-1]
    clinic = (await read_stored(documents)).clinic(ORG)
    assert (latest.n, latest.author.by, clinic.version, clinic.persona) == (2, winner, 2, f"{winner}'s")


async def test_of_two_that_add_the_same_clinic_one_wins(documents: DocumentStore, tmp_path: Path) -> None:
    operators = [Operator(documents, tmp_path, name) for name in ("first", "second")]
    plans = await asyncio.gather(*(operator.plan() for operator in operators))
    results = await asyncio.gather(
        *(each.applying.apply(plan) for each, plan in zip(operators, plans, strict=True)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, IncompleteError) for result in results) == 1
    assert [v.n for v in await operators[0].history()] == [1]


async def test_commands_at_once_are_versions_one_after_the_other_and_none_is_lost(
    documents: DocumentStore, tmp_path: Path
) -> None:
    operators = [Operator(documents, tmp_path, f"op-{n}") for n in range(4)]
    await operators[0].apply()
    await asyncio.gather(
        operators[0].mode(Mode.OFF),
        operators[1].budget(400),
        operators[2].mode(Mode.AFTER_HOURS),
        operators[3].budget(500),
    )
    versions = await operators[0].history()
    assert [v.n for v in versions] == [1, 2, 3, 4, 5]
    stored = await read_stored(documents)
    last = versions[-1].state
    assert last == ClinicState.of(ORG, stored.orgs[ORG].data, stored.model(ORG), stored.budget(ORG))
    for before, after in pairwise(versions):
        assert [each.change.field for each in diff(before.state, after.state)] == list(after.fields)


class OtherFirst:
    """A store in which somebody else changes the clinic before the first commit."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents
        self.is_first = True

    async def get_many(self, keys: list[Key]) -> list[Document | None]:
        return await self._documents.get_many(keys)

    async def query(self, collection: str, where: list[Where] = [], **more: Any) -> list[Document]:  # noqa: B006
        return await self._documents.query(collection, where, **more)

    async def commit(self, writes: list[Write]) -> list[Version]:
        if self.is_first:
            self.is_first = False
            await self._documents.commit([Merge(Key("orgs", ORG), {"persona": "theirs"}, if_exists=True)])
        return await self._documents.commit(writes)

    async def close(self) -> None: ...


async def test_a_command_decides_anew_on_what_another_has_changed(operator: Operator) -> None:
    await operator.apply()
    late: Any = OtherFirst(operator.documents)
    await switch_mode(ChangeClinic(late, operator.clock, "late"), ORG, Mode.OFF)
    clinic = (await read_stored(operator.documents)).clinic(ORG)
    assert (clinic.persona, clinic.mode) == ("theirs", Mode.OFF)


# What they say


def test_a_difference_is_told_by_field_and_line() -> None:
    before = ClinicState.of(ORG, org_document(CLINIC), None, {"daily_budget_baht": 300})
    dearer = replace(SCALING, low=Decimal(1000), high=Decimal(1200))
    changed = replace(
        CLINIC, persona="สุภาพ\nเปิด 9.00 น.\nมีที่จอดรถ", prices=(dearer,), messages={"busy": "รอสักครู่ค่ะ"}
    )
    after = ClinicState.of(ORG, org_document(changed), {"max_tokens": 700}, None)
    told = {
        each.change.field: [f"{line.sign}{line.number} {line.text}" for line in each.lines]
        for each in diff(before, after)
    }
    assert told == {
        "budget.daily_budget_baht": ["-1 300"],
        "messages.busy": ["+1 รอสักครู่ค่ะ"],
        "model.max_tokens": ["+1 700"],
        "persona": ["-2 เปิด 10.00 น.", "+2 เปิด 9.00 น.", "+3 มีที่จอดรถ"],
        "prices": ["-1 ขูดหินปูน · 900", "+1 ขูดหินปูน · 1000–1200"],
    }


async def test_a_version_reads_back_as_it_was_written(operator: Operator) -> None:
    await operator.apply(model={"max_tokens": 700})
    version = await find_version(operator.documents, ORG, 1)
    assert version.state == ClinicState.of(ORG, org_document(CLINIC), {"max_tokens": 700}, None)
    assert ClinicVersion.decode(version.encode()) == version
