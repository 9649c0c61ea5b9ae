"""All benches, one after another, and at the end one table: every figure beside its target and its baseline.

    python -m tests.bench [--only NAME…] [--json FILE] [--long]

Each bench is a module with `async def rows() -> list[Row]`, run in a process of its own so that none inherits
another's event loop, environment or garbage. Status 1 if a target was missed or a bench did not end well.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import uvloop
from rich.console import Console

from tests.bench import bounded
from tests.bench.table import Row, show

BENCHES = (
    "imports",
    "archives",
    "webhook",
    "turn",
    "floor",
    "cold",
    "memory",
    "growth",
    "budget",
    "prompt_cache",
    "price_guard",
    "gathering",
    "media",
    "slots",
    "providers",
    "campaign",
)
LIMIT_S = 600
LONG_GRANTS, LONG_LIMIT_S = 1_000_000, 3600


def run(name: str, *, long: bool) -> list[Row]:
    """In this process. `long`: a million grants of slots are counted instead of a tenth of that."""
    module = import_module(f"tests.bench.{name}")
    more = {"grants": LONG_GRANTS} if long and name == "slots" else {}
    found: list[Row] = uvloop.run(module.rows(**more))
    return found


def run_apart(name: str, *, long: bool, console: Console) -> list[Row]:
    """In a process of its own; one row that says so if it fails."""
    with tempfile.TemporaryDirectory(prefix="fairlane-bench-") as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "tests.bench", "--only", name, "--json", str(file), "--quiet"]
        ended = bounded.run(
            [*command, *(["--long"] if long else [])], limit_s=LONG_LIMIT_S if long else LIMIT_S
        )
        rows = [Row(**row) for row in json.loads(file.read_text())[name]] if file.exists() else []
    console.print(f"{name}: {len(rows)} figures in {ended.seconds:.0f} s")
    if not rows:
        console.print(ended.err[-3000:], markup=False, highlight=False)
        rows = [Row(name, ended.last_words, "", "", ok=False)]
    return rows


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Every figure of fairlane.")
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=BENCHES, metavar="NAME",
                        help=f"some of {', '.join(BENCHES)}")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows by bench, for programs")
    parser.add_argument("--long", action="store_true", help="count a million grants of slots: up to an hour")
    parser.add_argument("--quiet", action="store_true", help="no table")
    return parser.parse_args(given)


def main() -> None:
    asked = arguments()
    console, began = Console(width=120, quiet=asked.quiet), time.monotonic()
    if len(asked.only) == 1:
        found = {asked.only[0]: run(asked.only[0], long=asked.long)}
    else:
        found = {name: run_apart(name, long=asked.long, console=console) for name in asked.only}
    if asked.json:
        made = {name: [asdict(row) for row in rows] for name, rows in found.items()}
        asked.json.write_text(json.dumps(made, ensure_ascii=False, indent=1))
    rows = [row for of_one in found.values() for row in of_one]
    held = all(row.ok is not False for row in rows)
    if not asked.quiet:
        show(f"fairlane's figures, {time.monotonic() - began:.0f} s", rows)
    raise SystemExit(0 if held else 1)


if __name__ == "__main__":
    main()
