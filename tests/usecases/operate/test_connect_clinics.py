"""Clinics are pointed at a deployment: against a stand-in of LINE that keeps LINE's rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from core.adapters.file_secrets import FileSecrets
from core.adapters.line_messaging import LineMessagingApi
from core.adapters.sqlite_documents import SqliteDocuments
from core.adapters.system_clock import SystemClock
from core.domain.clinic import Clinic, secret_name
from core.domain.errors import InvalidInputError
from core.local.http_server import HttpServer, Request, Response
from core.local.line_api import Channel, LineApi, LineCall, LineTrouble
from core.local.line_webhook import sign
from core.ports.documents import Create, Key
from core.usecases.clinics.documents import channel_document, org_document
from core.usecases.operate.connect_clinics import ConnectClinics, Connection, Status


@dataclass
class Scene:
    """LINE, a deployment's webhook that checks signatures, and the stores."""

    line: LineApi
    documents: SqliteDocuments
    secrets: FileSecrets
    connect: ConnectClinics
    url: str = ""
    answer: int | None = None
    tests: list[str] = field(default_factory=list)

    async def clinic(self, org_id: str, *, bot: str = "", secret: str = "secret") -> Channel:
        n = len(self.line.state.channels)
        channel = Channel(str(1_650_000_000 + n), "secret", f"U{n:032x}", org_id)
        self.line.add_channel(channel)
        clinic = Clinic(org_id, org_id, bot or channel.bot_user_id, channel.channel_id)
        await self.secrets.put(
            secret_name(org_id), {"channel_id": channel.channel_id, "channel_secret": secret}
        )
        await self.documents.commit(
            [
                Create(Key("orgs", org_id), org_document(clinic)),
                Create(Key("line_channels", clinic.bot_user_id), channel_document(org_id)),
            ]
        )
        return channel

    async def run(self, *org_ids: str, **options: Any) -> list[Connection]:
        return await self.connect(self.url, org_ids or None, **options)

    async def record(self, org_id: str) -> dict[str, Any]:
        [org] = await self.documents.get_many([Key("orgs", org_id)])
        assert org is not None
        return dict(org.data["connected"])

    async def webhook(self, request: Request) -> Response:
        self.tests.append(request.json()["destination"])
        good = request.headers["x-line-signature"] == sign("secret", request.body)
        return Response(self.answer or (200 if good else 401))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    line = LineApi()
    await line.start()
    documents = SqliteDocuments(str(tmp_path / "documents.db"))
    secrets = FileSecrets(str(tmp_path / "secrets.json"))
    client = LineMessagingApi(line.url, timeout_s=5)
    scene = Scene(line, documents, secrets, ConnectClinics(documents, secrets, client, SystemClock()))
    server = HttpServer(scene.webhook)
    await server.start()
    scene.url = server.url
    yield scene
    await client.close()
    await documents.close()
    await server.stop()
    await line.stop()


async def test_clinic_is_tested_set_and_remembered(scene: Scene) -> None:
    channel = await scene.clinic("one")
    assert await scene.run("one") == [Connection("one", Status.CONNECTED)]
    assert scene.line.state.channels[channel.channel_id].webhook_url == scene.url
    assert scene.tests == [channel.bot_user_id]
    record = await scene.record("one")
    assert (record["url"], record["ok"], record["problem"]) == (scene.url, True, None)


async def test_webhook_that_fails_its_test_does_not_replace_one_that_works(scene: Scene) -> None:
    channel = await scene.clinic("one")
    scene.line.state.channels[channel.channel_id].webhook_url = "https://before.example"
    scene.answer = 500
    [one] = await scene.run("one")
    assert one.status is Status.FAILED
    assert one.problem.endswith("ERROR_STATUS_CODE, status 500")
    assert scene.line.state.channels[channel.channel_id].webhook_url == "https://before.example"


async def test_failed_attempt_that_left_line_as_it_was_leaves_the_clinic_connected(scene: Scene) -> None:
    await scene.clinic("one")
    await scene.run("one")
    before = await scene.record("one")
    scene.answer = 404
    [one] = await scene.connect("https://mistyped.example", ["one"])
    assert one.status is Status.FAILED
    assert await scene.record("one") == before
    assert [one.status for one in await scene.run("one")] == [Status.DONE_BEFORE]


