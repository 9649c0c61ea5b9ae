"""An address of a real Redis which answers, on command, what a server answers that can't serve.

Commands reach the real server unless the fault of the moment refuses commands of their kind; what kinds
there are is the server's own word (COMMAND), and for a script what its first line says.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

from redis.asyncio import Redis


class RedisFault(StrEnum):
    """The words of Redis 7 and Valkey."""

    READONLY = "READONLY You can't write against a read only replica."
    OOM = "OOM command not allowed when used memory > 'maxmemory'."
    LOADING = "LOADING Redis is loading the dataset in memory"
    BUSY = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
    MISCONF = (
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. "
        "Commands that may modify the data set are disabled."
    )


Flags = Collection[str]
_REFUSES: dict[RedisFault, Callable[[Flags], bool]] = {
    RedisFault.READONLY: lambda flags: "write" in flags,
    RedisFault.OOM: lambda flags: "denyoom" in flags,
    RedisFault.LOADING: lambda flags: "loading" not in flags,
    RedisFault.BUSY: lambda flags: "allow_busy" not in flags,
    RedisFault.MISCONF: lambda flags: "write" in flags,
}
_SCRIPTS = frozenset({"eval", "evalsha", "fcall"})


class FaultyRedis:
    """`async with FaultyRedis(port) as redis`: `redis.url` leads to the server at `port`.

    `fault`: what the commands that it refuses are answered from now on, each with the probability `share`,
    on living connections and new ones. `port` may change: new connections lead there, living ones to where
    they were opened, as a failover leaves them. `refused` counts answers by fault, `accepted` connections.
    """

    def __init__(self, port: int, *, seed: int = 0) -> None:
        self.port = port
        self.fault: RedisFault | None = None
        self.share = 1.0
        self.accepted = 0
        self.refused: Counter[RedisFault] = Counter()
        self._dice = random.Random(seed)
        self._flags: dict[str, Flags] = {}
        self._scripts: dict[bytes, Flags] = {}
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aenter__(self) -> FaultyRedis:
        async with Redis(port=self.port) as redis:
            commands = await redis.command()
        self._flags = {name: frozenset(about["flags"]) for name, about in commands.items()}
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    @asynccontextmanager
    async def failing(self, fault: RedisFault, *, share: float = 1.0) -> AsyncIterator[None]:
        """The body runs while the server says `fault`."""
        self.fault, self.share = fault, share
        try:
            yield
        finally:
            self.fault, self.share = None, 1.0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Commands are read while one is being answered, so that a client that leaves is noticed."""
        self.accepted += 1
        waiting: asyncio.Queue[tuple[bytes, Sequence[bytes]]] = asyncio.Queue()
        answering = asyncio.create_task(self._answer(waiting, writer))
        self._serving.add(answering)
        answering.add_done_callback(self._serving.discard)
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                waiting.put_nowait(await _command(reader))
        answering.cancel()

    async def _answer(
        self, waiting: asyncio.Queue[tuple[bytes, Sequence[bytes]]], writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            server, to_server = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                while True:
                    raw, words = await waiting.get()
                    fault = self._refused_by(words)
                    if fault is None:
                        to_server.write(raw)
                        answer = await _reply(server)
                    else:
                        self.refused[fault] += 1
                        answer = f"-{fault.value}\r\n".encode()
                    writer.write(answer)
                    await writer.drain()
            finally:
                to_server.close()
                writer.close()

    def _refused_by(self, words: Sequence[bytes]) -> RedisFault | None:
        name = words[0].decode().lower()
        flags = self._flags.get(name, frozenset())
        if name in {"eval", "script"}:
            source = words[1 if name == "eval" else -1]
            self._scripts[hashlib.sha1(source).hexdigest().encode()] = _flags_of_script(source)
        if name in _SCRIPTS:
            known = words[1] if name == "evalsha" else hashlib.sha1(words[1]).hexdigest().encode()
            flags = frozenset(flags).union(self._scripts.get(known, frozenset({"write", "denyoom"})))
        fault = self.fault
        if fault is None or not _REFUSES[fault](flags) or self._dice.random() >= self.share:
            return None
        return fault


def _flags_of_script(source: bytes) -> Flags:
    """As of a command, from `#!lua flags=…`; a script without that line may write and take memory."""
    first = source.partition(b"\n")[0].decode(errors="replace")
    said = set(first.partition("flags=")[2].split(",")) if first.startswith("#!") else set()
    writes = set() if "no-writes" in said else {"write"}
    takes = set() if said & {"no-writes", "allow-oom"} else {"denyoom"}
    return frozenset(writes | takes)


async def _command(reader: asyncio.StreamReader) -> tuple[bytes, list[bytes]]:
    """One command as it came, and its words."""
    raw = await reader.readuntil(b"\r\n")
    words = []
    for _ in range(int(raw[1:])):
        head = await reader.readuntil(b"\r\n")
        word = await reader.readexactly(int(head[1:]) + 2)
        raw += head + word
        words.append(word[:-2])
    return raw, words


async def _reply(reader: asyncio.StreamReader) -> bytes:
    """One reply as it came, of RESP2 or RESP3."""
    raw = await reader.readuntil(b"\r\n")
    kind, size = raw[:1], raw[1:-2]
    if kind in b"$=!" and size != b"-1":
        raw += await reader.readexactly(int(size) + 2)
    elif kind in b"*~>%|" and size != b"-1":
        for _ in range(int(size) * (2 if kind in b"%|" else 1)):
            raw += await _reply(reader)
    if kind in b"|>":  # an attribute of, or a message before, the reply itself
        raw += await _reply(reader)
    return raw
