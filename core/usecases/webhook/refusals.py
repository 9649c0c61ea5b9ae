"""Refused webhooks in the log: a few one by one, a flood as a count."""

from __future__ import annotations

from dataclasses import dataclass

from core.ports import log
from core.ports.clock import Clock

WINDOW_S = 10.0
MAX_LINES = 5
"""A window's lines for each clinic, and for all that name no clinic together."""


@dataclass(slots=True)
class _Window:
    began: float
    lines: int = 0
    more: int = 0


class Refusals:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: dict[str | None, _Window] = {}

    def note(
        self, reason: str, detail: str, trace: str, *, org: str | None = None, destination: str | None = None
    ) -> None:
        """A made-up destination names no clinic, so that a flood of them hides no clinic's own trouble."""
        self.report()
        window = self._windows.setdefault(org, _Window(self._clock.monotonic()))
        if window.lines == MAX_LINES:
            window.more += 1
            return
        window.lines += 1
        log.warning(
            "webhook.refused", trace=trace, reason=reason, detail=detail, org=org, destination=destination
        )

    def report(self) -> None:
        """Log what was only counted in windows that are over."""
        if not self._windows:
            return
        now = self._clock.monotonic()
        for org, window in list(self._windows.items()):
            if now - window.began >= WINDOW_S:
                del self._windows[org]
                if window.more:
                    log.warning("webhook.refused_more", org=org, count=window.more)
