"""Runs what proves the promises, each command once, and gathers what each single proof came to."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard
from xml.etree import ElementTree

from tests.bench import bounded
from tests.readiness.promises import PROMISES, Figure, Peak, Proof, Pytest, Terraform

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TFCHECK = ROOT.parent / "shared" / "tools" / "tfcheck" / "tfcheck"
QUICK_BENCHES = frozenset({"imports", "turn", "prompt_cache"})


@dataclass(frozen=True, slots=True)
class Result:
    """`held` None: this run could not show it, and `shown` says why."""

    held: bool | None
    shown: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One test, one row of the benches or one promise of the peak hour."""

    name: str
    held: bool | None
    shown: str = ""


class Gathering:
    """`folder` takes everything that the commands write; `tell` hears what is being run."""

    def __init__(self, folder: Path, tell: Callable[[str], None], *, quick: bool) -> None:
        self._folder = folder
        self._tell = tell
        self._quick = quick
        self._proofs = [proof for promise in PROMISES for proof in promise.proofs]
        self._seen: dict[type, list[Seen]] = {}

    def run(self) -> None:
        self._seen[Pytest] = self._tests()
        self._seen[Figure] = self._figures()
        self._seen[Peak] = self._peak()
        self._seen[Terraform] = self._terraform()

    def result(self, proof: Proof) -> Result:
        """Held if something was seen to hold and nothing to fail."""
        found = [seen for seen in self._seen[type(proof)] if _is_of(proof, seen.name)]
        failed = [seen for seen in found if seen.held is False]
        shown = [seen for seen in found if seen.held]
        if isinstance(proof, Pytest):
            text = f"{len(shown)} passed" + (f", {len(failed)} failed: {_tests_of(failed)}" if failed else "")
        else:
            text = "; ".join(seen.shown for seen in (failed or shown or found))
        if self._left_out(proof):
            text = f"bench {proof.bench}: left out"
        return Result(False if failed else True if shown else None, text or "not run")

    def _left_out(self, proof: Proof) -> TypeGuard[Figure]:
        return isinstance(proof, Figure) and self._quick and proof.bench not in QUICK_BENCHES

    def _tests(self) -> list[Seen]:
        """All in one run of pytest."""
        named = {proof.node for proof in self._proofs if isinstance(proof, Pytest)}
        nodes = sorted(node for node in named if "::" not in node or node.partition("::")[0] not in named)
        file = self._folder / "tests.xml"
        command = [str(BIN / "pytest"), "-q", "-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider"]
        ended = self._run([*command, "-m", "not slow", f"--junitxml={file}", *nodes], limit_s=340)
        if not file.exists():
            return [Seen(node, held=False, shown=ended.last_words) for node in nodes]
        return list(read_junit(file.read_text()))

    def _figures(self) -> list[Seen]:
        names = list(dict.fromkeys(proof.bench for proof in self._proofs if isinstance(proof, Figure)))
        wanted = [name for name in names if not self._quick or name in QUICK_BENCHES]
        file = self._folder / "bench.json"
        command = [sys.executable, "-m", "tests.bench", "--only", *wanted, "--json", str(file)]
        ended = self._run(command, limit_s=420)
        if not file.exists():
            return [
                Seen(f"{name}|{name}", held=False, shown=f"{name}: {ended.last_words}") for name in wanted
            ]
        rows = [(name, row) for name, of_one in json.loads(file.read_text()).items() for row in of_one]
        return [Seen(f"{name}|{row['figure']}", row["ok"], _shown(row)) for name, row in rows]

    def _peak(self) -> list[Seen]:
        command = [str(BIN / "fairlane"), "peak", "--quick", "--faults", "--json"]
        ended = self._run(command, limit_s=110)
        try:
            promises = json.loads(ended.out)["promises"]
        except ValueError:
            return [Seen("", held=False, shown=f"peak: {ended.last_words}")]
        return [Seen(p["name"], p["holds"], f"{p['name']} {p['shown']}") for p in promises]

    def _terraform(self) -> list[Seen]:
        if not TFCHECK.exists() or shutil.which("terraform") is None:
            return [Seen("", None, "no tfcheck here")]
        plan = ["--plan", "terraform", "-var-file=terraform/terraform.tfvars.example"]
        found = []
        for arguments in (["terraform"], plan, ["--test", "terraform"]):
            ended = self._run([str(TFCHECK), *arguments], limit_s=100)
            name = f"tfcheck {arguments[0]}"
            held = ended.status == 0
            found.append(Seen(name, held, name if held else f"{name}: {ended.last_words}"))
        return found

    def _run(self, command: Sequence[str], *, limit_s: float) -> bounded.Ended:
        words = [Path(part).name if part.startswith("/") else part for part in command]
        self._tell(" ".join(words[:10]) + (" …" if len(words) > 10 else ""))
        # Hypothesis would keep its examples in the tree.
        environment = {"HYPOTHESIS_STORAGE_DIRECTORY": str(self._folder / "hypothesis")}
        ended = bounded.run(command, limit_s=limit_s, environment=environment)
        self._tell(f"  status {ended.status}, {ended.seconds:.0f} s")
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


def _is_of(proof: Proof, name: str) -> bool:
    if isinstance(proof, Pytest):
        return name == proof.node or name.startswith(f"{proof.node}::")
    if isinstance(proof, Figure):
        # A bench that did not end well has one row, of its own name.
        return name == f"{proof.bench}|{proof.bench}" or name.startswith(f"{proof.bench}|{proof.begins}")
    return not name or isinstance(proof, Terraform) or name.startswith(proof.begins)


def _tests_of(failed: Sequence[Seen]) -> str:
    return ", ".join(dict.fromkeys(seen.name.rpartition("::")[2] for seen in failed))


def _shown(row: dict[str, str]) -> str:
    return f"{row['figure']} {row['value']}" + (f" ({row['target']})" if row["target"] else "")
