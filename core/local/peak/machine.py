"""CPU time and memory of process groups, from /proc."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process group: CPU seconds since its start, and the bytes of its largest process."""

    cpu_s: float
    memory: int


def usage(groups: list[int]) -> dict[int, Usage]:
    """By group; a group without a process is left out."""
    wanted, found = set(groups), dict[int, Usage]()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, IndexError, ValueError):
            fields = (entry / "stat").read_text().rpartition(") ")[2].split()
            group = int(fields[2])
            if group not in wanted:
                continue
            before = found.get(group, Usage(0.0, 0))
            cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
            memory = int(fields[21]) * _PAGE
            found[group] = Usage(before.cpu_s + cpu_s, max(before.memory, memory))
    return found


class CpuMeter:
    """CPU seconds of groups that come and go: what a killed one has used stays counted."""

    def __init__(self) -> None:
        self._last: dict[int, float] = {}

    def read(self, now: dict[int, Usage]) -> float:
        self._last.update({group: used.cpu_s for group, used in now.items()})
        return sum(self._last.values())
