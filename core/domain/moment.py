"""An instant as the wall clock shows it where the clinic is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Moment:
    """Unix milliseconds and a time zone's name."""

    now_ms: int
    timezone: str = "Asia/Bangkok"

    @property
    def local(self) -> datetime:
        return datetime.fromtimestamp(self.now_ms / 1000, ZoneInfo(self.timezone))

    def __str__(self) -> str:
        return f"{self.local:%A %Y-%m-%d %H:%M}"
