"""`fairlane customers`, run as an operator runs it, on a real Redis and both document stores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from core.adapters.firestore_documents import FirestoreDocuments
from core.adapters.redis_connection import connect
from core.adapters.redis_mailbox import RedisMailbox
from core.adapters.sqlite_documents import SqliteDocuments
from core.adapters.system_clock import SystemClock
from core.domain.clinic import Retention
from core.domain.event import EventKind, InboundEvent
from core.domain.memory import COLLECTION, CustomerMemory, Fact, document_id
from core.domain.session import Session
from core.domain.stages import Stage
from core.domain.turn import TurnState
from core.ops.cli import app
from core.ports.documents import Create, Delete, DocumentStore, Key
from core.ports.mailbox import Lead
from tests.support.everything_kept import documents_text, redis_text
from tests.support.turn_samples import CUSTOMER, sample, store

WHO = (CUSTOMER.org_id, CUSTOMER.chat_id)
Run = Callable[..., Result]


@pytest.fixture(params=["firestore", "sqlite"])
def open_documents(
    request: pytest.FixtureRequest, tmp_path: Path, project: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], DocumentStore]:
    path = str(tmp_path / "documents.db")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
    if request.param == "firestore":
        request.getfixturevalue("firestore_emulator")
        monkeypatch.setenv("DOCUMENT_STORE", "firestore")
        return lambda: FirestoreDocuments(project)
    monkeypatch.setenv("DOCUMENT_STORE", f"sqlite:{path}")
    return lambda: SqliteDocuments(path)


@pytest.fixture
def run(open_documents: Callable[[], DocumentStore], redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A customer who is known, has been answered, and waits for an answer."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("SLOT_LEASE_S", "0.5")
    monkeypatch.setenv("COLUMNS", "250")
    asyncio.run(_write(open_documents(), redis_url))

    def run(*arguments: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(app, ["customers", *arguments], input=answer)

    return run


async def _write(documents: DocumentStore, redis_url: str) -> None:
    now_ms = SystemClock().now_ms()
    known = CustomerMemory((Fact("allergy", "penicillin", "t1", now_ms, "allergic to penicillin"),))
    await documents.commit(
        [Create(Key(COLLECTION, document_id(CUSTOMER)), known.encode(now_ms, Retention()))]
    )
    await documents.commit([Create(Key("orgs", CUSTOMER.org_id), {"name": "Bangkok Smile"})])
    await store(documents, sample("t1", state=TurnState.DELIVERED, failure=None, created_ms=now_ms))
    redis = connect(redis_url)
    mailbox = RedisMailbox(redis, lease_ms=100, session_ttl_s=600)
    session = Session(service="whitening", stage=Stage.ADVISING).with_turn(
        "t1", at_ms=now_ms, customer_text="words in the session", reply="reply in the session"
    )
    lead = await mailbox.begin(_message("first"))
    assert isinstance(lead, Lead)
    await mailbox.finish(CUSTOMER, lead.fence, ["first"], session=session.encode())
    await mailbox.begin(_message("waits"))
    await redis.aclose()
    await documents.close()


def _message(event_id: str) -> InboundEvent:
    return InboundEvent(
        event_id, *WHO, EventKind.TEXT, 1, 1, text="words that wait", reply_token="secret-token"
    )


SAID = ("words of t1", "words in the session", "words that wait")


def test_show_has_state_memory_and_turns_but_not_what_was_said(run: Run) -> None:
    page = run("show", *WHO).stdout
    for told in ("advising · whitening", "1 messages", "allergy: penicillin", "t1", "delivered"):
        assert told in page
    as_json = run("show", *WHO, "--json").stdout
    assert json.loads(as_json)["session"]["service"] == "whitening"
    assert not [words for words in SAID if words in page + as_json]


def test_export_has_everything_but_secrets(run: Run) -> None:
    result = run("export", *WHO)
    assert result.exit_code == 0, result.output
    exported = json.loads(result.stdout)
    assert [event["event_id"] for event in exported["waiting"]] == ["waits"]
    assert exported["memory"]["facts"][0]["because"] == "allergic to penicillin"
    assert exported["claims"] == {"t1": "t1"}
    assert [words for words in SAID if words not in result.stdout] == []
    assert "secret-token" not in result.stdout


def test_forget_asks_first(run: Run) -> None:
    refused = run("forget", *WHO, answer="n\n")
    assert refused.exit_code == 1
    assert "1 turns, 1 facts" in refused.stderr
    assert "words of t1" in run("export", *WHO).stdout


def test_forget_erases_all_of_it_and_logs_that_it_did(
    run: Run, open_documents: Callable[[], DocumentStore], redis_url: str
) -> None:
    result = run("forget", *WHO, "--yes")
    assert result.exit_code == 0, result.output
    assert result.stdout == "erased: texts of 1 turns, 1 waiting messages, the memory, the conversation\n"
    assert '"message":"customer.forgotten"' in result.stderr

    async def everything() -> str:
        documents = open_documents()
        found = await documents_text(documents) + await redis_text(redis_url)
        await documents.close()
        return found

    left = asyncio.run(everything())
    assert [words for words in (*SAID, "penicillin", "whitening") if words in left] == []
    assert run("forget", *WHO, "--yes", "--json").exit_code == 0


def test_nothing_is_kept_of_a_stranger(run: Run) -> None:
    assert "nothing is kept" in run("show", CUSTOMER.org_id, "U" + "9" * 32).stdout


@pytest.mark.parametrize("command", [["show"], ["export"], ["forget", "--yes"]])
def test_a_clinic_that_there_is_not_is_named_instead_of_a_customer_without_data(
    run: Run, command: list[str]
) -> None:
    name, *options = command
    result = run(name, "bkk-smlie", CUSTOMER.chat_id, *options)
    assert result.exit_code == 1
    assert "ORG 'bkk-smlie': no such clinic; `fairlane clinics list` shows them" in result.stderr
    assert result.stdout == ""


def test_customers_of_a_removed_clinic_can_still_be_forgotten(
    run: Run, open_documents: Callable[[], DocumentStore]
) -> None:
    async def remove() -> None:
        documents = open_documents()
        await documents.commit([Delete(Key("orgs", CUSTOMER.org_id))])
        await documents.close()

    asyncio.run(remove())
    result = run("forget", *WHO, "--yes")
    assert result.exit_code == 0, result.output
    assert "erased: texts of 1 turns" in result.stdout


def test_mistyped_customer_is_refused(run: Run) -> None:
    for command in (["show"], ["export"], ["forget", "--yes"]):
        result = run(*command, CUSTOMER.org_id, "U1")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "USER 'U1': expected U" in result.stderr


def test_redis_must_be_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL")
    result = run("show", *WHO)
    assert result.exit_code == 1
    assert "REDIS_URL" in result.stderr


def test_withdrawing_consent_erases_the_health_facts_and_show_says_so(run: Run) -> None:
    assert "not remembered: the customer has not been asked" in run("show", *WHO).stdout
    result = run("withdraw", *WHO)
    assert (result.exit_code, result.stdout) == (0, "consent withdrawn; erased: 1 health facts\n")
    page = run("show", *WHO).stdout
    assert "not remembered: declined 20" in page
    assert "penicillin" not in page
    assert "advising · whitening" in page  # the conversation goes on
    assert json.loads(run("withdraw", *WHO, "--json").stdout)["erased"] == 0
    assert json.loads(run("show", *WHO, "--json").stdout)["memory"]["consent"] is False
