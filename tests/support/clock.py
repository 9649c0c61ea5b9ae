"""A clock that tests set."""

from __future__ import annotations

import asyncio

from core.adapters.system_clock import CorrectedClock


class FakeClock(CorrectedClock):
    """Time that stands still until it is told to go on; sleeping lets it pass."""

    def __init__(self, now_ms: int = 1_795_478_400_000) -> None:  # 2026-11-24 07:00 in Bangkok
        super().__init__()
        self._now_ms = now_ms
        self._seconds = 1_000.0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._seconds

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        self._seconds += seconds
        self._now_ms += round(seconds * 1000)

    def correct(self, shared_now_ms: int, tolerance_ms: int = 1_000) -> None:
        """This clock is right by definition."""
