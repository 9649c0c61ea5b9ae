"""`fairlane conversations`, run as an operator runs it; LINE is the stand-in that keeps LINE's rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from core.adapters.file_secrets import FileSecrets
from core.adapters.sqlite_documents import SqliteDocuments
from core.adapters.system_clock import SystemClock
from core.domain.clinic import Clinic, Handoff, Retention
from core.domain.memory import COLLECTION, CustomerMemory, Fact
from core.domain.texts import text
from core.local.line_api import Channel, LineApi, LineTrouble
from core.ops.cli import app
from core.ports.documents import Create, DocumentStore, Key
from core.usecases.clinics.documents import org_document

ORG = "bkk-smile"
USER = "U" + "1" * 32
HOUR_MS = 3_600_000
CHANNEL = Channel("1650000001", "secret", "U" + "0" * 32)
CLINIC = Clinic(ORG, "Bangkok Smile", CHANNEL.bot_user_id, CHANNEL.channel_id, handoff=Handoff((), 5))


class Scene:
    """Commands run in threads, LINE in the scene's own loop."""

    def __init__(self, folder: Path, runner: asyncio.Runner) -> None:
        self._folder = folder
        self._runner = runner
        self.line = LineApi()

    def __call__(self, *arguments: str) -> Result:
        async def invoke() -> Result:
            env = {"LINE_API_BASE_URL": self.line.url}
            return await asyncio.to_thread(CliRunner().invoke, app, ["conversations", *arguments], env=env)

        return self._runner.run(invoke())

    def with_store(self, body: Callable[[DocumentStore], Any]) -> Any:
        async def opened() -> Any:
            documents = SqliteDocuments(str(self._folder / "documents.db"))
            try:
                return await body(documents)
            finally:
                await documents.close()

        return self._runner.run(opened())

    def memory(self) -> CustomerMemory:
        async def read(documents: DocumentStore) -> CustomerMemory:
            (document,) = await documents.get_many([Key(COLLECTION, f"{ORG}:{USER}")])
            return CustomerMemory.decode(document.data if document else None, SystemClock().now_ms())

        found: CustomerMemory = self.with_store(read)
        return found


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("DOCUMENT_STORE", f"sqlite:{tmp_path / 'documents.db'}")
    monkeypatch.setenv("SECRET_STORE", f"file:{tmp_path / 'secrets.json'}")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)

    async def write(documents: DocumentStore) -> None:
        now_ms = SystemClock().now_ms()
        known = CustomerMemory((Fact("name", "Ploy", "t1", 1),))
        await documents.commit(
            [
                Create(Key("orgs", ORG), org_document(CLINIC)),
                Create(Key(COLLECTION, f"{ORG}:{USER}"), known.encode(now_ms, Retention())),
            ]
        )
        secrets = FileSecrets(str(tmp_path / "secrets.json"))
        secret = {"channel_id": CHANNEL.channel_id, "channel_secret": CHANNEL.channel_secret}
        await secrets.put(CLINIC.secret_name, secret)

    with asyncio.Runner() as runner:
        scene = Scene(tmp_path, runner)
        scene.with_store(write)
        scene.line.add_channel(CHANNEL)
        runner.run(scene.line.start())
        yield scene
        runner.run(scene.line.stop())


def test_pause_lasts_as_long_as_the_clinic_says_and_keeps_what_is_remembered(scene: Scene) -> None:
    before_ms = SystemClock().now_ms()
    result = scene("pause", ORG, USER, "--json")
    assert result.exit_code == 0, result.output
    until_ms = json.loads(result.stdout)["until_ms"]
    assert 0 <= until_ms - before_ms - 5 * HOUR_MS < 60_000
    known = scene.memory()
    assert (known.handoff_until_ms, known.handoff_reason) == (until_ms, "staff")
    assert [fact.value for fact in known.facts] == ["Ploy"]
    assert '"message":"handoff.started"' in result.stderr


def test_list_shows_who_is_handed_over_until_it_is_over(scene: Scene) -> None:
    assert "answers everywhere" in scene("list").stdout
    scene("pause", ORG, USER, "--hours", "0.5")
    (handoff,) = json.loads(scene("list", "--json").stdout)
    assert (handoff["org_id"], handoff["chat_id"], handoff["reason"]) == (ORG, USER, "staff")
    assert USER in scene("list").stdout
    assert len(json.loads(scene("list", "--org", ORG, "--json").stdout)) == 1
    scene("resume", ORG, USER)
    assert json.loads(scene("list", "--org", ORG, "--json").stdout) == []


def test_resume_ends_the_silence_and_can_be_repeated(scene: Scene) -> None:
    scene("pause", ORG, USER)
    first, second = scene("resume", ORG, USER), scene("resume", ORG, USER)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout == "the bot answers again\n"
    assert second.stdout == "the bot was answering already\n"
    assert '"message":"handoff.ended"' in first.stderr
    assert not scene.memory().in_handoff(SystemClock().now_ms())
    assert [fact.value for fact in scene.memory().facts] == ["Ploy"]
    assert scene.line.deliveries == []


def test_customer_is_told_once_that_the_bot_is_back(scene: Scene) -> None:
    scene("pause", ORG, USER)
    for _ in range(2):
        assert scene("resume", ORG, USER, "--notify").exit_code == 0
    (delivery,) = scene.line.deliveries
    assert (delivery.to, delivery.how.value) == (USER, "push")
    assert delivery.texts == (text(CLINIC, "handoff_ended"),)


def test_silence_lasts_when_the_customer_can_not_be_told(scene: Scene) -> None:
    scene("pause", ORG, USER)
    scene.line.faults.add(LineTrouble.MONTHLY_LIMIT, when=lambda call: call.call.value == "push")
    result = scene("resume", ORG, USER, "--notify")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert scene.memory().in_handoff(SystemClock().now_ms())
    assert scene("resume", ORG, USER, "--notify").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["pause", "nobody", USER], "no such clinic"),
        (["resume", "nobody", USER], "no such clinic"),
        (["pause", ORG, "ploy"], "32 hex digits"),
        (["list", "--org", "nobody"], "no such clinic"),
        (["list", "--org", "nobody", "--json"], "no such clinic"),
    ],
)
def test_wrong_names_are_refused_with_the_remedy(scene: Scene, arguments: list[str], complaint: str) -> None:
    result = scene(*arguments)
    assert result.exit_code == 1
    assert complaint in result.stderr
