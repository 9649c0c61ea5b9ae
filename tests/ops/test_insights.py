"""`fairlane insights`, over days that real turns left in the store."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from core.domain.outcome import Outcome
from core.ops import cli
from core.ports.documents import DocumentStore
from tests.support.budget_worker import ORG, open_store
from tests.support.busy_days import BANGKOK, BusyDays, Plan

MORNING = datetime(2026, 11, 24, 9, 5, tzinfo=BANGKOK)
ASKED = "มีที่จอดรถไหมคะ"


def stage(name: str, **more: Any) -> Outcome:
    return Outcome(stage=name, moved=True, **more)


PLANS = (
    Plan("t1", MORNING, 1.5, stage("advising", opens=True), "ฟอกสีฟัน", ASKED),
    Plan("t2", MORNING + timedelta(minutes=2), 4, stage("booking"), "ฟอกสีฟัน"),
    Plan("t3", MORNING + timedelta(minutes=4), 4, stage("done", booked=True), "ฟอกสีฟัน", confirms=True),
    Plan("t4", MORNING + timedelta(hours=9), 20, stage("advising", opens=True, handed_off=True), how="push"),
    Plan("t5", MORNING + timedelta(days=1), 0.3, Outcome(opens=True)),
    Plan("t6", MORNING + timedelta(days=2), 2, stage("done", opens=True, booked=True), "จัดฟัน"),
)


async def write(documents: DocumentStore) -> None:
    days = BusyDays(documents)
    await days.clinic("คลินิก <สไมล์>")
    for plan in PLANS:
        await days.run(plan)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("DOCUMENT_STORE", f"sqlite:{tmp_path / 'documents.db'}")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)

    async def prepare() -> None:
        documents = open_store(os.environ)
        await write(documents)
        await documents.close()

    asyncio.run(prepare())

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli.app, ["insights", *arguments])

    return run


def of(run: Callable[..., Result], *arguments: str) -> dict[str, Any]:
    result = run("--from", "2026-11-24", "--to", "2026-11-25", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_days_are_counted_and_set_against_what_they_cost(run: Callable[..., Result]) -> None:
    found = of(run, "--org", ORG)
    assert found["org_id"] == ORG
    counts = {"turns": 5, "answered": 4, "fixed": 1, "fallbacks": 0, "stopped": 0, "conversations": 3}
    counts |= {"handoffs": 1, "bookings": 1, "confirmed": 1, "missing": 1, "pushes": 1}
    assert {name: found[name] for name in counts} == counts
    assert found["funnel"] == {
        "conversations": 3,
        "advised": 2,
        "to_book": 1,
        "bookings": 1,
        "confirmed": 1,
    }
    assert found["stages"] == {"advising": 2, "booking": 1, "done": 1}
    assert found["hours"] == {"09": 4, "18": 1}
    assert found["waits"] == {"2": 1, "5": 2, "20": 1}
    assert found["wait_s"] == {"p50": 5, "p95": 20}
    assert found["micro_baht_per_booking"] == found["spent_micro_baht"] > 0
    assert found["asked"] == [{"service": "ฟอกสีฟัน", "turns": 3}]
    assert [(each["question"], each["count"]) for each in found["unanswered"]] == [(ASKED, 1)]


def test_all_clinics_are_summed_and_listed(run: Callable[..., Result]) -> None:
    whole, one = of(run), of(run, "--org", ORG)
    (clinic,) = whole.pop("clinics")
    assert whole == {**one, "org_id": None, "asked": []}
    assert clinic == {**one, "asked": []}
    shown = run("--from", "2026-11-24", "--to", "2026-11-25")
    assert "came to a booking" in shown.stdout
    assert ORG in shown.stdout


def test_days_without_a_turn_are_said_to_be_empty(run: Callable[..., Result]) -> None:
    result = run("--org", ORG, "--from", "2026-10-01", "--to", "2026-10-02")
    assert (result.exit_code, "nothing was counted" in result.stdout) == (0, True)
    empty = json.loads(run("--org", ORG, "--from", "2026-10-01", "--to", "2026-10-01", "--json").stdout)
    assert (empty["turns"], empty["micro_baht_per_booking"], empty["wait_s"]["p50"]) == (0, None, None)


def test_the_owners_page_is_in_thai_whole_and_needs_nothing_from_outside(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    target = tmp_path / "page.html"
    result = run("--org", ORG, "--from", "2026-11-24", "--to", "2026-11-26", "--report", str(target))
    assert result.exit_code == 0, result.output
    page = target.read_text("utf-8")
    assert "คลินิก &lt;สไมล์&gt; · " not in page
    assert "<h1>สรุปผลแชตของ คลินิก &lt;สไมล์&gt;</h1>" in page
    assert "24–26 พ.ย. 2569" in page
    assert set(re.findall(r' id="([a-z]+)"', page)) >= {
        "figures",
        "funnel",
        "days",
        "hours",
        "waits",
        "asked",
        "questions",
        "kinds",
    }
    assert "จาก 4 บทสนทนา มีการขอนัด 2 นัด (50%) คลินิกยืนยันแล้ว 1 นัด" in page
    assert not re.search(r"https?://|src=|<script|<link", page)
    empty = run("--org", ORG, "--from", "2026-10-01", "--to", "2026-10-02", "--report", str(target))
    assert empty.exit_code == 0, empty.output
    assert "ยังไม่มีบทสนทนา" in target.read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--org", "nobody"], "no such clinic"),
        (["--report", "page.html"], "--org"),
        (["--from", "2026-11-25", "--to", "2026-11-24"], "after --to"),
        (["--from", "2024-01-01"], "at most 400 days"),
        (["--org", ORG, "--from", "24.11."], "expected YYYY-MM-DD"),
    ],
)
def test_what_can_not_be_asked_is_refused_in_words(
    run: Callable[..., Result], arguments: list[str], problem: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert problem in result.stderr
