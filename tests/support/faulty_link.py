"""A link to a server that can lose connections or the server's answers, or fall silent."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class FaultyLink:
    """Listens at `address` and passes everything on to `server` (host:port).

    `refusals`: so many of the next connections are reset at once. `loses_answers`: what the server says is
    not passed on; the connection is reset instead, and `lost` is set.
    """

    def __init__(self, server: str) -> None:
        host, _, port = server.partition(":")
        self._server = (host, int(port))
        self._writers: set[asyncio.StreamWriter] = set()
        self._listening: asyncio.Server | None = None
        self.address = ""
        self.connections = 0
        self.refusals = 0
        self.loses_answers = False
        self.lost = asyncio.Event()
        self._silent: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        if self._listening is not None:
            self._listening.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)  # so that the connections' ends are noticed in this loop

    def fall_silent(self) -> None:
        """The connections there are pass nothing on any more and stay open, as when a router forgets them;
        new ones work."""
        self._silent |= self._writers

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refusals:
            self.refusals -= 1
            writer.transport.abort()
            return
        from_server, to_server = await asyncio.open_connection(*self._server)
        self._writers |= {writer, to_server}
        await asyncio.gather(
            self._pass(reader, to_server, answers=False), self._pass(from_server, writer, answers=True)
        )
        self._writers -= {writer, to_server}

    async def _pass(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if answers and self.loses_answers:
                    self.lost.set()
                    target.transport.abort()
                    return
                if target not in self._silent:
                    target.write(data)
                await target.drain()
        target.close()
