"""Is it ready? The audit's fourteen rows with what proves each, and its five scores before and now.

    python -m tests.readiness [--quick] [--json FILE]

A promise holds if each of its proofs was seen and none failed. A dimension's score is the share of its
promises that hold, in per cent: 100 only if all do. Status 1 otherwise. Tests that are marked slow are left
to `make test-slow`; `--quick` also leaves out the long benches, and judges by what remains.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.readiness.gathering import Gathering
from tests.readiness.promises import BEFORE, Judged, judge, promises, scores

_MARKS = {True: "[green]holds[/]", False: "[red]BROKEN[/]", None: "[yellow]not shown[/]"}


def show(console: Console, judged: Sequence[Judged]) -> None:
    table = Table(title="The audit's rows", title_justify="left", show_lines=True)
    for name, ratio in {"row": None, "promise": 3, "proven by": 4, "seen": 4, "": None}.items():
        table.add_column(name, ratio=ratio, overflow="fold")
    for one in judged:
        promise, mark = one.promise, _MARKS[one.holds]
        proven, seen = ("\n".join(lines) for lines in (promise.commands, one.shown))
        table.add_row(str(promise.row), promise.says, proven, seen, mark)
    console.print(table)
    now = scores(judged)
    console.print("\nThe audit's scores, before → now: the share of a dimension's promises that hold")
    for dimension, score in now.items():
        console.print(f"  {dimension:<12} {BEFORE[dimension]} → {score}")
    console.print(f"  {'all':<12} [bold]{fmean(BEFORE.values()):.0f} → {int(fmean(now.values()))}[/]")


def as_json(judged: Sequence[Judged]) -> dict[str, Any]:
    return {
        "promises": [
            {
                "row": one.promise.row,
                "promise": one.promise.says,
                "dimensions": one.promise.dimensions,
                "commands": one.promise.commands,
                "seen": one.shown,
                "holds": one.holds,
            }
            for one in judged
        ],
        "scores": {name: {"before": BEFORE[name], "now": now} for name, now in scores(judged).items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.readiness", description="Proves the audit's rows.")
    parser.add_argument("--quick", action="store_true", help="without the long benches: about five minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table, for programs")
    asked = parser.parse_args()
    console, began = Console(width=160, highlight=False), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fairlane-readiness-") as folder:
        gathering = Gathering(Path(folder), lambda line: console.print(line, markup=False), quick=asked.quick)
        seen = gathering.run([proof for promise in promises() for proof in promise.proofs])
    judged = [judge(promise, seen) for promise in promises()]
    show(console, judged)
    left_out = ", without the benches that --quick leaves out" if asked.quick else ""
    console.print(f"{time.monotonic() - began:.0f} s{left_out}")
    if asked.json:
        asked.json.write_text(json.dumps(as_json(judged), ensure_ascii=False, indent=1))
    raise SystemExit(0 if all(one.holds for one in judged) else 1)


if __name__ == "__main__":
    main()
