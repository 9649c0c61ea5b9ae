"""`fairlane rehearse --from-turns`: a clinic's last questions against a candidate, beside its customers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.adapters.redis_slots_operator import RedisSlotsOperator
from core.adapters.sqlite_documents import SqliteDocuments
from core.domain.turn import COLLECTION, Money, TurnRecord, TurnState
from core.ports.documents import Document
from tests.support.rehearsing import ORG, Rehearsing, rehearsing, says
from tests.support.slots_scene import client, process, request
from tests.support.turn_samples import BEGUN_MS, sample, store

NEW = "ขูดหินปูน 900 บาทค่ะ"
BY_MODEL = Money(day="20261124", decision="primary", model="gpt-6.1-terra")


def answered(turn_id: str, minute: int, words: str, reply: str, **more: object) -> TurnRecord:
    at_ms = BEGUN_MS + 60_000 * minute
    values = {"state": TurnState.DELIVERED, "failure": None, "reply": reply, "money": BY_MODEL, **more}
    record = sample(turn_id, created_ms=at_ms, **values)
    return replace(record, events=(replace(record.events[0], text=words),))


TURNS = (
    answered("t0", 0, "เก่ามาก", "นานแล้วค่ะ"),
    answered("t1", 100, "สนใจขูดหินปูนค่ะ", "ขูดหินปูน 800 บาทค่ะ"),
    answered("t2", 101, "แพงไปไหมคะ", "ไม่แพงค่ะ"),
    answered("t3", 102, "ในกลุ่ม", "ค่ะ", chat_type="group"),
    answered("t4", 103, "สติกเกอร์", "ค่ะ", money=Money(decision="none", reason="sticker")),
    answered("t5", 104, "พัง", "ขออภัยค่ะ", failure="http_500", state=TurnState.FAILED),
    answered("t6", 105, "คลินิกอื่น", "ค่ะ", org_id="other"),
)


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> AsyncIterator[Rehearsing]:
    path = tmp_path / "documents.db"
    monkeypatch.setenv("DOCUMENT_STORE", f"sqlite:{path}")
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("CHAT_MAX_CONCURRENT", "4")
    monkeypatch.setenv("CHAT_MAX_CONCURRENT_PER_ORG", "1")
    documents = SqliteDocuments(str(path))
    await store(documents, *TURNS)
    async with rehearsing(tmp_path, monkeypatch, says(NEW)) as scene:
        yield scene
    await documents.close()


async def journal(folder: Path) -> list[Document]:
    documents = SqliteDocuments(str(folder / "documents.db"))
    found = await documents.query(COLLECTION)
    await documents.close()
    return found


LAST = ("--from-turns", "2", "--org", ORG, "--json")


async def test_the_last_questions_stand_with_their_old_and_new_replies(here: Rehearsing) -> None:
    """Each in its own conversation, as far as that had gone on; nothing in the journal is touched."""
    before = await journal(here.folder)
    result = await here.command(*LAST, "--report", "page.html")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["cases"]
    assert [(c["name"], c["turns"][0]["said"], c["old_reply"], c["turns"][0]["reply"]) for c in found] == [
        ("t1", "สนใจขูดหินปูนค่ะ", "ขูดหินปูน 800 บาทค่ะ", NEW),
        ("t2", "แพงไปไหมคะ", "ไม่แพงค่ะ", NEW),
    ]
    follow_up = next(call for call in here.openai.calls if call.last_words == "แพงไปไหมคะ")
    said = [m["content"] for m in follow_up.messages if m["role"] != "system"]
    assert said == ["สนใจขูดหินปูนค่ะ", "ขูดหินปูน 800 บาทค่ะ", "แพงไปไหมคะ"]
    page = (here.folder / "page.html").read_text("utf-8")
    assert "<i>before</i>ไม่แพงค่ะ" in page
    assert await journal(here.folder) == before


async def test_no_slot_is_taken_while_a_customer_waits(here: Rehearsing, redis_url: str) -> None:
    """Slots are free all the while, but the customer's clinic is at its cap."""
    redis = client(redis_url)
    queued = asyncio.Event()

    async def says_so() -> None:
        queued.set()

    async with process(redis_url, global_limit=4, per_org_limit=1) as slots:

        async def customer() -> None:
            async with slots.hold(request("a", "second", wait_s=60), on_wait=says_so):
                assert not here.openai.calls

        async with slots.hold(request("a", "first")):
            waiting = asyncio.create_task(customer())
            await queued.wait()
            trial = asyncio.create_task(here.command(*LAST))
            await asyncio.sleep(2)
            assert not trial.done()
            assert not here.openai.calls
        await waiting
        assert (await trial).exit_code == 0
        assert len(here.openai.calls) == 2
    assert (await RedisSlotsOperator(redis).snapshot()).used == 0
    await redis.aclose(close_connection_pool=True)


async def test_it_stays_within_its_budget(here: Rehearsing) -> None:
    result = await here.command(*LAST, budget="0.01")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["not_run"] == ["t1", "t2"]
    assert not here.openai.calls


async def test_a_clinic_without_questions_is_named(here: Rehearsing) -> None:
    result = await here.command("--from-turns", "2", "--org", "nobody")
    assert result.exit_code == 2
    assert "--org nobody" in result.stderr
