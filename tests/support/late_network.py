"""A way to a server that is not there yet: connections hang, as if packets were lost, until it opens."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress


class LateNetwork:
    """`address` (host:port) leads to `port` from `open()` on, or `open_after(seconds)`.

    Until then its queue of connections is full, so that the kernel drops whoever tries to connect, and lets
    them in at one of their later tries.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(0)
        self._fillers = [socket.socket(), socket.socket()]
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._server: asyncio.Server | None = None
        self._opening: asyncio.Task[None] | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.accepted = 0

    async def __aenter__(self) -> LateNetwork:
        for filler in self._fillers:
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(self._socket.getsockname())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._opening is not None:
            self._opening.cancel()
        if self._server is not None:
            self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        for open_socket in (*self._fillers, self._socket):
            open_socket.close()

    def open_after(self, seconds: float) -> None:
        async def later() -> None:
            await asyncio.sleep(seconds)
            await self.open()

        self._opening = asyncio.get_running_loop().create_task(later())

    async def open(self) -> None:
        for filler in self._fillers:
            filler.close()
        self._server = await asyncio.start_server(self._serve, sock=self._socket.dup(), backlog=100)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            link = asyncio.create_task(_copy(source, sink))
            self._links.add(link)
            link.add_done_callback(self._links.discard)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()
