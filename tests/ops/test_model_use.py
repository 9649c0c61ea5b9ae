"""`fairlane clinics list --models` and `move-model`: who uses what until when, and taking them elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from core.adapters.sqlite_documents import SqliteDocuments
from core.ops import cli
from core.ports.documents import Create, Key

Run = Callable[..., Result]
OLD, NEW, DEAR = "gpt-4o-mini", "gpt-6-luna", "gpt-6.1-terra"


def clinic(n: int, **more: Any) -> dict[str, Any]:
    line = {"bot_user_id": f"U{n:032x}", "channel_id": f"165000000{n}", "channel_secret": f"canary-{n}"}
    return {"org_id": f"clinic-{n}", "name": f"คลินิก {n}", "line": line, **more}


FILE: Mapping[str, Any] = {
    "defaults": {"model": {"model_name": OLD}, "budget": {"fallback_model": NEW}},
    "clinics": [
        clinic(1),
        clinic(2, model={"model_name": DEAR}, budget={"fallback_model": OLD}),
        clinic(3, model={"model_name": OLD, "max_tokens": 700}),
        clinic(4, model={"model_name": DEAR}, budget={"fallback_model": None}),
    ],
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCUMENT_STORE", "sqlite:documents.db")
    monkeypatch.setenv("SECRET_STORE", "file:secrets.json")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("REDIS_URL", raising=False)
    Path("clinics.yaml").write_text(json.dumps(FILE), "utf-8")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli.app, ["clinics", *arguments])

    assert run("apply", "clinics.yaml").exit_code == 0
    return run


def parsed(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def used(run: Run) -> dict[str, dict[str, list[str]]]:
    return {use["model"]: use["as"] for use in parsed(run("list", "--models", "--json"))}


def versions(run: Run) -> dict[str, int]:
    return {c["org_id"]: c["version"] for c in parsed(run("list", "--json"))}


def test_each_model_is_named_with_who_uses_it_as_what_until_when(run: Run) -> None:
    shown = {use["model"]: use for use in parsed(run("list", "--models", "--json"))}
    assert {model: (use["ends"], use["priced"]) for model, use in shown.items()} == {
        OLD: ("2027-01-14", True),
        NEW: (None, True),
        DEAR: (None, True),
    }
    assert shown[OLD]["clinics"] == ["clinic-1", "clinic-2", "clinic-3"]
    assert shown[OLD]["as"] == {
        "model.model_name": ["clinic-1", "clinic-3"],
        "budget.fallback_model": ["clinic-2"],
    }
    page = run("list", "--models").stdout
    assert "2027-01-14" in page
    assert "answers 2, fallback 1" in page
    assert "3 clinics (clinic-1, clinic-2, clinic-3)" in page


def test_a_model_is_moved_where_it_is_named_and_each_move_is_a_version(run: Run) -> None:
    before = versions(run)
    dry = parsed(run("move-model", OLD, NEW, "--dry-run", "--json"))
    assert versions(run) == before
    moved = parsed(run("move-model", OLD, NEW, "--json"))
    fields = {each["org_id"]: each["fields"] for each in moved["moved"]}
    assert fields == {
        "default": ["model.model_name"],
        "clinic-2": ["budget.fallback_model"],
        "clinic-3": ["model.model_name"],
    }
    assert {each["org_id"]: each["fields"] for each in dry["moved"]} == fields
    assert (dry["by_default"], moved["by_default"]) == (["clinic-1"], ["clinic-1"])
    assert OLD not in used(run)
    assert versions(run) == {"clinic-1": 1, "clinic-2": 2, "clinic-3": 2, "clinic-4": 1}
    latest = parsed(run("history", "clinic-3", "--json"))[0]
    assert (latest["what"], latest["fields"]) == (f"move-model {OLD} {NEW}", ["model.model_name"])
    again = run("move-model", OLD, NEW)
    assert (again.exit_code, again.stdout) == (0, f"nobody uses {OLD}\n")


def test_a_move_is_taken_back_by_rollback(run: Run) -> None:
    before = used(run)
    run("move-model", OLD, NEW)
    for org_id in ("default", "clinic-2", "clinic-3"):
        assert run("rollback", org_id, "1").exit_code == 0
    assert used(run) == before


def test_what_the_release_sets_by_default_is_moved_by_the_defaults(run: Run) -> None:
    """Nobody has named it; clinics follow it all the same."""
    Path("clinics.yaml").write_text(json.dumps({"clinics": [clinic(5)]}), "utf-8")
    run("rollback", "default", "1")
    run("apply", "clinics.yaml")
    moved = parsed(run("move-model", NEW, DEAR, "--json"))
    assert [each["org_id"] for each in moved["moved"]] == ["default"]
    assert "clinic-5" in moved["by_default"]
    assert NEW not in used(run)


@pytest.mark.parametrize(
    ("new", "told"),
    [
        ("gpt-nobody", "gpt-nobody"),
        ("backup/gpt-6-luna", "NEW backup/gpt-6-luna: LLM_PROVIDERS names no such provider here"),
        ("gone", "gone was shut down on 2026-01-02"),
        ("terse", "clinic-3: terse answers at most 650 tokens, max_tokens is 700"),
    ],
)
def test_nobody_is_moved_if_one_of_them_can_not_be(run: Run, new: str, told: str) -> None:
    price = {"prices": [{"from": "2020-01-01", "input": "1", "cached_input": "1", "output": "1"}]}
    entries: dict[str, dict[str, Any]] = {
        "gone": {**price, "shutdown": "2026-01-02"},
        "terse": {**price, "max_output": 650},
    }

    async def write() -> None:
        documents = SqliteDocuments("documents.db")
        await documents.commit(
            [Create(Key("ai_model_prices", model), entry) for model, entry in entries.items()]
        )
        await documents.close()

    asyncio.run(write())
    before = versions(run)
    result = run("move-model", OLD, new)
    assert result.exit_code == 1
    assert told in result.stderr
    assert versions(run) == before
    assert OLD in used(run)
