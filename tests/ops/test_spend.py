"""`fairlane spend` and `fairlane budgets`, run as an operator runs them, against a store with real books."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from core.adapters.system_clock import SystemClock
from core.domain.clinic import BudgetPolicy
from core.ops import cli
from core.ports.documents import Create, Delete, DocumentStore, Key, Merge
from tests.support.budget_worker import FULL, ORG, WORST, Worker, open_store

DAY = "20261124"
SPENT = WORST["big"] + (2000 + 600 * 5) * 36


class NoonClock(SystemClock):
    def now_ms(self) -> int:
        return round(datetime(2026, 11, 24, 5, tzinfo=UTC).timestamp() * 1000)


async def write_books(documents: DocumentStore) -> None:
    """Two calls on the primary model (one of them cheaper), one that crashed, one stopped turn."""
    policy = BudgetPolicy(Decimal(WORST["big"] * 3) / 1_000_000, fallback_model=None)
    leader = Worker(documents, NoonClock(), policy)
    await leader.turn("full", FULL)
    await leader.turn("plain", replace(FULL, cache_write=0))
    await leader.reserve("running")
    await leader.turn("stopped", FULL)
    await documents.commit([Create(Key("orgs", ORG), {"name": "Bangkok Smile"})])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("DOCUMENT_STORE", f"sqlite:{tmp_path / 'documents.db'}")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    with_store(write_books)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli.app, arguments)

    return run


def with_store(body: Callable[[DocumentStore], Any]) -> Any:
    async def opened() -> Any:
        documents = open_store(os.environ)
        try:
            return await body(documents)
        finally:
            await documents.close()

    return asyncio.run(opened())


def test_spend_as_json_has_the_agreed_form(run: Callable[..., Result]) -> None:
    result = run("spend", "--day", "2026-11-24", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == [
        {
            "org_id": ORG,
            "day": DAY,
            "budget_micro_baht": WORST["big"] * 3,
            "spent_micro_baht": SPENT,
            "held_micro_baht": WORST["big"],
            "turns": 2,
            "downgraded": 0,
            "stopped": 1,
            "ambiguous": 0,
            "by_model": {
                "big": {
                    "turns": 2,
                    "input": 4000,
                    "cached": 0,
                    "cache_write": 2000,
                    "output": 1200,
                    "spent_micro_baht": SPENT,
                }
            },
        }
    ]


def test_spend_finds_days_by_clinic_and_range(run: Callable[..., Result]) -> None:
    def found(*arguments: str) -> list[str]:
        result = run("spend", "--json", *arguments)
        assert result.exit_code == 0, result.output
        return [row["day"] for row in json.loads(result.stdout)]

    assert found("--org", ORG, "--from", "2026-11-01", "--to", "20261130") == [DAY]
    assert found("--from", "2026-11-25", "--to", "2026-11-30") == []
    assert found("--org", ORG, "--day", "2026-11-25") == []


def test_the_books_of_a_clinic_that_was_removed_are_still_shown(run: Callable[..., Result]) -> None:
    with_store(lambda documents: documents.commit([Delete(Key("orgs", ORG))]))
    result = run("spend", "--org", ORG, "--day", DAY, "--json")
    assert [row["day"] for row in json.loads(result.stdout)] == [DAY]


def test_spend_for_people_shows_bar_sums_and_models(run: Callable[..., Result]) -> None:
    result = run("spend", "--day", DAY)
    assert result.exit_code == 0, result.output
    assert "97% of ฿0.59" in result.stdout
    assert "█" * 9 + "░" in result.stdout
    assert "big" in result.stdout
    assert "4,000 (0) → 1,200" in result.stdout


LONG = "clinic-of-a-name-of-40-characters-exactly"[:40]


async def write_day_of_a_long_name(documents: DocumentStore) -> None:
    tokens = {"turns": 3, "input": 24_063_495, "cached": 15_779_424, "cache_write": 0, "output": 2_269_008}
    day = {
        "day": DAY,
        "spent": 41_230_000,
        "held": 1_200_000,
        "turns": 1_234,
        "downgraded": 12,
        "stopped": 3,
        "ambiguous": 1,
        "budget_micro_baht": 100_000_000_000,
        "by_model": {"gpt-6.1-terra": {**tokens, "spent_micro_baht": 41_230_000}},
    }
    await documents.commit([Create(Key("org_ai_spend", f"{LONG}:{DAY}"), day)])


@pytest.mark.parametrize("columns", ["40", "80", "100", "120", None])
def test_no_amount_is_cut_however_narrow_the_terminal_or_in_a_pipe(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, columns: str | None
) -> None:
    with_store(write_day_of_a_long_name)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    else:
        monkeypatch.delenv("COLUMNS")
    shown = run("spend", "--day", DAY).stdout
    amounts = ("฿41.23", "฿1.20", "1,234", "of ฿100,000.00", "of ฿100,000.59")
    words = ("12 downgraded, 3 stopped, 1 ambiguous", "in 24,063,495 (15,779,424) → 2,269,008")
    assert [text for text in (LONG, *amounts, *words) if text not in shown] == []
    assert "…" not in shown
    longest = max(map(len, shown.splitlines()))
    assert longest <= 80 if columns in {"40", "80"} else longest > 80


def test_what_a_table_shows_is_whole_in_a_pipe(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here of another command's: all of them print by the same rule."""
    name = f"{LONG} {LONG} {LONG}"
    with_store(lambda documents: documents.commit([Create(Key("orgs", LONG), {"name": name})]))
    monkeypatch.delenv("COLUMNS")
    assert name in run("clinics", "list").stdout


