"""`fairlane questions`, run as an operator runs it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from core.adapters.sqlite_documents import SqliteDocuments
from core.domain.questions import Missing, question_id
from core.ops.cli import app
from core.ports.documents import Create, Key
from core.usecases.journal.commits import writes_of
from core.usecases.turn.effects import counted
from tests.support.turn_samples import CUSTOMER, sample

ORG, PARKING = CUSTOMER.org_id, "มีที่จอดรถไหม"
ID = question_id(PARKING)
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    path = tmp_path / "documents.db"
    monkeypatch.setenv("DOCUMENT_STORE", f"sqlite:{path}")
    monkeypatch.setenv("COLUMNS", "200")
    asyncio.run(_write(SqliteDocuments(str(path))))
    return lambda *arguments: CliRunner().invoke(app, ["questions", *arguments])


async def _write(documents: SqliteDocuments) -> None:
    await documents.commit([Create(Key("orgs", ORG), {"name": "Bangkok Smile"})])
    for turn in ("t1", "t2"):
        await documents.commit(writes_of([counted(sample(turn), Missing("ที่จอดรถ", PARKING), 1)], None))
    await documents.close()


def test_open_questions_are_listed_with_how_often_they_were_asked(run: Run) -> None:
    (found,) = json.loads(run("list", ORG, "--json").stdout)
    assert (found["id"], found["question"], found["topic"]) == (ID, PARKING, "ที่จอดรถ")
    assert (found["count"], found["state"], sorted(found["turns"])) == (2, "open", ["t1", "t2"])
    shown = run("list", ORG).stdout
    assert ID in shown
    assert PARKING in shown


def test_an_answer_closes_a_question_and_stands_in_the_clinic(run: Run) -> None:
    given = json.loads(run("answer", ORG, ID, " มีค่ะ 10 คัน ", "--json").stdout)
    assert given == {"id": ID, "q": PARKING, "a": "มีค่ะ 10 คัน"}
    assert run("list", ORG).stdout == "no open questions\n"
    (closed,) = json.loads(run("list", ORG, "--all", "--json").stdout)
    assert closed["state"] == "answered"


def test_a_dismissed_question_is_not_listed(run: Run) -> None:
    assert run("dismiss", ORG, ID).stdout == "dismissed\n"
    assert json.loads(run("list", ORG, "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("list", "nobody"), "no such clinic"),
        (("dismiss", ORG, "x"), "no such question"),
        (("answer", ORG, "x", "y"), "no such question"),
        (("answer", ORG, ID, "  "), "TEXT: expected text that customers can see"),
        (("answer", ORG, ID, "x" * 1001), "TEXT: expected text"),
    ],
)
def test_what_is_wrong_is_named(run: Run, arguments: tuple[str, ...], named: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert named in result.stderr
