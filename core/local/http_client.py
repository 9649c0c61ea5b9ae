"""A small pooled HTTP/1.1 client: what the queue and the simulator need, at a tenth of a full client's CPU.

It never repeats a request by itself: whoever counts attempts must see each one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

# gunicorn closes idle connections after 2 s; one used shortly before could be closed under a request.
_MAX_IDLE_S = 1.0


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """`headers` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Keeps connections for reuse, without a limit on their number. Belongs to one event loop."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], list[_Exchange]] = defaultdict(list)
        self._open: set[_Exchange] = set()

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> HttpResponse:
        """Raises OSError (ConnectionError) when there is no complete answer. Bound it with a time-out."""
        parts = urlsplit(url)
        address = (parts.hostname or "127.0.0.1", parts.port or 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {target} HTTP/1.1", f"host: {parts.netloc}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        data = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body
        exchange = await self._connection(address)
        try:
            response = await exchange.send(data)
        except BaseException:
            exchange.abort()
            raise
        if exchange.reusable:
            self._idle[address].append(exchange)
        else:
            exchange.abort()
        return response

    async def _connection(self, address: tuple[str, int]) -> _Exchange:
        loop = asyncio.get_running_loop()
        idle = self._idle[address]
        while idle:
            exchange = idle.pop()
            if exchange.reusable and loop.time() - exchange.last_used < _MAX_IDLE_S:
                return exchange
            exchange.abort()
        _, exchange = await loop.create_connection(lambda: _Exchange(self._open), *address)
        return exchange

    async def close(self) -> None:
        for exchange in list(self._open):
            exchange.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # lets the transports close their sockets


class _Exchange(asyncio.Protocol):
    """One connection: a request out, a response in."""

    def __init__(self, opened: set[_Exchange]) -> None:
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[HttpResponse] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.reusable = False
        self.last_used = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._opened.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._opened.discard(self)
        self._transport = None
        self.reusable = False
        self._fail(exc or ConnectionResetError("the connection was closed before the answer was complete"))

    def _fail(self, exc: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc)

    def abort(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    async def send(self, data: bytes) -> HttpResponse:
        if self._transport is None:
            raise ConnectionResetError("the connection is closed")
        self._answer = self._loop.create_future()
        self._transport.write(data)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail(ConnectionError("the answer is not HTTP"))
            self.abort()

    # httptools calls these by name.
    def on_message_begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self.reusable = self._parser.should_keep_alive()
        self.last_used = self._loop.time()
        if self._answer is not None and not self._answer.done():
            status = self._parser.get_status_code()
            self._answer.set_result(HttpResponse(status, self._headers, b"".join(self._body)))
