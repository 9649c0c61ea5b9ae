"""A small pooled HTTP/1.1 client on uvicorn's parser: what fairlane asks of LINE and of the model's provider,
at a sixth of a full client's processor time.

A request is one write and, as a rule, its answer one read. It never repeats a request by itself: whoever
counts attempts must see each one.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

_MAX_IDLE = 50
_CHECKED_FROM_S = 0.5
"""A connection that was idle for longer is looked at before it is used again: the other side may have closed
it while this instance had no processor time to hear of it."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """`headers` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NotSentError(ConnectionError):
    """There was no connection: the request has certainly not arrived."""


class HttpClient:
    """Keeps connections for reuse, idle ones for `max_idle_s`, without a limit on those in use. Belongs to
    one event loop. `connect_s` bounds the opening of a connection; the rest is the caller's to bound."""

    def __init__(self, *, connect_s: float | None = None, max_idle_s: float = 1.0) -> None:
        self._connect_s = connect_s
        self._max_idle_s = max_idle_s
        self._idle: dict[tuple[str, int], list[_Exchange]] = defaultdict(list)
        self._open: set[_Exchange] = set()
        self._tls: ssl.SSLContext | None = None

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> HttpResponse:
        """Raises NotSentError if nothing was sent, another OSError when there is no complete answer, and
        ValueError for what can't be a header."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        address = (parts.hostname or "127.0.0.1", parts.port or (443 if tls else 80))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {target} HTTP/1.1", f"host: {parts.netloc}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        head = "\r\n".join(lines)
        if head.count("\n") + 1 != len(lines) or head.count("\r") + 1 != len(lines):
            raise ValueError("a line break in a header")
        exchange = self._kept(address) or await self._opened(address, tls=tls)
        try:
            response = await exchange.send(head.encode("latin-1") + b"\r\n\r\n" + body)
        except BaseException:
            exchange.abort()
            raise
        idle = self._idle[address]
        if exchange.reusable and len(idle) < _MAX_IDLE:
            idle.append(exchange)
        else:
            exchange.abort()
        return response

    def _kept(self, address: tuple[str, int]) -> _Exchange | None:
        idle, now = self._idle[address], asyncio.get_running_loop().time()
        while idle:
            exchange = idle.pop()
            idle_s = now - exchange.last_used
            is_fresh = exchange.reusable and idle_s < self._max_idle_s
            if is_fresh and (idle_s < _CHECKED_FROM_S or exchange.is_silent()):
                return exchange
            exchange.abort()
        return None

    async def _opened(self, address: tuple[str, int], *, tls: bool) -> _Exchange:
        if tls and self._tls is None:
            self._tls = _tls_context()
        connecting = asyncio.get_running_loop().create_connection(
            lambda: _Exchange(self._open), *address, ssl=self._tls if tls else None
        )
        try:
            async with asyncio.timeout(self._connect_s):
                _, exchange = await connecting
        except (OSError, TimeoutError) as exc:
            raise NotSentError(f"no connection: {type(exc).__name__}") from exc
        return exchange

    async def close(self) -> None:
        for exchange in list(self._open):
            exchange.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # lets the transports close their sockets


def _tls_context() -> ssl.SSLContext:
    """It trusts whom the provider's client trusts. Only who speaks TLS has that client."""
    from httpx2 import create_ssl_context  # noqa: PLC0415

    context: ssl.SSLContext = create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Exchange(asyncio.Protocol):
    """One connection: a request out, a response in."""

    def __init__(self, opened: set[_Exchange]) -> None:
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[HttpResponse] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._ends_with_connection = False
        self.reusable = False
        self.last_used = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._opened.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._opened.discard(self)
        self._transport = None
        if self._ends_with_connection and exc is None:
            self.on_message_complete()
        self.reusable = False
        self._fail(exc or ConnectionResetError("the connection was closed before the answer was complete"))

    def _fail(self, exc: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc)

    def abort(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    def is_silent(self) -> bool:
        """Nothing has come since the last answer, not even the connection's end."""
        if self._transport is None:
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    async def send(self, data: bytes) -> HttpResponse:
        if self._transport is None:
            raise ConnectionResetError("the connection is closed")
        self.reusable = False
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
        if self._answer is None or self._answer.done():  # nobody asked: it would pass for the next answer
            self.abort()
        self._headers, self._body, self._ends_with_connection = {}, [], False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        framed = "content-length" in self._headers or "transfer-encoding" in self._headers
        self._ends_with_connection = not framed and self._parser.get_status_code() not in {204, 304}

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._answer is None or self._answer.done():  # interim, or unasked
            return
        self._ends_with_connection = False
        self.reusable = self._transport is not None and self._parser.should_keep_alive()
        self.last_used = self._loop.time()
        self._answer.set_result(HttpResponse(status, self._headers, b"".join(self._body)))
