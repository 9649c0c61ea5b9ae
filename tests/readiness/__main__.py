"""Is it ready? The audit's fourteen rows with what proves each, and its five scores before and now.

    python -m tests.readiness [--quick] [--json FILE]

A promise holds if every command that is to prove it ran and none failed. A dimension's score is the share of
its promises that hold, in per cent: 100 only if all do. Status 1 otherwise. Tests that are marked slow are
left to `make test-slow`; `--quick` also leaves out the long benches, and judges by what remains.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.readiness.gathering import Gathering, Result
from tests.readiness.promises import PROMISES, Dimension, Figure, Peak, Promise, Proof, Pytest, Terraform

COMMANDS = {
    Figure: "python -m tests.bench --only",
    Peak: "fairlane peak --quick --faults",
    Terraform: "tfcheck terraform",
}


@dataclass(frozen=True, slots=True)
class Judged:
    promise: Promise
    results: tuple[tuple[Proof, Result], ...]

    @property
    def holds(self) -> bool | None:
        """None: nothing failed, but nothing could show it here, either."""
        seen = [result.held for _, result in self.results]
        return False if False in seen else True if True in seen else None

    @property
    def commands(self) -> list[str]:
        proofs = self.promise.proofs
        tests = sorted({proof.node.partition("::")[0] for proof in proofs if isinstance(proof, Pytest)})
        benches = dict.fromkeys(proof.bench for proof in proofs if isinstance(proof, Figure))
        others = [COMMANDS[kind] for kind in (Peak, Terraform) if any(isinstance(p, kind) for p in proofs)]
        return [
            *([f"pytest {' '.join(tests)}"] if tests else []),
            *([f"{COMMANDS[Figure]} {' '.join(benches)}"] if benches else []),
            *others,
        ]

    @property
    def shown(self) -> list[str]:
        """What was seen: the tests counted together, each figure by itself, and what is amiss."""
        tests = [result for proof, result in self.results if isinstance(proof, Pytest)]
        passed = sum(int(result.shown.split()[0]) for result in tests if result.shown[0].isdigit())
        failed = [result.shown for result in tests if result.held is not True]
        others = [result.shown for proof, result in self.results if not isinstance(proof, Pytest)]
        return list(dict.fromkeys([*([f"{passed} tests passed"] if tests else []), *failed, *others]))


def scores(judged: Sequence[Judged]) -> dict[Dimension, int]:
    """Per cent of a dimension's promises that hold, rounded down."""
    found = {}
    for dimension in Dimension:
        of_one = [one.holds for one in judged if dimension in one.promise.dimensions]
        found[dimension] = 100 * sum(holds is True for holds in of_one) // len(of_one)
    return found


def show(console: Console, judged: Sequence[Judged], *, quick: bool) -> None:
    table = Table(title="The audit's rows", title_justify="left", show_lines=True)
    table.add_column("row", justify="right")
    table.add_column("promise", ratio=3)
    table.add_column("proven by", ratio=4, overflow="fold")
    table.add_column("seen", ratio=4, overflow="fold")
    table.add_column("")
    marks = {True: "[green]holds[/]", False: "[red]BROKEN[/]", None: "[yellow]not shown[/]"}
    for one in judged:
        table.add_row(
            str(one.promise.row),
            one.promise.says,
            "\n".join(one.commands),
            "\n".join(one.shown),
            marks[one.holds],
        )
    console.print(table)
    now = scores(judged)
    summary = Table(
        title="The audit's scores: share of a dimension's promises that hold", title_justify="left"
    )
    for name in ("dimension", "promises", "held", "before → now"):
        summary.add_column(name, justify="left" if name == "dimension" else "right")
    for dimension, score in now.items():
        of_one = [one for one in judged if dimension in one.promise.dimensions]
        held = sum(one.holds is True for one in of_one)
        summary.add_row(dimension.name.lower(), str(len(of_one)), str(held), f"{dimension.value} → {score}")
    mean = sum(now.values()) // len(now)
    before = sum(dimension.value for dimension in Dimension) // len(Dimension)
    summary.add_row("[bold]all[/]", "", "", f"[bold]{before} → {mean}[/]")
    console.print(summary)
    if quick:
        console.print("quick: judged without the benches that are left out")


def as_json(judged: Sequence[Judged]) -> dict[str, Any]:
    now = scores(judged)
    return {
        "promises": [
            {
                "row": one.promise.row,
                "promise": one.promise.says,
                "dimensions": [dimension.name.lower() for dimension in one.promise.dimensions],
                "commands": one.commands,
                "seen": one.shown,
                "holds": one.holds,
            }
            for one in judged
        ],
        "scores": {d.name.lower(): {"before": d.value, "now": now[d]} for d in Dimension},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.readiness", description="Proves the audit's rows.")
    parser.add_argument("--quick", action="store_true", help="without the long benches: about five minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table, for programs")
    asked = parser.parse_args()
    console, began = Console(width=160), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fairlane-readiness-") as folder:
        gathering = Gathering(
            Path(folder),
            lambda line: console.print(line, markup=False, highlight=False),
            quick=asked.quick,
        )
        gathering.run()
        judged = [
            Judged(promise, tuple((proof, gathering.result(proof)) for proof in promise.proofs))
            for promise in PROMISES
        ]
    show(console, judged, quick=asked.quick)
    console.print(f"{time.monotonic() - began:.0f} s")
    if asked.json:
        asked.json.write_text(json.dumps(as_json(judged), ensure_ascii=False, indent=1))
    raise SystemExit(0 if all(one.holds for one in judged) else 1)


if __name__ == "__main__":
    main()
