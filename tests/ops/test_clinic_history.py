"""`fairlane clinics history`, `diff`, `rollback`, as an operator sees them."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from core.ops import cli

Run = Callable[..., Result]
ORG = "clinic-1"


def content(*persona: str, scaling: int = 900) -> str:
    line = {"bot_user_id": f"U{1:032x}", "channel_id": "1650000001", "channel_secret": "canary"}
    prices = [{"item": "ขูดหินปูน", "baht": scaling}, {"item": "จัดฟัน", "baht": [39000, 65000]}]
    one = {"org_id": ORG, "name": "ก", "line": line, "persona": "\n".join(persona), "prices": prices}
    return json.dumps({"clinics": [one]})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCUMENT_STORE", "sqlite:documents.db")
    monkeypatch.setenv("SECRET_STORE", "file:secrets.json")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("REDIS_URL", raising=False)

    def run(*arguments: str, file: str = "") -> Result:
        Path("clinics.yaml").write_text(file, "utf-8")
        return CliRunner().invoke(cli.app, ["clinics", *arguments])

    return run


@pytest.fixture
def changed(run: Run) -> Run:
    """A clinic with two versions."""
    for file in (content("สุภาพ", "เปิด 10.00 น."), content("สุภาพ", "เปิด 9.00 น.", scaling=1000)):
        assert run("apply", "clinics.yaml", file=file).exit_code == 0
    return run


def parsed(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_history_says_who_when_and_what(changed: Run) -> None:
    latest, first = parsed(changed("history", ORG, "--json"))
    me = f"{getpass.getuser()}@{socket.gethostname()}"
    assert (latest["version"], latest["by"], latest["what"]) == (2, me, "apply")
    assert (latest["fields"], first["fields"]) == (["persona", "prices"], [])
    assert latest["at_ms"] >= first["at_ms"] > 1_600_000_000_000
    page = changed("history", ORG).stdout
    assert "persona, prices" in page
    assert me in page
    assert parsed(changed("show", ORG, "--json"))["version"] == 2


def test_a_difference_is_readable(changed: Run) -> None:
    page = changed("diff", ORG, "1", "2").stdout
    assert page.splitlines() == [
        "persona",
        "  - 2  เปิด 10.00 น.",
        "  + 2  เปิด 9.00 น.",
        "prices",
        "  - 1  ขูดหินปูน · 900",
        "  + 1  ขูดหินปูน · 1000",
    ]
    shown = parsed(changed("diff", ORG, "1", "2", "--json"))
    assert [field["field"] for field in shown["fields"]] == ["persona", "prices"]
    assert shown["fields"][0]["lines"][0] == {"sign": "-", "line": 2, "text": "เปิด 10.00 น."}
    assert changed("diff", ORG, "2", "2").stdout == "no difference\n"


def test_a_change_is_taken_back_and_that_too(changed: Run) -> None:
    before = parsed(changed("show", ORG, "--json"))
    dry = changed("rollback", ORG, "1", "--dry-run")
    assert "+ 1  ขูดหินปูน · 900" in dry.stdout
    assert "dry run: nothing was written" in dry.stdout
    assert parsed(changed("show", ORG, "--json")) == before
    done = changed("rollback", ORG, "1")
    assert f"{ORG}: version 3, as version 1" in done.stdout
    assert "warning: all instances see it within 60 s" in done.stderr
    assert parsed(changed("show", ORG, "--json"))["persona"] == "สุภาพ\nเปิด 10.00 น."
    again = parsed(changed("rollback", ORG, "1", "--json"))
    assert (again["version"], again["fields"]) == (None, [])
    assert parsed(changed("rollback", ORG, "2", "--json"))["version"] == 4
    assert {**parsed(changed("show", ORG, "--json")), "version": 2} == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["history", "nobody"], "'nobody': no such clinic"),
        (["diff", ORG, "1", "7"], f"N 7: {ORG} has no such version; `fairlane clinics history {ORG}`"),
        (["rollback", ORG, "7"], f"N 7: {ORG} has no such version"),
        (["rollback", "nobody", "1"], "has no such version"),
    ],
)
def test_what_is_not_there_is_named(changed: Run, words: list[str], told: str) -> None:
    result = changed(*words)
    assert result.exit_code == 1
    assert told in result.stderr
