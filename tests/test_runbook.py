"""Commands that the README and the runbook name exist, take the options shown, and do what they can here."""

from __future__ import annotations

import asyncio
import re
import shlex
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from core.adapters.sqlite_documents import SqliteDocuments
from core.domain.booking import Booking
from core.domain.questions import Missing, asking
from core.domain.turn import Money, TurnState
from core.local.cloud_tasks import CloudTasks, QueueConfig, RetryPolicy
from core.local.http_server import HttpServer, Request, Response
from core.local.line_api import Channel, LineApi
from core.local.openai_api import Latency, OpenAiApi
from core.ops import cli
from core.ports.documents import Create, Key
from tests.support.turn_samples import sample, store

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = ("README.md", "terraform/README.md", "terraform/alerts.tf", "terraform/outputs.tf")
CLINICS_FILE = re.findall(r"^```yaml\n(clinics:.*?)^```", README, re.MULTILINE | re.DOTALL)[0]
ORG = "bkk-smile"  # the clinic of the README's file
QUEUE = "projects/p/locations/l/queues/turns"
STANDS_FOR = {
    "ORG": ORG,
    "ORG_ID": ORG,
    "FILE": "clinics.yaml",
    "~/clinics.yaml": "clinics.yaml",
    "CASES": "cases.yaml",
    "~/cases.yaml": "cases.yaml",
    "~/rehearsal.html": "rehearsal.html",
    "~/questions.html": "questions.html",
    "ID": "turn-1",
    "ID…": "turn-1",
    "TURN": "turn-1",
    "MODE": "after_hours",
    "N": "500",
    "R": "5000",
    "YYYY-MM": "2026-11",
    "OLD": "gpt-6.1-terra",
    "NEW": "gpt-6-luna",
    "A": "1",
    "B": "1",
    "USER": "U" + "2" * 32,  # not the one whose turn is replayed: forgetting takes the words away
}
_CUSTOMER = [ORG, STANDS_FOR["USER"]]
# What a page names without its arguments, and what it is run with.
RUN_WITH = {
    "budgets set ORG": ["--daily", "400"],
    "budgets set ORG …": ["--daily", "400"],
    "clinics apply": ["clinics.yaml"],
    "clinics remove ORG": ["--yes"],
    "conversations pause": _CUSTOMER,
    "conversations resume": _CUSTOMER,
    "customers export": _CUSTOMER,
    "customers withdraw": _CUSTOMER,
    "desk code": [ORG],
    "desk disconnect": [ORG],
    "desk show": [ORG],
    "questions list": [ORG],
    "customers forget": [*_CUSTOMER, "--yes"],
    "customers show": _CUSTOMER,
    "slots set": ["--global", "20"],
}
RUN_AS = {
    "rehearse red_team --clinics ~/clinics.yaml --org ORG --budget 50": (
        "rehearse cases.yaml --clinics ~/clinics.yaml --org ORG --budget 50"
    ),
    "clinics rollback ORG N": "clinics rollback ORG 1",
    "clinics rollback ORG N --dry-run": "clinics rollback ORG 1 --dry-run",
    **{f"bookings {verb} ID": f"bookings {verb} {verb}" for verb in ("show", "confirm", "decline", "cancel")},
    "questions dismiss ORG ID": "questions dismiss ORG dismiss",
    "questions answer ORG ID TEXT": "questions answer ORG answer มีค่ะ",
}
"""Where N is no number of clinics, and ID no turn; and one case stands for many."""
CASES = "cases: [{name: a greeting, say: [สวัสดีค่ะ], expect: {max_chars: 4000}}]"
WHOLE_SYSTEMS = {"console", "demo", "dev", "peak"}  # they have tests of their own


