"""Prints the fault matrix's table at the end of a run (a pytest plugin; tests/conftest.py names it)."""

from __future__ import annotations

import pytest

HEADERS = ("fault", "what happened", "lost", "answered twice", "paid twice", "")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = [
        (*map(str, value), "ok" if outcome == "passed" else "FAILED")
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, ())
        for name, value in getattr(report, "user_properties", ())
        if name == "fault" and report.when == "call"
    ]
    if not rows:
        return
    table = [HEADERS, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEADERS))]
    terminalreporter.section("fault matrix")
    for row in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line(line.rstrip())
