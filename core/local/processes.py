"""Child processes that never outlive us: own process group, own log file, killed as a group.

A guard process holds the other end of a pipe. When this process is gone, however it went (SIGKILL, crash),
the pipe ends and the guard kills every group that is still registered. PR_SET_PDEATHSIG would not do: it is
cleared on fork, so a gunicorn master would die and leave its worker.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from core.domain.errors import FairlaneError


class PartFailedError(FairlaneError):
    """A part of the local stack did not start or stop; the message names the remedy."""

    def __init__(self, part: str, problem: str, remedy: str) -> None:
        super().__init__(f"{part}: {problem}. {remedy}")
        self.part = part


def free_port() -> int:
    """A loopback port nobody listens on, below the range the kernel takes outgoing ports from: so it is
    still free when a process that starts in a second binds it."""
    for _ in range(200):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise PartFailedError("ports", "no free port from 20000 to 31999", "End what listens there")


def _alive(group: int) -> bool:
    """Does anything of a process group still run? Zombies do not: where nobody reaps orphans they stay."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its_group = entry.read_text().rpartition(") ")[2].split()[:3]
            if int(its_group) == group and state not in {"Z", "X"}:
                return True
    return False


_GUARD = """
import os, shutil, signal, sys
for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(s, signal.SIG_IGN)
groups, folders = set(), []
for line in sys.stdin:
    if line[0] == "/":
        folders.append(line.rstrip("\\n"))
    else:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
for folder in folders:
    shutil.rmtree(folder, ignore_errors=True)
"""


class Guard:
    """Kills the registered process groups and removes temporary folders once this process is gone, or at
    `close()`. One guards many."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def add(self, group: int) -> None:
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        self._tell(f"-{group}\n")

    def temporary_folder(self, prefix: str) -> Path:
        """A new folder that goes when the guard does."""
        folder = tempfile.mkdtemp(prefix=prefix)
        self._tell(f"{folder}\n")
        return Path(folder)

    def _tell(self, line: str) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            with suppress(BrokenPipeError):
                self._process.stdin.write(line.encode())
                self._process.stdin.flush()

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=10)


class ChildProcess:
    """A command that can be started again after it ended. Signals go to its whole process group.

    It is bound to no event loop; only waiting needs one.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        guard: Guard,
        log: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.environment = environment
        self.log = log
        self._guard = guard
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        with self.log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=None if self.environment is None else dict(self.environment),
                    cwd=self._directory,
                    start_new_session=True,
                )
            except OSError as exc:
                raise PartFailedError(self.name, str(exc), f"Install {self.command[0]}") from exc
        self._guard.add(self._process.pid)

    @property
    def pid(self) -> int:
        """Of the process and of its group."""
        if self._process is None:
            raise PartFailedError(self.name, "not started", "Start it first")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    async def ended(self, timeout_s: float) -> int:
        """The exit status (negative: the signal). Raises TimeoutError."""
        if self._process is None:
            return 0
        deadline = time.monotonic() + timeout_s
        while (status := self._process.poll()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} still runs after {timeout_s:g} s")
            await asyncio.sleep(0.01)
        return status

    async def kill(self) -> None:
        """SIGKILL to the group: what a crash of the machine would leave of it."""
        self.signal(signal.SIGKILL)
        await self.ended(10)
        await self._group_gone()
        self._forget()

    async def _group_gone(self) -> None:
        """A worker dies a moment after its master, and holds the port until then."""
        for _ in range(200):
            if self._process is None or not _alive(self._process.pid):
                return
            await asyncio.sleep(0.01)

    async def terminate(self, grace_s: float = 10.0) -> int | None:
        """SIGTERM, as a platform that scales down sends it; SIGKILL after `grace_s`.

        Returns the exit status, None if it had to be killed.
        """
        if not self.running:
            await self.kill()
            return None
        self.resume()
        os.kill(self.pid, signal.SIGTERM)
        try:
            return await self.ended(grace_s)
        except TimeoutError:
            return None
        finally:
            await self.kill()

    def _forget(self) -> None:
        if self._process is not None:
            self._guard.remove(self._process.pid)

    def log_tail(self, lines: int = 20) -> str:
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    async def ready(
        self, answers: Callable[[], Coroutine[Any, Any, bool]], *, timeout_s: float, remedy: str
    ) -> None:
        """Wait until `answers()` is true. Raises PartFailedError with the log's end."""
        deadline = time.monotonic() + timeout_s
        while True:
            with suppress(OSError, TimeoutError):
                if await asyncio.wait_for(answers(), 2.0):
                    return
            if not self.running:
                problem = f"ended at once\n{self.log_tail()}\n"
                raise PartFailedError(self.name, problem, remedy)
            if time.monotonic() > deadline:
                problem = f"does not answer after {timeout_s:g} s\n{self.log_tail()}\n"
                raise PartFailedError(self.name, problem, remedy)
            await asyncio.sleep(0.02)