def commands() -> list[str]:
    """Every `fairlane …` of a code span or a console line, as it stands there, without remarks."""
    found: list[str] = []
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        found += re.findall(r"`(?:\.venv/bin/)?fairlane ([a-z][^`]*)`", text)
        found += re.findall(r"^\s*(?:\$ )?(?:\.venv/bin/)?fairlane ([a-z][^\n#]*)", text, re.MULTILINE)
    for row in re.findall(r"^\| (`fairlane [^|]*)\|", README, re.MULTILINE):
        found += _short_forms(row)
    return sorted({" ".join(command.split()) for command in found if _is_command(command)})


def _short_forms(row: str) -> list[str]:
    """`slots set` and `list` of a table's row: after the row's first command."""
    spans = re.findall(r"`([^`]+)`", row)
    group = spans[0].split()[1]
    short = [span for span in spans if not span.startswith("fairlane ")]
    return [span if span.split(maxsplit=1)[0] == group else f"{group} {span}" for span in short]


def _is_command(text: str) -> bool:
    return text.split(maxsplit=1)[0] in cli.COMMANDS


def arguments(command: str) -> list[str]:
    return [STANDS_FOR.get(word, word) for word in shlex.split(RUN_AS.get(command, command)) if word != "…"]


def parse(words: list[str]) -> Any:
    """As the command line is read, without running it: raises what a wrong option or argument raises."""
    module = import_module(f"core.ops.{words[0]}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer()
        app.command(words[0])(getattr(module, words[0]))
    command: Any = get_command(app)
    context = command.make_context(words[0], words[1:])
    while rest := [*context._protected_args, *context.args]:
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return context


def test_both_pages_name_commands() -> None:
    found = commands()
    assert len(found) > 25
    assert "slots set --org ORG 8" in found
    assert "clinics show ORG" in found
    assert "customers forget" in found


@pytest.mark.parametrize("command", commands())
def test_each_command_is_there_and_takes_what_is_shown(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clinics.yaml").write_text(CLINICS_FILE)
    words = arguments(command)
    if len(words) == 2 and not words[1].startswith("-"):  # its name alone, as in a table
        result = CliRunner().invoke(cli.app, [*words, "--help"])
        assert result.exit_code == 0, result.output
    else:
        parse(words)


def test_no_channel_secret_is_uploaded_with_the_checkout() -> None:
    """Clinics files lie outside of it; one in it is neither committed nor sent to Cloud Build."""
    files = [words[-1] for words in map(str.split, commands()) if words[:2] == ["clinics", "apply"]]
    assert {file for file in files if file not in {"apply", "FILE"}} == {"~/clinics.yaml"}
    assert "/clinics*.yaml" in (ROOT / ".gitignore").read_text().splitlines()
    assert "#!include:.gitignore" in (ROOT / ".gcloudignore").read_text().splitlines()


def test_sections_of_the_runbook_that_are_pointed_to_are_there() -> None:
    runbook = (ROOT / "terraform" / "README.md").read_text("utf-8")
    pages = [*(ROOT / "terraform").glob("*.tf"), *(ROOT / "core").rglob("*.py")]
    text = "\n".join(page.read_text("utf-8") for page in pages).replace("\\'", "'")
    named = re.findall(r'"([^"\n]+)" in terraform/README\.md', text)
    named += re.findall(r'\(terraform/README\.md, "([^"\n]+)"\)', text)
    assert {"Roll back", "Raise limits", "The operator's machine"} <= set(named)
    assert [name for name in named if f"\n## {name}\n" not in runbook] == []
    (anchor,) = re.findall(r"terraform/README\.md#([\w-]+)", README)
    assert f"\n## {anchor.replace('-', ' ')}\n" in runbook.lower()


def test_an_option_that_is_not_there_would_be_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(["turns", "list", "--no-such-option"])
    with pytest.raises(Exception, match="No such command"):
        parse(["turns", "no-such-command"])


@pytest.fixture
async def environment(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Mapping[str, str]]:
    """A deployment of stand-ins, its webhook one that takes everything, and one turn in the journal."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clinics.yaml").write_text(CLINICS_FILE)
    (tmp_path / "cases.yaml").write_text(CASES)
    (tmp_path / "terraform").mkdir()
    line, openai, tasks = LineApi(), OpenAiApi(latency=Latency(scale=0.1)), CloudTasks()
    webhook = HttpServer(_accept)
    for part in (line, openai, tasks, webhook):
        await part.start()
    [clinic] = _clinics()
    line.add_channel(Channel(clinic["channel_id"], clinic["channel_secret"], clinic["bot_user_id"]))
    tasks.create_queue(QUEUE, QueueConfig(retry=RetryPolicy(max_retry_s=90_000)))
    tasks.pause()
    documents = SqliteDocuments("documents.db")
    prompt = {"day": "2026-12-01", "stable": "0", "rest": "0"}
    created_ms = round(time.time() * 1000) - 60_000
    by_model = Money(day="20261124", decision="primary", model="gpt-6.1-terra")
    await store(
        documents,
        sample("turn-1", created_ms=created_ms, prompt=prompt),
        sample("turn-2", created_ms=created_ms, state=TurnState.DELIVERED, failure=None, money=by_model),
    )
    await documents.commit([*_bookings(), *_questions()])
    yield {
        "GOOGLE_CLOUD_PROJECT": "p",
        "DOCUMENT_STORE": "sqlite:documents.db",
        "SECRET_STORE": "file:secrets.json",
        "REDIS_URL": redis_url,
        "LINE_API_BASE_URL": line.url,
        "TASKS_QUEUE": QUEUE,
        "TURN_URL": "http://127.0.0.1:9",
        "CLOUD_TASKS_EMULATOR_HOST": tasks.address,
        "OPENAI_API_KEY": "sk-local",
        "OPENAI_BASE_URL": openai.url,
        "WEBHOOK_URL": webhook.url,
    }
    await documents.close()
    for part in (webhook, tasks, openai, line):
        await part.stop()


def _bookings() -> list[Create]:
    """One for each command, by its name."""
    day = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%d}"
    customer = "U" + "3" * 32
    bookings = [
        Booking(verb, ORG, customer, customer, "ขูดหินปูน", day, "14:00", "Asia/Bangkok", 1)
        for verb in ("show", "confirm", "decline", "cancel")
    ]
    return [Create(Key("bookings", booking.id), booking.encode()) for booking in bookings]


def _questions() -> list[Create]:
    asked = [(verb, Missing("บริการ", f"มีที่จอดรถไหม {verb}")) for verb in ("answer", "dismiss")]
    return [
        Create(Key("questions", f"{ORG}:{verb}"), {**asking(sample(verb), missing, 1), "count": 1})
        for verb, missing in asked
    ]


async def _accept(_: Request) -> Response:
    return Response(200)


def _clinics() -> list[dict[str, str]]:
    lines = re.findall(r"line: \{(.*)\}", CLINICS_FILE)
    return [dict(re.findall(r"(\w+): \"?(\w+)\"?", line)) for line in lines]


async def test_commands_run_against_a_local_deployment(environment: Mapping[str, str]) -> None:
    """In the order of the runbook: apply, connect, then whatever is named, at last remove."""
    file = "~/clinics.yaml"
    first = [f"clinics apply --dry-run {file}", f"clinics apply {file}", "clinics connect ORG_ID"]
    last = ["clinics remove ORG"]
    named = [command for command in commands() if command.split()[0] not in WHOLE_SYSTEMS]
    assert {*first, *last} <= set(named)
    for command in [*first, *(command for command in named if command not in {*first, *last}), *last]:
        words = [*arguments(command), *RUN_WITH.get(command, ())]
        if words[:2] == ["clinics", "connect"]:
            words += ["--url", environment["WEBHOOK_URL"]]
        result = await asyncio.to_thread(CliRunner().invoke, cli.app, words, env=dict(environment))
        # The queue stands still here, so that nothing is sent: the doctor sees that, and nothing else.
        expected = 1 if words[0] == "doctor" else 0
        assert result.exit_code == expected, f"{words}: {result.output} {result.exception!r}"
        if words[0] == "doctor":
            assert result.output.count("✗") == 1, result.output
