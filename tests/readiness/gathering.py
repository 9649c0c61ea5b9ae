"""Runs what proves the promises, each command once, and gathers what came of each test, figure, promise."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.bench import bounded
from tests.readiness.promises import Seen

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TFCHECK = ROOT.parent / "shared" / "tools" / "tfcheck" / "tfcheck"
QUICK_BENCHES = frozenset({"imports", "turn", "prompt_cache"})


class Gathering:
    """`folder` takes everything that the commands write; `tell` hears what is being run."""

    def __init__(self, folder: Path, tell: Callable[[str], None], *, quick: bool) -> None:
        self._folder = folder
        self._tell = tell
        self._quick = quick

    def run(self, proofs: Sequence[str]) -> list[Seen]:
        benches = [proof for proof in proofs if proof.startswith("bench ")]
        return [
            *self._tests({proof for proof in proofs if proof.startswith("tests/")}),
            *self._figures(benches),
            *self._peak(),
            *self._terraform(),
        ]

    def _tests(self, named: set[str]) -> Iterator[Seen]:
        """All in one run of pytest."""
        nodes = sorted(node for node in named if "::" not in node or node.partition("::")[0] not in named)
        file = self._folder / "tests.xml"
        command = [str(BIN / "pytest"), "-q", "-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider"]
        self._run([*command, "-m", "not slow", f"--junitxml={file}", *nodes], limit_s=340)
        return read_junit(file.read_text()) if file.exists() else iter(())

    def _figures(self, proofs: Sequence[str]) -> Iterator[Seen]:
        wanted = dict.fromkeys(proof.split()[1] for proof in proofs)
        if self._quick:
            wanted = {name: None for name in wanted if name in QUICK_BENCHES}
            left_out = [proof for proof in proofs if proof.split()[1] not in wanted]
            yield from (Seen(proof, None, f"bench {proof.split()[1]}: left out") for proof in left_out)
        file = self._folder / "bench.json"
        command = [sys.executable, "-m", "tests.bench", "--only", *wanted, "--json", str(file)]
        self._run(command, limit_s=420)
        for name, rows in json.loads(file.read_text()).items() if file.exists() else ():
            yield from (Seen(f"bench {name} | {row['figure']}", row["ok"], _shown(row)) for row in rows)

    def _peak(self) -> Iterator[Seen]:
        ended = self._run([str(BIN / "fairlane"), "peak", "--quick", "--faults", "--json"], limit_s=110)
        for one in json.loads(ended.out)["promises"] if ended.out.startswith("{") else ():
            yield Seen(f"peak | {one['name']}", one["holds"], f"{one['name']} {one['shown']}")

    def _terraform(self) -> Iterator[Seen]:
        if not TFCHECK.exists() or shutil.which("terraform") is None:
            yield Seen("tfcheck", None, "no tfcheck here")
            return
        plan = ["--plan", "terraform", "-var-file=terraform/terraform.tfvars.example"]
        for arguments in (["terraform"], plan, ["--test", "terraform"]):
            ended = self._run([str(TFCHECK), *arguments], limit_s=100)
            yield Seen("tfcheck", ended.status == 0, f"tfcheck {arguments[0]}")

    def _run(self, command: Sequence[str], *, limit_s: float) -> bounded.Ended:
        words = [Path(part).name if part.startswith("/") else part for part in command]
        self._tell(" ".join(words[:10]) + (" …" if len(words) > 10 else ""))
        # Hypothesis would keep its examples in the tree.
        environment = {"HYPOTHESIS_STORAGE_DIRECTORY": str(self._folder / "hypothesis")}
        ended = bounded.run(command, limit_s=limit_s, environment=environment)
        said = "" if ended.status == 0 else f": {ended.last_words}"
        self._tell(f"  status {ended.status}, {ended.seconds:.0f} s{said}")
        return ended


def read_junit(report: str) -> Iterator[Seen]:
    """Node ids (without parameters) of the tests that passed, failed or were skipped (held None)."""
    for case in ElementTree.fromstring(report).iter("testcase"):
        parts = case.get("classname", "").split(".")  # tests.usecases.test_x.TestY
        end = next((n for n, part in enumerate(parts, 1) if part.startswith("test_")), len(parts))
        name = case.get("name", "").partition("[")[0]
        node = "::".join(["/".join(parts[:end]) + ".py", *parts[end:], name])
        failed = case.find("failure") is not None or case.find("error") is not None
        yield Seen(node, held=False if failed else None if case.find("skipped") is not None else True)


def _shown(row: dict[str, Any]) -> str:
    return f"{row['figure']} {row['value']}" + (f" ({row['target']})" if row["target"] else "")
