"""`fairlane desk`, run as an operator runs it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from core.adapters.sqlite_documents import SqliteDocuments
from core.adapters.system_clock import SystemClock
from core.domain.clinic import Clinic
from core.domain.desk import Desk, looks_like_code
from core.ops.cli import app
from core.ports.documents import Create, Key
from core.usecases.clinics.documents import org_document
from core.usecases.desk.records import DeskRecords

ORG = "bkk-smile"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "documents.db"
    monkeypatch.setenv("DOCUMENT_STORE", f"sqlite:{path}")

    async def written() -> None:
        documents = SqliteDocuments(str(path))
        clinic = Clinic(ORG, "Bangkok Smile", "U" + "0" * 32, "1650000001")
        await documents.commit([Create(Key("orgs", ORG), org_document(clinic))])
        await documents.close()

    asyncio.run(written())
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["desk", *arguments])


def desk(store: Path, connect: bool = False) -> Desk:
    """As it is stored; connected, if that is asked for."""

    async def read() -> Desk:
        documents = SqliteDocuments(str(store))
        records = DeskRecords(documents, SystemClock())
        connected = Desk(ORG, "C" + "1" * 32, "group", 1_000, "E1")
        _, found = await records.change_desk(ORG, lambda now: connected if connect else now)
        await documents.close()
        return found

    return asyncio.run(read())


def test_a_code_is_drawn_for_half_an_hour_and_stored_as_a_hash(store: Path) -> None:
    shown = json.loads(run("code", ORG, "--json").stdout)
    assert list(shown) == ["org_id", "code", "expires_at"]
    left_s = (datetime.fromisoformat(shown["expires_at"]) - datetime.now(UTC)).total_seconds()
    assert 29 * 60 < left_s <= 30 * 60
    assert looks_like_code(shown["code"])
    assert desk(store).matches(shown["code"])
    assert shown["code"].encode() not in store.read_bytes()


def test_show_says_which_chat_it_is_and_disconnect_ends_it(store: Path) -> None:
    assert json.loads(run("show", ORG, "--json").stdout)["connected"] is False
    assert "no desk is connected" in run("show", ORG).stdout
    connected = desk(store, connect=True)
    shown = json.loads(run("show", ORG, "--json").stdout)
    assert (shown["connected"], shown["chat_id"], shown["chat_type"]) == (True, connected.chat_id, "group")
    assert shown["connected_at"] == "1970-01-01T00:00:01+00:00"
    assert connected.chat_id in run("show", ORG).stdout
    assert json.loads(run("disconnect", ORG, "--json").stdout) == {"org_id": ORG, "disconnected": True}
    assert json.loads(run("disconnect", ORG, "--json").stdout) == {"org_id": ORG, "disconnected": False}
    assert not desk(store).is_connected


@pytest.mark.parametrize("command", ["code", "show", "disconnect"])
def test_a_mistyped_clinic_is_refused(store: Path, command: str) -> None:
    result = run(command, "nobody")
    assert result.exit_code == 1
    assert not desk(store).code_hash
