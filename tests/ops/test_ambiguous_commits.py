"""Operators' commands on a store that makes a commit and answers an error: done once, and said truthfully."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from core.adapters.sqlite_documents import SqliteDocuments
from core.adapters.system_clock import SystemClock
from core.bootstrap import shared
from core.domain.desk import Desk
from core.domain.questions import Missing, question_id
from core.ops.cli import app
from core.usecases.desk.records import DeskRecords
from core.usecases.journal.commits import writes_of
from core.usecases.turn.effects import counted
from tests.support.faulty_documents import CommitFaults, Fate, FaultyDocuments
from tests.support.turn_samples import CUSTOMER, sample

ORG, PARKING = CUSTOMER.org_id, "มีที่จอดรถไหม"
COLLECTIONS = (
    "orgs",
    "line_channels",
    "ai_model_config",
    "org_ai_budgets",
    "org_versions",
    "questions",
    "desks",
)
VOLATILE = re.compile(r"_ms$|_at$|^at$|^code|salt|digest|hash")

Command = Sequence[str]
COMMANDS: dict[str, Command] = {
    "apply": ("clinics", "apply", "changed.json"),
    "apply a new one": ("clinics", "apply", "another.json"),
    "mode": ("clinics", "mode", ORG, "off"),
    "rollback": ("clinics", "rollback", ORG, "1"),
    "remove": ("clinics", "remove", ORG, "--yes"),
    "answer": ("questions", "answer", ORG, question_id(PARKING), "มีค่ะ"),
    "dismiss": ("questions", "dismiss", ORG, question_id(PARKING)),
    "code": ("desk", "code", ORG),
    "disconnect": ("desk", "disconnect", ORG),
    "budget": ("budgets", "set", ORG, "--daily", "400"),
}


def clinics(persona: str, org: str = ORG, number: int = 1) -> str:
    line = {"bot_user_id": f"U{number:032x}", "channel_id": f"165000000{number}", "channel_secret": "canary"}
    return json.dumps({"clinics": [{"org_id": org, "name": "ก", "line": line, "persona": persona}]})


def in_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clinic of two versions with a desk, and an open question."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DOCUMENT_STORE", "sqlite:documents.db")
    monkeypatch.setenv("SECRET_STORE", "file:secrets.json")
    monkeypatch.delenv("REDIS_URL", raising=False)
    for name, file in {
        "first.json": clinics("สุภาพ"),
        "second.json": clinics("สุภาพมาก"),
        "changed.json": clinics("สุภาพที่สุด"),
        "another.json": clinics("สุภาพ", "another", 2),
    }.items():
        Path(name).write_text(file, "utf-8")
    for name in ("first.json", "second.json"):
        assert run("clinics", "apply", name).exit_code == 0
    asyncio.run(_write())


async def _write() -> None:
    documents = SqliteDocuments("documents.db")
    for turn in ("t1", "t2"):
        await documents.commit(writes_of([counted(sample(turn), Missing("ที่จอดรถ", PARKING), 1)], None))
    desk = Desk(ORG, "C" + "1" * 32, "group", 1_000, "E1")
    await DeskRecords(documents, SystemClock()).change_desk(ORG, lambda _: desk)
    await documents.close()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def kept() -> dict[str, Any]:
    """All documents, without moments and what is drawn by lot."""

    async def read() -> dict[str, Any]:
        documents = SqliteDocuments("documents.db")
        found = {c: await documents.query(c) for c in COLLECTIONS}
        await documents.close()
        return {f"{c}/{d.key.id}": _lasting(d.data) for c, documents_ in found.items() for d in documents_}

    return asyncio.run(read())


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lasting(part) for name, part in value.items() if not VOLATILE.search(name)}
    return value


def faulty(patch: pytest.MonkeyPatch, **faults: Any) -> CommitFaults:
    make, given = shared.documents, CommitFaults(**faults)
    patch.setattr(shared, "documents", lambda settings: FaultyDocuments(make(settings), given))
    return given


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_commit_counts_once_and_is_told_truthfully_whatever_the_store_says(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_a_folder(tmp_path / "good", monkeypatch)
    good, expected = run(*command), kept()
    assert good.exit_code == 0, good.output
    for code in ("ABORTED", "UNAVAILABLE"):
        in_a_folder(tmp_path / code, monkeypatch)
        with monkeypatch.context() as patch:
            faults = faulty(patch, script=[Fate.LANDED] * 9, codes=[code])
            bad = run(*command)
        assert faults.counts[Fate.LANDED] >= 1
        assert kept() == expected
        assert (bad.exit_code, _shown(bad)) == (0, _shown(good))
    in_a_folder(tmp_path / "not made", monkeypatch)
    with monkeypatch.context() as patch:
        faulty(patch, script=[Fate.LOST], codes=["UNAVAILABLE"])
        assert run(*command).exit_code == 1
    again = run(*command)
    assert kept() == expected
    assert (again.exit_code, _shown(again)) == (0, _shown(good))


def _shown(result: Result) -> str:
    return re.sub(r"[0-9A-Z]{8}|\d+", "#", result.stdout)
