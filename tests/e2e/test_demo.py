"""The demo as a newcomer runs it, and what its processes have logged meanwhile."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(150)


@dataclass(frozen=True)
class Run:
    status: int
    shown: dict[str, Any]
    errors: str
    folder: Path

    @property
    def logs(self) -> dict[str, str]:
        return {file.name: file.read_text() for file in self.folder.glob("*.log")}

    @property
    def secrets(self) -> set[str]:
        """Everything that opens something: the clinics' secrets, reply tokens, the provider's key."""
        stored = json.loads((self.folder / "secrets.json").read_text())
        found = {secret["channel_secret"] for secret in stored.values()}
        with sqlite3.connect(self.folder / "documents.db") as db:
            dump = "\n".join(db.iterdump())
        tokens = set(re.findall(r'"reply_token": ?"([^"]+)"', dump))
        key = re.findall(r"OPENAI_API_KEY=(\S+)", (self.folder / "env.sh").read_text())
        assert (len(found), len(key)) == (5, 1)
        assert len(tokens) > 20
        return found | tokens | set(key)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("demo") / "run"
    # What the shell has set must neither be used nor shown.
    canaries = {
        "OPENAI_API_KEY": "sk-canary-key",
        "OPENAI_BASE_URL": "http://canary.invalid/v1",
        "REDIS_URL": "redis://:canary-password@canary.invalid",
        "SECRET_STORE": "file:/canary",
        "DOCUMENT_STORE": "sqlite:/canary",
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "fairlane", "demo", "--json", "--keep", folder],
        env={**os.environ, **canaries},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.startswith("{"), done.stderr
    return Run(done.returncode, json.loads(done.stdout), done.stderr, folder)


def test_every_promise_holds(run: Run) -> None:
    assert run.shown["broken"] == []
    assert (run.status, run.errors) == (0, "")
    assert {scene["state"] for scene in run.shown["scenes"]} == {"held"}
    assert len(run.shown["scenes"]) == 19
    assert run.shown["seconds"] < 100  # half a minute by itself; other tests run beside it


def test_everybody_is_answered_once_but_for_those_who_must_not_be(run: Run) -> None:
    outcomes = [line["outcome"] for line in run.shown["transcript"]]
    assert {*outcomes} == {"answered", "silent", "refused", "notice"}
    (everything,) = [row for row in run.shown["clinics"] if row["org_id"] == ""]
    assert everything["received"] == everything["answered"] + everything["silent"]
    assert everything["received"] == sum(outcome in {"answered", "silent"} for outcome in outcomes)
    assert (everything["refused"], everything["duplicates"]) == (1, 2)
    assert {line["model"] for line in run.shown["transcript"]} == {"gpt-6.1-terra", "gpt-6-luna", ""}
    instances = {line["instance"] for line in run.shown["transcript"] if line["outcome"] == "answered"}
    assert instances - {""} == {"turn-0", "turn-1", "turn-2"}  # what staff tap has no turn of its own


def test_the_spend_is_what_openai_served_to_the_micro_baht(run: Run) -> None:
    booked = sum(row["spent_micro_baht"] for row in run.shown["spend"])
    assert booked == run.shown["served_micro_baht"] + run.shown["unknown_micro_baht"]
    by_model = sum(m["spent_micro_baht"] for r in run.shown["spend"] for m in r["by_model"].values())
    assert by_model == booked
    assert run.shown["unknown_micro_baht"] > 0
    assert [row["downgraded"] for row in run.shown["spend"] if row["downgraded"]] == [3]
    assert [row["stopped"] for row in run.shown["spend"] if row["stopped"]] == [2]
    assert sum(row["ambiguous"] for row in run.shown["spend"]) == 1


def test_no_log_line_holds_a_secret_a_token_or_a_customers_words(run: Run) -> None:
    logs = "\n".join(run.logs.values())
    everything = logs + json.dumps(run.shown, ensure_ascii=False) + run.errors
    assert len(run.logs) == 4
    assert [secret for secret in run.secrets if secret in everything] == []
    assert "canary" not in everything
    assert not re.search(r"eyJ|Bearer|x-line-signature|sk-", everything, re.IGNORECASE)
    # Words in any script but Latin come from customers, clinics or models: none belong in a log.
    said = {word for line in run.shown["transcript"] for word in (line["said"], line["reply"]) if word}
    assert [words for words in said if words != "(sticker)" and words in logs] == []
    assert not re.search("[\u0e00-\u0e7f]", logs)


def test_every_log_line_is_an_event_with_fields(run: Run) -> None:
    for log in run.logs.values():
        for line in log.splitlines():
            entry = json.loads(line)
            assert re.fullmatch(r"[a-z]+\.[a-z_]+", entry["message"]), entry
            assert entry["severity"] in {"INFO", "WARNING"}
