"""Who gets in: whoever opened the printed URL, from the console's own pages; all others change nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from core.domain.clinic import Mode
from core.usecases.operate.stored_clinics import find_clinic
from tests.support.console import Served, served


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as running:
        yield running


async def mode_of(console: Served) -> Mode:
    return (await find_clinic(console.workplace.documents, "one")).mode


async def test_printed_url_opens_the_console_once(console: Served) -> None:
    assert (await console.get("/turns")).status_code == 403
    assert (await console.get("/?token=wrong")).status_code == 403
    answer = await console.client.request("GET", console.server.url)
    assert answer.status_code == 303
    given = answer.headers["set-cookie"].lower()
    assert "httponly" in given
    assert "samesite=strict" in given
    assert (await console.client.request("GET", console.server.url)).status_code == 403
    console.cookie = answer.headers["set-cookie"].partition(";")[0]
    assert (await console.get("/turns")).status_code == 200


PATHS = [
    "/now",
    "/now/live",
    "/now/points",
    "/conversations",
    "/clinics/one",
    "/static/console.css",
    "/nowhere",
]


@pytest.mark.parametrize("path", PATHS)
async def test_without_the_cookie_there_is_nothing(console: Served, path: str) -> None:
    assert (await console.get(path)).status_code == 403
    await console.open()
    console.cookie = console.cookie[:-1] + ("a" if console.cookie[-1] != "a" else "b")
    assert (await console.get(path)).status_code == 403


FOREIGN = {
    "no cookie": {"cookie": ""},
    "another site's Origin": {"origin": "http://evil.example"},
    "no Origin": {"origin": ""},
    "a null Origin": {"origin": "null"},
    "this machine's other port": {"origin": "http://127.0.0.1:1"},
    "another Host": {"host": "evil.example"},
    "another Host and its Origin": {"host": "evil.example", "origin": "http://evil.example"},
}


@pytest.mark.parametrize("case", FOREIGN)
async def test_a_foreign_request_changes_nothing(console: Served, case: str) -> None:
    await console.open()
    headers = FOREIGN[case]
    if case == "no cookie":
        console.cookie = ""
    answer = await console.post("/clinics/one/mode", "mode=off", **headers)
    assert answer.status_code == 403
    assert await mode_of(console) is Mode.LIVE
    refused = [event for event in console.events() if event["message"] == "console.refused"]
    assert len(refused) == 1


async def test_a_look_from_another_name_of_this_machine_is_refused(console: Served) -> None:
    await console.open()
    assert (await console.get("/turns", host="evil.example")).status_code == 403
    assert (await console.get("/turns", origin="http://evil.example")).status_code == 403
    assert (await console.get("/turns", host=f"localhost:{console.server.port}")).status_code == 200


async def test_a_change_from_the_consoles_own_page_is_made_and_written_down_with_who(console: Served) -> None:
    await console.open()
    assert (await console.post("/clinics/one/mode", "mode=off")).status_code == 303
    assert await mode_of(console) is Mode.OFF
    (changed,) = [event for event in console.events() if event["message"] == "console.changed"]
    assert changed["who"] == console.workplace.by
    assert changed["path"] == "/clinics/one/mode"


async def test_every_look_is_written_down_with_who_and_whether_words_were_shown(console: Served) -> None:
    await console.open()
    await console.get("/bookings")
    await console.get("/bookings?words=1")
    looks = [event for event in console.events() if event.get("path") == "/bookings"]
    assert [(event["who"], event["words"]) for event in looks] == [
        (console.workplace.by, False),
        (console.workplace.by, True),
    ]


async def test_pages_run_no_script_of_others_and_none_that_stands_in_them(console: Served) -> None:
    await console.open()
    for path in ("/now", "/clinics/one", "/nowhere"):
        answer = await console.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        text = answer.text
        assert "<script>" not in text
        assert " onclick=" not in text
        assert " style=" not in text


async def test_it_listens_on_this_machine_alone(console: Served) -> None:
    assert urlsplit(console.server.url).hostname == "127.0.0.1"
