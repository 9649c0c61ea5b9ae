"""Debian's Chromium, driven by Playwright: what pages complain of, and what they ask of other machines."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
_AXE = Path(__file__).parent / "axe-4.14.1.min.js"
_SERIOUS = {"serious", "critical"}


def chromium() -> str:
    """Path of the browser. CI installs it; elsewhere what needs it may be skipped."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing: apt-get install chromium")
        pytest.skip("no Chromium here")
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()


@dataclass(slots=True)
class Watched:
    """A browser's window. `complaints`: errors of its console and pages; `outside`: requests that would have
    left the machine."""

    context: BrowserContext
    page: Page
    complaints: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, context: BrowserContext) -> Watched:
        context.set_default_timeout(20_000)
        watched = cls(context, context.new_page())
        page = watched.page
        page.on("console", lambda said: watched._hear(said.type, said.text))
        page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        context.on("request", lambda request: watched._see(request.url))
        return watched

    def _hear(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)

    def _see(self, url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.outside.append(url)

    def faults_of_access(self) -> list[str]:
        """What axe-core finds that keeps people out."""
        self.page.evaluate(_AXE.read_text("utf-8"))
        found: dict[str, Any] = self.page.evaluate("axe.run({resultTypes: ['violations']})")
        return [
            f"{each['id']}: {node['html'][:200]}"
            for each in found["violations"]
            if each["impact"] in _SERIOUS
            for node in each["nodes"]
        ]

    def first_paint_ms(self) -> float:
        """Of the page as it was loaded."""
        shown: float = self.page.evaluate(
            "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? Infinity"
        )
        return shown