async def test_failure_after_line_s_setting_was_changed_is_recorded(scene: Scene) -> None:
    await scene.clinic("one")
    await scene.run("one")
    scene.connect._clock, calls = _NoWaiting(), count()
    scene.line.faults.add(  # the first is the test of the webhook, the second sets it
        LineTrouble.RATE_LIMIT,
        times=None,
        when=lambda seen: seen.call is LineCall.WEBHOOK and next(calls) > 1,
    )
    other = scene.url + "/other"
    [one] = await scene.connect(other, ["one"])
    assert one.status is Status.FAILED
    record = await scene.record("one")
    assert (record["url"], record["ok"]) == (other, False)


async def test_second_go_does_what_the_first_left(scene: Scene) -> None:
    for n in range(30):
        await scene.clinic(f"clinic-{n:02}")
    revoked = next(iter(scene.line.state.channels))
    scene.line.revoke(revoked)
    seen: list[tuple[int, int]] = []
    first = await scene.run(progress=lambda done, of: seen.append((done, of)))
    assert [one.status for one in first] == [Status.FAILED, *[Status.CONNECTED] * 29]
    assert seen == [(done, 30) for done in range(31)]
    scene.line.state.channels[revoked].revoked = False
    second = await scene.run()
    assert [one.status for one in second] == [Status.CONNECTED, *[Status.DONE_BEFORE] * 29]
    assert len(scene.tests) == 30
    assert [one.status for one in await scene.run("clinic-05", again=True)] == [Status.CONNECTED]


async def test_another_url_or_another_channel_is_connected_anew(scene: Scene) -> None:
    await scene.clinic("one")
    await scene.run("one")
    other = scene.url + "/other"
    assert [one.status for one in await scene.connect(other, ["one"])] == [Status.CONNECTED]
    assert (await scene.record("one"))["url"] == other


async def test_what_only_a_person_can_switch_is_said_until_it_is_done(scene: Scene) -> None:
    channel = await scene.clinic("one")
    state = scene.line.state.channels[channel.channel_id]
    state.webhook_active, state.chat_mode = False, "chat"
    for _ in range(2):
        [one] = await scene.run("one")
        assert one.status is Status.SWITCH_ON
        assert "Use webhook: on" in one.to_do[0]
        assert "chat is on" in one.notes[0]
    state.webhook_active = True
    assert [one.status for one in await scene.run("one")] == [Status.CONNECTED]


@pytest.mark.parametrize(
    ("fault", "problem", "remedy"),
    [
        ("bot", "the channel's bot is U", "bot_user_id"),
        ("secret", "LINE: no channel access token", "clinics apply"),
        ("no secret", "no secret line-one", "channel_secret"),
        ("404", "ERROR_STATUS_CODE, status 404", "apply the clinic"),
        ("401", "ERROR_STATUS_CODE, status 401", "channel_secret"),
    ],
)
async def test_each_problem_comes_with_its_remedy(
    scene: Scene, fault: str, problem: str, remedy: str
) -> None:
    bot = f"U{'f' * 32}" if fault == "bot" else ""
    await scene.clinic("one", bot=bot, secret="wrong" if fault == "secret" else "secret")
    if fault == "no secret":
        scene.secrets._path.unlink()
    scene.answer = int(fault) if fault.isdigit() else None
    [one] = await scene.run("one")
    assert one.status is Status.FAILED
    assert problem in one.problem
    assert remedy in one.remedy
    assert (await scene.record("one"))["ok"] is False


async def test_used_up_tests_of_one_channel_do_not_stop_the_others(scene: Scene) -> None:
    channel = await scene.clinic("one")
    await scene.clinic("two")
    scene.connect._clock = _NoWaiting()
    scene.line.faults.add(
        LineTrouble.RATE_LIMIT,
        times=None,
        when=lambda seen: seen.call is LineCall.WEBHOOK and seen.channel_id == channel.channel_id,
    )
    one, two = await scene.run()
    assert (one.status, two.status) == (Status.FAILED, Status.CONNECTED)
    assert "60 tests an hour" in one.remedy


async def test_line_s_hiccup_is_tried_again(scene: Scene) -> None:
    await scene.clinic("one")
    scene.connect._clock = _NoWaiting()
    scene.line.faults.add(LineTrouble.ERROR_BEFORE, when=lambda seen: seen.call is LineCall.INFO)
    assert [one.status for one in await scene.run("one")] == [Status.CONNECTED]


async def test_unknown_clinic_is_an_error_before_anything_is_done(scene: Scene) -> None:
    await scene.clinic("one")
    with pytest.raises(InvalidInputError, match="no such clinic"):
        await scene.run("one", "two")
    assert not scene.tests


class _NoWaiting(SystemClock):
    async def sleep(self, seconds: float) -> None:
        pass