def test_spend_as_csv_has_a_line_a_clinic_and_day(run: Callable[..., Result]) -> None:
    header, line, *rest = run("spend", "--day", DAY, "--csv").stdout.splitlines()
    assert rest == []
    row = dict(zip(header.split(","), line.split(","), strict=True))
    assert (row["org_id"], row["spent_micro_baht"], row["output"]) == (ORG, str(SPENT), "1200")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--day", "24.11."], "expected YYYY-MM-DD"),
        (["--day", "2026-1-12"], "day '2026-1-12': expected YYYY-MM-DD"),
        (["--day", "2026-11-2"], "expected YYYY-MM-DD"),
        (["--day", "2026-1124"], "expected YYYY-MM-DD"),
        (["--day", "2026-02-30"], "expected YYYY-MM-DD"),
        (["--org", "typo"], "ORG 'typo': no such clinic; `fairlane clinics list` shows them"),
        (["--org", "typo", "--json"], "ORG 'typo': no such clinic"),
        (["--day", DAY, "--from", DAY], "use one or the other"),
        (["--org", ORG, "--from", "2026-11-25", "--to", "2026-11-24"], "swap them"),
        (["--from", "2026-11-25", "--to", "2026-11-24"], "swap them"),
        (["--org", ORG, "--from", "2016-11-25", "--to", "2026-11-24"], "at most 400 days"),
    ],
)
def test_a_wrong_day_or_clinic_is_refused_with_the_remedy(
    run: Callable[..., Result], arguments: list[str], complaint: str
) -> None:
    result = run("spend", *arguments)
    assert result.exit_code == 1
    assert complaint in result.stderr


def test_two_forms_at_once_are_refused(run: Callable[..., Result]) -> None:
    result = run("spend", "--json", "--csv")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--json and --csv" in result.stderr


def test_explain_shows_the_arithmetic_of_one_charge(run: Callable[..., Result]) -> None:
    result = run("spend", "explain", "full")
    assert result.exit_code == 0, result.output
    assert "2,000 × 1.25 × 36" in result.stdout
    assert "90,000 µ฿" in result.stdout
    assert "600 × 5 × 36" in result.stdout
    assert f"{WORST['big']:,} µ฿" in result.stdout
    assert "adds up" in result.stdout


def test_explain_tells_a_charge_that_does_not_follow_from_its_usage(run: Callable[..., Result]) -> None:
    async def falsify(documents: DocumentStore) -> None:
        await documents.commit([Merge(Key("turns", "full"), {"cost_micro_baht": 1})])

    with_store(falsify)
    assert json.loads(run("spend", "explain", "full", "--json").stdout)["adds_up"] is False


