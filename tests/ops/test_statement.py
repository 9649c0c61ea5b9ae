"""`fairlane statement`: every charge, every booking, and the sum of the books, whatever becomes of turns."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from core.adapters.sqlite_documents import SqliteDocuments
from core.domain.budget import DayBooks
from core.domain.charges import ChargeKind, ChargeLine
from core.domain.clinic import BudgetPolicy
from core.domain.money import charge
from core.domain.outcome import Outcome
from core.domain.prices import Price
from core.domain.turn import TurnState
from core.ops import cli
from core.ports.documents import DocumentStore, Merge
from core.ports.llm import Usage
from core.usecases.journal.books import HOLD_MS, Settlement, day_key
from core.usecases.journal.books import settle as settlement_of
from core.usecases.journal.entries import Stored, TurnMovedError
from core.usecases.operate.statement import Statements
from tests.support.budget_worker import FULL, ORG, RATE, WORST, Worker, open_store, some_usage
from tests.support.busy_days import BANGKOK, BusyDays, Plan
from tests.support.clock import FakeClock
from tests.support.faulty_documents import CommitFaults, FaultyDocuments
from tests.support.recount import miscounted

AT = datetime(2026, 11, 24, 9, tzinfo=BANGKOK)
BOOKED = Outcome(opens=True, stage="done", moved=True, booked=True)
WORDS = "=HYPERLINK(ฟอกสีฟัน)"
DAY_MS = 86_400_000


async def write(documents: DocumentStore) -> None:
    days = BusyDays(documents)
    await days.clinic()
    await days.run(Plan("t0", AT - timedelta(days=40), outcome=BOOKED, service="จัดฟัน"))
    await days.run(Plan("t1", AT, outcome=BOOKED, service=WORDS, confirms=True))
    await days.run(Plan("t2", AT + timedelta(days=1), outcome=Outcome(stage="advising")))
    crashed = Worker(documents, days.clock, BudgetPolicy(Decimal(100)))
    await crashed.reserve("t3")
    days.clock.advance(HOLD_MS / 1000)
    await crashed.turn("t4", FULL)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("DOCUMENT_STORE", f"sqlite:{tmp_path / 'documents.db'}")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    with_store(write)
    return lambda *arguments: CliRunner().invoke(cli.app, ["statement", *arguments])


def with_store(body: Callable[[DocumentStore], Any]) -> Any:
    async def opened() -> Any:
        documents = open_store(os.environ)
        try:
            return await body(documents)
        finally:
            await documents.close()

    return asyncio.run(opened())


def test_each_charge_follows_from_its_turns_usage_and_price_row(run: Callable[..., Result]) -> None:
    result = run(ORG, "2026-11", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["closes"] is True
    assert [(line["turn_id"], line["kind"]) for line in found["charges"]] == [
        ("t1", "call"),
        ("t2", "call"),
        ("t3", "unknown"),
        ("t4", "call"),
    ]
    for line in found["charges"]:
        if line["kind"] == "call":
            price, usage = Price.of_record(line["model"], line["price"]), Usage(**line["usage"])
            again = charge(price, usage, Decimal(line["thb_per_usd"]))
            assert again.micro_baht == line["micro_baht"]
        else:
            assert line["micro_baht"] == WORST["big"]
    assert sum(line["micro_baht"] for line in found["charges"]) == found["booked_micro_baht"]
    (booking,) = found["bookings"]
    assert (booking["id"], booking["state"], found["bookings_counted"]) == ("t1", "confirmed", 1)


def test_the_same_stands_in_the_spreadsheet_and_on_the_page(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    lines, page = tmp_path / "lines.csv", tmp_path / "page.html"
    result = run(ORG, "2026-11", "--csv", str(lines), "--report", str(page))
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(lines.read_text("utf-8-sig"))))
    assert [row["what"] for row in rows] == ["call", "call", "unknown", "call", "booking"]
    found = json.loads(run(ORG, "2026-11", "--json").stdout)
    assert sum(int(row["micro_baht"] or 0) for row in rows) == found["booked_micro_baht"]
    assert rows[-1]["service"] == f"'{WORDS}"  # no spreadsheet takes a customer's words for a formula
    shown = page.read_text("utf-8")
    assert "ใบแจ้งยอด พฤศจิกายน 2569" in shown
    assert "ตรงกับสมุดบัญชีทุกสตางค์" in shown
    for line in found["charges"]:
        assert f"<td>{line['turn_id']}</td>" in shown


def test_a_voice_messages_charge_shows_its_seconds_and_its_own_price(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    price = {"model": "ears", "version": "v7", "unit": "minute", "minute_usd": "0.003"}
    heard = ChargeLine(ChargeKind.CALL, "ears", 21_600, usage={"audio_ms": 12_300}, price=price)

    async def settle(documents: DocumentStore) -> None:
        ended = Settlement("t1", "ears", 0, cost=21_600, calls=[heard], ends=False)
        at_ms = round(AT.timestamp() * 1000)
        await documents.commit(settlement_of(day_key(ORG, "20261124"), ended, at_ms))

    with_store(settle)
    lines, page = tmp_path / "lines.csv", tmp_path / "page.html"
    result = run(ORG, "2026-11", "--csv", str(lines), "--report", str(page))
    assert result.exit_code == 0, result.output
    (row,) = [r for r in csv.DictReader(io.StringIO(lines.read_text("utf-8-sig"))) if r["model"] == "ears"]
    assert (row["audio_ms"], row["price_version"], row["micro_baht"]) == ("12300", "v7", "21600")
    assert "minute_usd 0.003" in row["price_else"]
    assert all(text in page.read_text("utf-8") for text in ("เสียง 12.3 วินาที", "minute_usd 0.003 (v7)"))


def test_books_that_say_something_else_are_told_apart_and_end_with_1(run: Callable[..., Result]) -> None:
    async def tamper(documents: DocumentStore) -> None:
        key = day_key(ORG, "20261124")
        (document,) = await documents.get_many([key])
        assert document is not None
        await documents.commit([Merge(key, {"spent": document.data["spent"] + 1})])

    with_store(tamper)
    result = run(ORG, "2026-11", "--json")
    assert (result.exit_code, json.loads(result.stdout)["closes"]) == (1, False)
    assert "differ on 2026-11-24" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nobody", "2026-11"], "no such clinic"),
        ([ORG, "2026-13"], "expected YYYY-MM"),
        ([ORG, "11/2026"], "expected YYYY-MM"),
    ],
)
def test_what_can_not_be_asked_is_refused(
    run: Callable[..., Result], arguments: list[str], problem: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert problem in result.stderr


@pytest.mark.parametrize(("month", "days"), [("2026-12", 0), ("2024-02", 0), ("2026-11", 2), ("2026-10", 1)])
def test_a_month_has_its_own_days_only(run: Callable[..., Result], month: str, days: int) -> None:
    result = run(ORG, month, "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["days"]) == days


# What may happen to four turns of a clinic, one after the other. `settle` is by who reserved last:
# its hold may have run out and been charged meanwhile.
STEP = st.tuples(
    st.sampled_from(["turn", "reserve", "settle", "take over"]),
    st.integers(0, 3),
    st.sampled_from([0, 1_000, HOLD_MS, DAY_MS]),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(STEP, min_size=3, max_size=14), st.integers(0, 99))
def test_charges_sum_up_to_the_books_and_counters_hold_whatever_becomes_of_turns(
    steps: list[tuple[str, int, int]], seed: int
) -> None:
    asyncio.run(_play(steps, random.Random(seed)))


async def _play(steps: list[tuple[str, int, int]], rng: random.Random) -> None:
    """On a store whose commits land and answer an error, or are lost, one time in five each."""
    documents, clock = SqliteDocuments(":memory:"), FakeClock()
    faulty = FaultyDocuments(documents, CommitFaults(landed=0.2, lost=0.2, seed=rng.randint(0, 99)))
    fences, reserved = Counter[str](), dict[str, Stored]()
    for what, number, later_ms in steps:
        clock.advance(later_ms / 1000)
        turn_id = f"t{number}"
        fences[turn_id] += what == "take over"
        worker = Worker(faulty, clock, BudgetPolicy(Decimal(2)), fence=1 + fences[turn_id])
        stored = reserved.get(turn_id) if what == "settle" else await worker.reserve(turn_id, "คำ")
        if stored is None or stored.record.state is not TurnState.RESERVED:
            continue
        reserved[turn_id] = stored
        if what in {"turn", "settle"}:
            with suppress(TurnMovedError):
                await worker.settle(stored, some_usage(rng), ambiguous=rng.choice([0, 0, 1]))
    await _assert_closed(documents, clock)
    await documents.close()


async def _assert_closed(documents: DocumentStore, clock: FakeClock) -> None:
    days = await documents.query("org_ai_spend")
    spent = {document.data["day"]: DayBooks.parse(document.data).spent for document in days}
    read = Statements(documents, clock, "Asia/Bangkok")
    months = sorted({f"{day[:4]}-{day[4:6]}" for day in spent})
    found = [await read(ORG, month) for month in months]
    lines = [line for statement in found for line in statement.lines]
    assert all(statement.closes for statement in found)
    assert await miscounted(documents, ORG) == ""
    assert sum(each.line.micro_baht for each in lines) == sum(spent.values())
    for each in lines:
        if each.line.kind is ChargeKind.CALL:
            usage, price = Usage(**each.line.usage), Price.of_record(each.line.model, each.price)
            assert charge(price, usage, RATE).micro_baht == each.line.micro_baht
