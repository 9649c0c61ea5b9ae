"""The bench's table: every figure beside its target and the baseline of the same run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """Texts as they are shown; `ok` is None where there is nothing to reach."""

    figure: str
    value: str
    target: str
    baseline: str = ""
    ok: bool | None = None


def show(title: str, rows: Iterable[Row]) -> bool:
    """Print `rows`; True if none missed its target."""
    rows = list(rows)
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    for name in ("measured", "target", "baseline", ""):
        table.add_column(name, justify="right")
    for row in rows:
        verdict = "" if row.ok is None else "[green]ok[/]" if row.ok else "[red]MISSED[/]"
        table.add_row(row.figure, row.value, row.target, row.baseline, verdict)
    Console(width=120).print(table)
    return all(row.ok is not False for row in rows)
