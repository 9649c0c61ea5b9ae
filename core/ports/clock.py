"""Time comes only through here, so that tests can set it."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Unix time, milliseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds, for durations and deadlines within this process."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class CorrectableClock(Clock, Protocol):
    """A clock whose wall time follows the one that all instances share."""

    def correct(self, shared_now_ms: int) -> None:
        """Learn from a reading of the shared clock."""
        ...