def test_explain_of_a_turn_without_a_call_says_so(run: Callable[..., Result]) -> None:
    found = json.loads(run("spend", "explain", "stopped", "--json").stdout)
    assert (found["decision"], found["cost_micro_baht"], found["adds_up"]) == ("stop", 0, True)
    unknown = run("spend", "explain", "nobody")
    assert unknown.exit_code == 1
    assert "not in the journal" in unknown.stderr


def test_a_budget_is_changed_field_by_field(run: Callable[..., Result]) -> None:
    assert json.loads(run("budgets", "show", ORG, "--json").stdout)["own"] == []
    changed = run("budgets", "set", ORG, "--daily", "250.50", "--no-hard-stop", "--json")
    assert changed.exit_code == 0, changed.output
    run("budgets", "set", ORG, "--threshold", "0.7", "--fallback", "none", "--no-downgrade")
    found = json.loads(run("budgets", "show", ORG, "--json").stdout)
    assert found == {
        "org_id": ORG,
        "daily_budget_baht": "250.5",
        "daily_budget_micro_baht": 250_500_000,
        "hard_stop_enabled": False,
        "model_downgrade_enabled": False,
        "downgrade_threshold": "0.7",
        "fallback_model": None,
        "own": [
            "daily_budget_baht",
            "hard_stop_enabled",
            "model_downgrade_enabled",
            "downgrade_threshold",
            "fallback_model",
        ],
    }
    assert "฿250.50 (its own)" in run("budgets", "show", ORG).stdout


def test_what_a_clinic_does_not_set_goes_on_to_follow_the_default(run: Callable[..., Result]) -> None:
    run("budgets", "set", ORG, "--threshold", "0.5")
    run("budgets", "set", "default", "--daily", "120")
    found = json.loads(run("budgets", "show", ORG, "--json").stdout)
    assert (found["daily_budget_baht"], found["downgrade_threshold"]) == ("120", "0.5")
    assert "฿120.00 (the default)" in run("budgets", "show", ORG).stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([ORG, "--daily", "-1"], "--daily -1: expected baht from 0"),
        ([ORG, "--daily", "0.0000001"], "at most six decimals"),
        ([ORG, "--threshold", "80"], "--threshold 80: expected a share from 0 to 1"),
        ([ORG, "--fallback", "gpt-9"], "'gpt-9' has no price"),
        (["nobody", "--daily", "1"], "no such clinic"),
    ],
)
def test_a_wrong_budget_is_refused_and_nothing_is_written(
    run: Callable[..., Result], arguments: list[str], complaint: str
) -> None:
    result = run("budgets", "set", *arguments)
    assert result.exit_code == 1
    assert complaint in result.stderr
    assert json.loads(run("budgets", "show", ORG, "--json").stdout)["own"] == []


def test_a_threshold_of_many_decimals_is_kept_as_it_was_given(run: Callable[..., Result]) -> None:
    assert run("budgets", "set", ORG, "--threshold", "0.6666667").exit_code == 0
    found = run("budgets", "show", ORG, "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["downgrade_threshold"] == "0.6666667"


def test_a_fallback_that_may_not_answer_so_long_is_refused(run: Callable[..., Result]) -> None:
    long = [Create(Key("ai_model_config", "default"), {"max_tokens": 20_000})]
    with_store(lambda documents: documents.commit(long))
    result = run("budgets", "set", ORG, "--fallback", "gpt-4o-mini")
    assert result.exit_code == 1
    assert "--fallback gpt-4o-mini: answers at most 16,384 tokens, max_tokens is 20,000" in result.stderr
    assert run("budgets", "set", ORG, "--fallback", "gpt-6-luna").exit_code == 0


def test_what_is_no_number_is_refused_by_option(run: Callable[..., Result]) -> None:
    result = run("budgets", "set", ORG, "--daily", "much")
    assert result.exit_code == 2
    assert "--daily" in result.stderr
