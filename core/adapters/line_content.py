"""LINE's data API: what customers send besides words, streamed with a limit.

Source: developers.line.biz/en/reference/messaging-api/, "Get content" and "Verify the preparation status".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Protocol
from urllib.parse import quote

import httpx2

from core.domain.errors import FairlaneError
from core.domain.media import MediaState
from core.ports import log
from core.ports.clock import Clock
from core.ports.content import ContentError
from core.ports.line import ChannelCredentials

_CONNECT_S = 2.0
_PREPARING = 202
_POLL_S = 0.5


class Bearer(Protocol):
    """A channel's access token; `refused`: one that LINE did not take (LineTokens.bearer)."""

    def __call__(self, channel: ChannelCredentials, *, refused: str | None = None) -> Awaitable[str]: ...


class LineContent:
    """`prepared_s`: how long LINE may take to prepare it; `transfer_s`: how long it may then take to come, in
    all: a drip does not start it anew. The client is made on first use."""

    def __init__(
        self,
        base_url: str,
        bearer: Bearer,
        clock: Clock,
        *,
        prepared_s: float = 10.0,
        transfer_s: float = 10.0,
    ) -> None:
        self._base_url = base_url
        self._bearer = bearer
        self._clock = clock
        self._prepared_s = prepared_s
        self._transfer_s = transfer_s
        self._client: httpx2.AsyncClient | None = None

    async def fetch(self, channel: ChannelCredentials, message_id: str, *, max_bytes: int) -> bytes:
        """See the port."""
        path = f"/v2/bot/message/{quote(message_id, safe='')}/content"
        until = self._clock.monotonic() + self._prepared_s
        try:
            while True:
                async with asyncio.timeout(self._transfer_s):
                    content = await self._content(channel, path, max_bytes)
                if content is not None:
                    return content
                await self._prepared(channel, path, until)
        except TimeoutError as exc:
            raise ContentError(MediaState.LOST, f"not within {self._transfer_s:g} s") from exc
        except (httpx2.HTTPError, FairlaneError) as exc:
            if isinstance(exc, ContentError):
                raise
            raise ContentError(MediaState.LOST, type(exc).__name__) from exc

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def _content(self, channel: ChannelCredentials, path: str, max_bytes: int) -> bytes | None:
        """None while LINE is still preparing it."""
        async with self._answer(channel, path) as response:
            if response.status_code == _PREPARING:
                return None
            if response.status_code != 200:
                raise ContentError(MediaState.LOST, f"HTTP {response.status_code}")
            if _length(response) > max_bytes:
                raise ContentError(MediaState.TOO_LARGE, f"{_length(response)} bytes")
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > max_bytes:
                    raise ContentError(MediaState.TOO_LARGE, f"more than {max_bytes} bytes")
            return bytes(content)

    async def _prepared(self, channel: ChannelCredentials, path: str, until: float) -> None:
        """Waits for as long as LINE says that it is being prepared; at most until `until`."""
        while self._clock.monotonic() + _POLL_S < until:
            await self._clock.sleep(_POLL_S)
            async with (
                asyncio.timeout(self._transfer_s),
                self._answer(channel, f"{path}/transcoding") as said,
            ):
                status = _status(await said.aread()) if said.status_code == 200 else ""
            if status == "failed":
                raise ContentError(MediaState.LOST, "LINE could not prepare it")
            if status != "processing":
                return
        raise ContentError(MediaState.LOST, f"not prepared within {self._prepared_s:g} s")

    @asynccontextmanager
    async def _answer(self, channel: ChannelCredentials, path: str) -> AsyncIterator[httpx2.Response]:
        """A token that LINE refuses is replaced once."""
        bearer = await self._bearer(channel)
        for last in (False, True):
            headers = {"Authorization": f"Bearer {bearer}"}
            async with self._pooled().stream("GET", path, headers=headers) as response:
                if response.status_code != 401 or last:
                    if response.is_error:
                        log.warning("line.content_failed", status=response.status_code)
                    yield response
                    return
            bearer = await self._bearer(channel, refused=bearer)

    def _pooled(self) -> httpx2.AsyncClient:
        if self._client is None:
            self._client = httpx2.AsyncClient(
                base_url=self._base_url,
                timeout=httpx2.Timeout(self._transfer_s, connect=_CONNECT_S),
                limits=httpx2.Limits(max_connections=50, max_keepalive_connections=10, keepalive_expiry=30),
                follow_redirects=False,
                trust_env=False,
            )
        return self._client


def _length(response: httpx2.Response) -> int:
    stated = response.headers.get("content-length", "")
    return int(stated) if stated.isdigit() else 0


def _status(body: bytes) -> str:
    for status in ("processing", "failed"):
        if f'"{status}"'.encode() in body:
            return status
    return "succeeded"
