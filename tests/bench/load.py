"""A load generator that is not the bottleneck: raw requests over keep-alive connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import cast


class _Connection(asyncio.Protocol):
    """Sends the next request when the last is answered. Counts statuses."""

    def __init__(self, requests: Iterator[bytes], until: float, statuses: dict[int, int]) -> None:
        self._requests, self._until, self._statuses = requests, until, statuses
        self._seen = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None) if time.perf_counter() < self._until else None
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, end, rest = self._seen.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(rest) >= length:
            status = int(head[9:12])
            self._statuses[status] = self._statuses.get(status, 0) + 1
            self._seen = b""
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def run(port: int, requests: Iterator[bytes], *, connections: int, seconds: float) -> dict[int, int]:
    """How many answers of each status came within `seconds`."""
    statuses: dict[int, int] = {}
    loop, until = asyncio.get_running_loop(), time.perf_counter() + seconds
    opened = [
        await loop.create_connection(lambda: _Connection(requests, until, statuses), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in opened))
    return statuses
