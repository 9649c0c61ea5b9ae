"""A small HTTP/1.1 server for the stand-ins: unlike a framework, it can misbehave on the wire.

A handler may answer, hang (never return: it is cancelled when the client goes away), reset the connection,
drip its body, or end it early.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

import httptools

from core.domain.errors import FairlaneError


class ResetConnectionError(FairlaneError):
    """Raised by a handler: the connection is reset (RST), the client gets no answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """`headers` has lower-case names; `path` is without the query."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON, None when it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Response:
    """`drip_s`: seconds between single bytes of the body. `cut_at`: bytes after which the connection is
    closed, although the headers promised them all. `described` False: no specification
    has it, and it is sent on purpose."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    drip_s: float = 0.0
    cut_at: int | None = None
    described: bool = True

    @classmethod
    def of_json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        return cls(status, body, {"content-type": "application/json", **(headers or {})})


Handler = Callable[[Request], Awaitable[Response]]


class HttpServer:
    """Serves `handler` on a loopback port (0: a free one). Start and stop as often as needed."""

    def __init__(self, handler: Handler, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._handler = handler
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self.connections: set[_Connection] = set()

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self._handler, self.connections), self._host, self._port, backlog=2048
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection, cancel what still runs."""
        if self._server is None:
            return
        self._server.close()
        running = [c.running for c in self.connections if c.running is not None]
        for connection in list(self.connections):
            connection.close()
        await asyncio.gather(*running, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None


class _Connection(asyncio.Protocol):
    """One request at a time; a pipelined one waits its turn."""

    def __init__(self, handler: Handler, connections: set[_Connection]) -> None:
        self._handler = handler
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: list[tuple[Request, bool]] = []
        self.running: asyncio.Task[None] | None = None
        self.on_message_begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None
        if self.running is not None:
            self.running.cancel()

    def eof_received(self) -> None:
        """The client has gone: nobody waits for what runs."""
        if self.running is not None:
            self.running.cancel()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self.running is not None:
            self.running.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    # httptools calls these by name.
    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        method = self._parser.get_method().decode("latin-1")
        request = Request(method, path, query, self._headers, b"".join(self._body))
        self._waiting.append((request, self._parser.should_keep_alive()))
        if self.running is None:
            self.running = asyncio.ensure_future(self._serve())

    async def _serve(self) -> None:
        try:
            while self._waiting and self._transport is not None:
                request, keep_alive = self._waiting.pop(0)
                await self._answer(await self._handler(request), keep_alive)
        except ResetConnectionError:
            self._reset()
        finally:
            self.running = None

    async def _answer(self, response: Response, keep_alive: bool) -> None:
        transport = self._transport
        if transport is None:
            return
        reason = HTTPStatus(response.status).phrase
        keep_alive = keep_alive and response.cut_at is None
        lines = [f"HTTP/1.1 {response.status} {reason}", f"content-length: {len(response.body)}"]
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        lines += [] if keep_alive else ["connection: close"]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        body = response.body if response.cut_at is None else response.body[: response.cut_at]
        if response.drip_s:
            transport.write(head)
            for i in range(len(body)):
                transport.write(body[i : i + 1])
                await asyncio.sleep(response.drip_s)
        else:
            transport.write(head + body)
        if not keep_alive:
            transport.close()

    def _reset(self) -> None:
        if self._transport is None:
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            # Lingering for zero seconds makes close send RST instead of FIN.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
