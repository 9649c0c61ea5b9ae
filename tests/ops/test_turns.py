"""`fairlane turns`, run as an operator runs it, against a journal with turns of every state."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from core.adapters.sqlite_documents import SqliteDocuments
from core.adapters.system_clock import SystemClock
from core.domain.clinic import Clinic
from core.domain.prompt import digest
from core.domain.role_manager import stable_prefix
from core.domain.turn import Money, TurnRecord, TurnState
from core.local.cloud_tasks import CloudTasks
from core.ops.cli import app
from core.ports.documents import Create, Key
from core.usecases.clinics.documents import org_document
from core.usecases.operate.clinic_state import ClinicState
from core.usecases.operate.clinic_versions import Author, ClinicVersion
from tests.support.turn_samples import sample, store

QUEUE = "projects/p/locations/asia-southeast1/queues/turns"
MINUTE_MS = 60_000


def turns(now_ms: int) -> list[TurnRecord]:
    money = Money(
        day="20261124",
        decision="primary",
        reason="budget",
        model="gpt-6.1-terra",
        worst_micro_baht=900_000,
        cost_micro_baht=123_456,
        usage={"input": 1000, "output": 100},
    )
    delivered = sample(
        "good",
        created_ms=now_ms - 2 * MINUTE_MS,
        state=TurnState.DELIVERED,
        failure=None,
        money=money,
        attempts=2,
        waited_ms=1_500,
        reserved_ms=now_ms - 2 * MINUTE_MS + 50,
        reply="the reply [bold]",
        facts_used=("allergy",),
    )
    return [
        replace(delivered, updates={"stage": "booking", "service": "cleaning"}),
        sample("late", created_ms=now_ms - 30 * MINUTE_MS),
        sample("refused", created_ms=now_ms - 40 * MINUTE_MS, failure="undeliverable: quota"),
        sample("old", created_ms=now_ms - 3 * 60 * MINUTE_MS),
        sample(
            "presumed",
            created_ms=now_ms - 4 * 60 * MINUTE_MS,
            state=TurnState.DELIVERED,
            failure=None,
            presumed=True,
        ),
        sample("unknown", created_ms=now_ms - 5 * 60 * MINUTE_MS, failure="undeliverable: unknown"),
        sample(
            "silent",
            created_ms=now_ms - 6 * 60 * MINUTE_MS,
            state=TurnState.IGNORED,
            failure=None,
            money=Money(reason="handoff"),
        ),
        sample("elsewhere", created_ms=now_ms - MINUTE_MS, org_id="another-clinic"),
    ]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """The command with a real queue beside it, whose tasks stay where they are."""
    monkeypatch.setenv("DOCUMENT_STORE", f"sqlite:{tmp_path / 'documents.db'}")
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("TASKS_QUEUE", QUEUE)
    monkeypatch.setenv("TURN_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)

    async def write() -> None:
        documents = SqliteDocuments(str(tmp_path / "documents.db"))
        await store(documents, *turns(SystemClock().now_ms()))
        await documents.close()

    with asyncio.Runner() as runner:
        runner.run(write())

        def run(*arguments: str) -> Result:
            async def with_queue() -> Result:
                async with CloudTasks() as server:
                    server.create_queue(QUEUE)
                    server.pause()
                    env = {"CLOUD_TASKS_EMULATOR_HOST": server.address}
                    return await asyncio.to_thread(CliRunner().invoke, app, ["turns", *arguments], env=env)

            return runner.run(with_queue())

        yield run


def test_show_prompt_is_what_the_model_was_told_and_says_if_it_can_not_prove_it(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    clinic = Clinic("bkk-smile", "Bangkok Smile", "U1", "1", persona="สุภาพ", version=1)
    org, day = org_document(clinic), date(2026, 12, 1)
    told = stable_prefix(clinic, day)
    asked = {"day": day.isoformat(), "stable": digest(told), "rest": "r"}
    author = Author("nid", "apply", 1)
    version = ClinicVersion("bkk-smile", 1, author, state=ClinicState.of("bkk-smile", org, None, None))

    async def write() -> None:
        documents = SqliteDocuments(str(tmp_path / "documents.db"))
        await documents.commit([Create(version.key, version.encode())])
        other = {**asked, "stable": "0"}
        shown = [sample(name, clinic_version=1, prompt=p) for name, p in (("told", asked), ("other", other))]
        await store(documents, *shown)
        await documents.close()

    asyncio.run(write())
    assert run("show", "told", "--prompt").stdout == told
    shown = json.loads(run("show", "told", "--prompt", "--json").stdout)
    assert (shown["clinic_version"], shown["prompt"]) == (1, asked)
    assert shown["stable_prompt"] == {"text": told, "version": 1, "proven": True}
    assert "bkk-smile, version 1" in run("show", "told").stdout
    other = run("show", "other", "--prompt")
    assert (other.exit_code, other.stdout) == (0, told)
    assert "warning: not what the model was told, byte for byte" in other.stderr
    none = run("show", "good", "--prompt")
    assert (none.exit_code, "the model was not asked" in none.stderr) == (1, True)


def listed(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [turn["turn_id"] for turn in json.loads(result.stdout)]


def test_list_finds_turns_by_state_time_clinic_and_reason(run: Callable[..., Result]) -> None:
    assert listed(run("list", "--json")) == ["elsewhere", "good", "late", "refused"]
    assert listed(run("list", "--json", "--state", "failed", "--since", "1h")) == [
        "elsewhere",
        "late",
        "refused",
    ]
    assert listed(run("list", "--json", "--since", "7d", "--org", "bkk-smile", "--limit", "2")) == [
        "good",
        "late",
    ]
    assert listed(run("list", "--json", "--reason", "undeliverable")) == ["refused"]
    assert listed(run("list", "--json", "--since", "10s")) == []


def test_clinic_without_turns_is_told_from_one_that_is_not_there(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    async def write() -> None:
        documents = SqliteDocuments(str(tmp_path / "documents.db"))
        clinic = Clinic("quiet", "Quiet", "U" + "0" * 32, "1650000001")
        await documents.commit([Create(Key("orgs", "quiet"), org_document(clinic))])
        await documents.close()

    asyncio.run(write())
    assert listed(run("list", "--json", "--org", "quiet")) == []
    assert "no such turn" in run("list", "--org", "quiet").stdout


def test_list_for_people_has_a_line_a_turn_and_no_words(run: Callable[..., Result]) -> None:
    lines = run("list").stdout.splitlines()
    assert len(lines) == 5
    assert "good" in lines[2]
    assert "delivered" in lines[2]
    assert "undeliverable: quota" in lines[4]
    assert "words of" not in run("list", "--json").stdout + "".join(lines)


@pytest.mark.parametrize("columns", ["40", "80", "120", None])
def test_ids_are_whole_on_one_line_in_narrow_terminals_and_in_pipes(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str | None
) -> None:
    ids = ["01KB7H810YECXQQZ37VAXPF6H9", "01KB7H810YECXQQZ37VAXPF6HA-r1"]

    async def write() -> None:
        documents = SqliteDocuments(str(tmp_path / "documents.db"))
        now_ms = SystemClock().now_ms()
        failed = {"created_ms": now_ms, "failure": "llm: the provider answered nothing that was an answer"}
        await store(documents, *(sample(turn_id, org_id="c" * 40, **failed) for turn_id in ids))
        await documents.close()

    asyncio.run(write())
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    else:
        monkeypatch.delenv("COLUMNS")
    result = run("list", "--org", "c" * 40)
    head, *lines = result.stdout.splitlines()
    assert sorted(word for line in lines for word in line.split() if word in ids) == ids
    assert len(lines) == len(ids)
    assert ("chat" in head) == (columns is None)
    longest = max(map(len, [head, *lines]))
    assert longest > 120 if columns is None else longest <= max(80, int(columns))


def test_show_explains_a_turn_without_its_words(run: Callable[..., Result]) -> None:
    page = run("show", "good").stdout
    for told in (
        "delivered",
        "primary · budget",
        "gpt-6.1-terra, 2 attempts",
        "booking · cleaning",
        "allergy",
        "waited 1.5 s for slots",
        "by reply",
        "0.5 s after the first message arrived",
        "--texts",
    ):
        assert told in page
    steps = ["received", "enqueued", "begun", "reserved", "answered", "by reply"]
    assert sorted(steps, key=page.rindex) == steps
    assert "words of good" not in page


def test_show_says_that_a_delivery_is_presumed(run: Callable[..., Result]) -> None:
    assert "by reply, presumed" in run("show", "presumed").stdout
    assert json.loads(run("show", "presumed", "--json").stdout)["presumed"] is True
    assert "presumed" not in run("show", "good").stdout


def test_a_turn_that_was_ignored_says_why(run: Callable[..., Result]) -> None:
    assert "silent because  people have the chat" in run("show", "silent").stdout
    assert "people have the chat" in run("list", "--state", "ignored", "--since", "7h").stdout
    assert "nobody was to answer it" in run("replay", "silent").stdout


def test_show_has_the_words_when_they_are_asked_for(run: Callable[..., Result]) -> None:
    page = run("show", "good", "--texts").stdout
    assert "words of good" in page
    assert "the reply [bold]" in page
    with_words = json.loads(run("show", "good", "--texts", "--json").stdout)
    assert (with_words["events"][0]["text"], with_words["reply"]) == ("words of good", "the reply [bold]")


def test_show_as_json_has_what_programs_need_and_no_secrets(run: Callable[..., Result]) -> None:
    output = run("show", "good", "--json").stdout
    turn: dict[str, Any] = json.loads(output)
    assert (turn["state"], turn["cost_micro_baht"], turn["waited_ms"]) == ("delivered", 123_456, 1_500)
    assert (turn["stage"], turn["service"], turn["facts_used"]) == ("booking", "cleaning", ["allergy"])
    assert [step["step"] for step in turn["timeline"]][:3] == ["received", "enqueued", "begun"]
    assert "words of" not in output
    assert "secret-token" not in output


@pytest.mark.parametrize(
    ("arguments", "complaint", "status"),
    [
        (["show", "nothing"], "not in the journal", 1),
        (["list", "--since", "yesterday"], "such as 1h", 1),
        (["list", "--org", "nobody"], "ORG 'nobody': no such clinic", 1),
        (["replay", "--all-failed", "--org", "nobody"], "ORG 'nobody': no such clinic", 1),
        (["list", "--state", "lost"], "reserved", 2),
        (["replay"], "--all-failed", 2),
        (["replay", "late", "--all-failed"], "--all-failed", 2),
    ],
)
def test_wrong_use_is_refused_with_the_remedy(
    run: Callable[..., Result], arguments: list[str], complaint: str, status: int
) -> None:
    result = run(*arguments)
    assert result.exit_code == status
    assert complaint in result.stderr


def test_replay_says_what_becomes_of_each_turn(run: Callable[..., Result]) -> None:
    result = run("replay", "late", "refused", "good", "nothing")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "late: enqueued as late-r1: a new turn",
        "refused: enqueued as refused-r1: the turn goes on where it was",
        "good: was answered: nothing is sent",
        "nothing: not in the journal; `fairlane turns list` shows turns",
        "2 of 4 turns to be answered now",
    ]
    again = run("replay", "late", "refused", "good")
    assert again.exit_code == 0
    assert "0 of 3 turns" in again.stdout


def test_replay_of_all_failed_turns_begins_with_the_oldest(run: Callable[..., Result]) -> None:
    dry = json.loads(run("replay", "--all-failed", "--dry-run", "--json").stdout)
    assert [turn["turn_id"] for turn in dry["turns"]] == ["refused", "late", "elsewhere"]
    assert dry["counts"]["new turn"] == 2
    done = json.loads(run("replay", "--all-failed", "--org", "bkk-smile", "--json").stdout)
    assert [turn["outcome"] for turn in done["turns"]] == ["finishing", "new turn"]


def test_replay_of_all_failed_turns_leaves_those_that_may_have_arrived_to_a_decision(
    run: Callable[..., Result],
) -> None:
    def replayed(*arguments: str) -> list[str]:
        result = run("replay", "--since", "1d", "--dry-run", "--json", *arguments)
        return [turn["turn_id"] for turn in json.loads(result.stdout)["turns"]]

    assert replayed("--all-failed") == ["old", "refused", "late", "elsewhere"]
    assert replayed("--all-failed", "--reason", "undeliverable") == ["refused"]
    assert replayed("--all-failed", "--reason", "undeliverable: unknown") == ["unknown"]
    assert json.loads(run("replay", "unknown", "--json").stdout)["turns"][0]["outcome"] == "finishing"


def test_replay_names_every_setting_that_it_lacks(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TASKS_QUEUE")
    monkeypatch.delenv("TURN_URL")
    result = run("replay", "late")
    assert result.exit_code == 1
    assert "TASKS_QUEUE" in result.stderr
    assert "TURN_URL" in result.stderr
