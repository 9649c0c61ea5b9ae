"""LINE's data API, over a socket: read as it comes, never beyond the limit, never from elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from core.adapters.line_content import LineContent
from core.adapters.system_clock import SystemClock
from core.domain.media import MediaState
from core.local.http_server import HttpServer, Request, Response
from core.ports.content import ContentError
from core.ports.line import ChannelCredentials

CHANNEL = ChannelCredentials("1650000001", "secret")


@asynccontextmanager
async def serving(
    *answers: Response, prepared_s: float = 1.2
) -> AsyncIterator[tuple[LineContent, list[Request]]]:
    """One answer a request, the last one for all that follow."""
    seen: list[Request] = []

    async def handle(request: Request) -> Response:
        seen.append(request)
        return answers[min(len(seen), len(answers)) - 1]

    async def bearer(channel: ChannelCredentials, *, refused: str | None = None) -> str:
        return "new" if refused else "old"

    server = HttpServer(handle)
    await server.start()
    content = LineContent(server.url, bearer, SystemClock(), prepared_s=prepared_s, transfer_s=0.8)
    try:
        yield content, seen
    finally:
        await content.close()
        await server.stop()


async def test_a_messages_bytes_are_fetched_by_its_id() -> None:
    async with serving(Response(200, b"bytes")) as (content, seen):
        assert await content.fetch(CHANNEL, "12 34/5", max_bytes=5) == b"bytes"
    (request,) = seen
    assert (request.method, request.path) == ("GET", "/v2/bot/message/12%2034%2F5/content")
    assert request.headers["authorization"] == "Bearer old"


async def test_a_token_that_line_refuses_is_replaced_once() -> None:
    async with serving(Response(401), Response(200, b"bytes")) as (content, seen):
        assert await content.fetch(CHANNEL, "1", max_bytes=5) == b"bytes"
    assert [request.headers["authorization"] for request in seen] == ["Bearer old", "Bearer new"]
    async with serving(Response(401)) as (content, seen):
        with pytest.raises(ContentError):
            await content.fetch(CHANNEL, "1", max_bytes=5)
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (Response(404), MediaState.LOST),
        (Response(410), MediaState.LOST),
        (Response(500), MediaState.LOST),
        (Response(302, headers={"location": "http://127.0.0.1:9/"}), MediaState.LOST),
        (Response(200, b"123456"), MediaState.TOO_LARGE),
        (Response(200, b"12345", drip_s=0.3), MediaState.LOST),
        (Response(200, b"12345", cut_at=2), MediaState.LOST),
        (Response(202), MediaState.LOST),
    ],
)
async def test_whatever_goes_wrong_has_one_of_two_names(answer: Response, state: MediaState) -> None:
    async with serving(answer) as (content, _):
        with pytest.raises(ContentError) as error:
            await content.fetch(CHANNEL, "1", max_bytes=5)
    assert error.value.state is state


async def test_what_is_being_prepared_is_asked_for_until_it_is_ready() -> None:
    def status(word: str) -> Response:
        return Response.of_json({"status": word})

    answers = (Response(202), status("processing"), status("succeeded"), Response(200, b"bytes"))
    async with serving(*answers, prepared_s=20) as (content, seen):
        assert await content.fetch(CHANNEL, "1", max_bytes=5) == b"bytes"
    assert [request.path.rpartition("/")[2] for request in seen] == [
        "content",
        "transcoding",
        "transcoding",
        "content",
    ]


async def test_what_could_not_be_prepared_is_lost_at_once() -> None:
    async with serving(Response(202), Response.of_json({"status": "failed"})) as (content, seen):
        with pytest.raises(ContentError, match="could not prepare"):
            await content.fetch(CHANNEL, "1", max_bytes=5)
    assert len(seen) == 2
