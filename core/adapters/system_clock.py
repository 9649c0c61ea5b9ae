"""The machine's clock, as it is and corrected."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """The machine's clock. `offset_ms` corrects a machine whose wall clock is off."""

    def __init__(self, offset_ms: int = 0) -> None:
        self._offset_ms = offset_ms

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self._offset_ms

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class CorrectedClock(SystemClock):
    """Wall time corrected by Redis' clock, the one that all instances share: a machine whose clock is off
    neither loses patience nor misjudges a reply token or a budget's day."""

    def correct(self, shared_now_ms: int, tolerance_ms: int = 1_000) -> None:
        """Differences below the tolerance are the network's."""
        if abs(shared_now_ms - self.now_ms()) > tolerance_ms:
            self._offset_ms += shared_now_ms - self.now_ms()
