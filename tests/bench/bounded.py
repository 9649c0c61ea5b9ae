"""A command that ends in time, with all that it has started, whatever becomes of us."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.local.processes import Guard

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Ended:
    """`status` None: it was killed at its limit."""

    status: int | None
    out: str
    err: str
    seconds: float

    @property
    def last_words(self) -> str:
        if self.status is None:
            return f"not done after {self.seconds:.0f} s"
        lines = [line.strip() for line in (self.out + self.err).splitlines() if line.strip()]
        return " / ".join(lines[-2:])[-200:]


def run(command: Sequence[str], *, limit_s: float, environment: Mapping[str, str] | None = None) -> Ended:
    """In the root of the tree."""
    guard, began = Guard(), time.monotonic()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=None if environment is None else {**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        guard.add(process.pid)
        try:
            out, err = process.communicate(timeout=limit_s)
            status: int | None = process.returncode
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            (out, err), status = process.communicate(), None
    guard.close()
    return Ended(status, out, err, time.monotonic() - began)
