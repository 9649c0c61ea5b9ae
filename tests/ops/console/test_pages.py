"""What the pages show, and that one part which can't be reached takes nothing else away."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.domain.booking import Booking
from core.domain.turn import COLLECTION, TurnState
from core.local.processes import free_port
from core.ops.console.clinic_forms import listed_prices
from core.ops.console.view import words
from core.ports.documents import Create, Key
from core.usecases.bookings.records import booking_key
from tests.support.console import Served, served
from tests.support.turn_samples import CUSTOMER, sample

CHAT = f"/conversations/one/{CUSTOMER.chat_id}"
PAGES = (
    "/now",
    "/conversations",
    CHAT,
    "/turns?since=30d",
    "/turns/t1",
    "/clinics",
    "/clinics/one",
    "/bookings",
)
SECRET_WORDS = ("words of t1", "คำตอบของบอท", "พลอย", "0812345678")


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Served]:
    """A turn, and a booking, of one customer; Redis is nowhere."""
    unreachable = f"redis://127.0.0.1:{free_port()}/0"
    async with served(tmp_path, REDIS_URL=unreachable) as running:
        now_ms = time.time_ns() // 1_000_000
        turn = sample("t1", org_id="one", created_ms=now_ms - 60_000, reply="คำตอบของบอท")
        day = f"{datetime.now(UTC).year + 1}-01-05"
        booking = Booking(
            "b1",
            "one",
            CUSTOMER.chat_id,
            CUSTOMER.chat_id,
            "ขูดหินปูน",
            day,
            "14:00",
            "Asia/Bangkok",
            now_ms,
            name="พลอย",
            phone="0812345678",
        )
        stored = [
            Create(Key(COLLECTION, turn.id), turn.encode()),
            Create(booking_key("b1"), booking.encode()),
        ]
        await running.workplace.documents.commit(stored)
        await running.open()
        yield running


@pytest.mark.parametrize("path", [*PAGES, "/questions", "/spend", "/clinics/one/versions/1"])
async def test_pages_work_without_redis(console: Served, path: str) -> None:
    if "versions" in path:
        await console.post("/clinics/one/mode", "mode=after_hours")
    answer = await console.get(path)
    assert answer.status_code == 200
    assert '<main id="main"' in answer.text


async def test_what_cannot_be_reached_is_said(console: Served) -> None:
    text = (await console.get("/now")).text
    assert "Redis can&#39;t be reached from here" in text
    assert 'data-testid="slots-limit"' not in text
    assert "fairlane doctor" in text


@pytest.mark.parametrize("path", PAGES)
async def test_customers_words_are_hidden_until_they_are_asked_for(console: Served, path: str) -> None:
    text = (await console.get(path)).text
    assert not [words for words in SECRET_WORDS if words in text]


async def test_words_that_are_asked_for_are_shown(console: Served) -> None:
    assert "words of t1" in (await console.get(f"{CHAT}?words=1")).text
    assert "คำตอบของบอท" in (await console.get("/turns/t1?words=1")).text
    assert "0812345678" in (await console.get("/bookings?words=1")).text


async def test_what_there_is_not_says_so_and_leaves_the_way_to_the_rest(console: Served) -> None:
    for path, status in {
        "/nowhere": 404,
        "/turns/none": 400,
        "/clinics/none": 400,
        "/turns?since=x": 400,
    }.items():
        answer = await console.get(path)
        assert answer.status_code == status, path
        assert 'href="/turns"' in answer.text


async def test_a_failed_turn_is_counted_with_the_command_that_mends_it(console: Served) -> None:
    text = (await console.get("/now")).text
    assert "Turns that failed within the hour: 1" in text
    assert "fairlane turns replay --all-failed" in text


async def test_people_take_a_chat_over_and_give_it_back(console: Served) -> None:
    await console.post(f"{CHAT}/pause", "hours=2")
    assert 'class="state people"' in (await console.get(CHAT)).text
    await console.post(f"{CHAT}/resume")
    assert 'class="state bot"' in (await console.get(CHAT)).text


async def test_what_could_not_be_changed_is_told_where_it_was_asked_for(console: Served) -> None:
    answer = await console.post("/turns/t1/replay", referer=f"{console.base}/turns/t1")
    assert answer.headers["location"] == "/turns/t1"
    assert "TASKS_QUEUE" in (await console.get("/turns/t1")).text


PRICES = {
    "item=A&baht=900&from=&until=&note=": ["A 900"],
    "item=A&baht=39,000-65,000&from=2026-12-01&until=2026-12-31&note=x&item=&baht=": ["A 39,000-65,000"],
    "item=A&baht=1&from=&until=&note=&item=B&baht=2.50&from=&until=&note=": ["A 1", "B 2.50"],
}
WRONG_PRICES = (
    "item=A&baht=",
    "item=A&baht=free",
    "item=A&baht=5-1",
    "item=A&baht=-1",
    "item=A&baht=1&from=x",
)


@pytest.mark.parametrize("body", PRICES)
def test_prices_are_read_row_by_row(body: str) -> None:
    assert [f"{price.item} {price.baht}" for price in listed_prices(body.encode())] == PRICES[body]


@pytest.mark.parametrize("body", WRONG_PRICES)
async def test_a_price_that_cannot_be_read_changes_nothing(console: Served, body: str) -> None:
    await console.post("/clinics/one/prices", body)
    text = (await console.get("/clinics/one")).text
    assert 'role="alert"' in text
    assert 'value="A"' not in text


async def test_prices_that_contradict_each_other_are_refused(console: Served) -> None:
    await console.post("/clinics/one/prices", "item=A&baht=1&item=A&baht=2")
    assert "valid at the same time" in (await console.get("/clinics/one")).text


async def test_a_change_makes_a_version_that_can_be_brought_back(console: Served) -> None:
    await console.post("/clinics/one/prices", "item=Scaling&baht=900")
    await console.post("/clinics/one/prices", "item=Scaling&baht=950")
    page = (await console.get("/clinics/one")).text
    versions = [int(n) for n in re.findall(r'href="/clinics/one/versions/(\d+)"', page)]
    difference = (await console.get(f"/clinics/one/versions/{versions[0]}")).text
    assert "950" in difference
    await console.post(f"/clinics/one/versions/{versions[1]}/rollback")
    assert 'value="900"' in (await console.get("/clinics/one")).text


async def test_a_reader_chooses_language_and_theme(console: Served) -> None:
    answer = await console.post("/look", "language=th", referer=f"{console.base}/turns?since=7d")
    assert answer.headers["location"] == "/turns?since=7d"
    console.cookie += "; " + answer.headers["set-cookie"].partition(";")[0]
    text = (await console.get("/turns")).text
    assert '<html lang="th"' in text
    assert "เทิร์น" in text


def test_turn_states_have_texts() -> None:
    assert {f"state.{state.value}" for state in TurnState} <= words("en").keys()
