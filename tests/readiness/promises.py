"""Promises, what proves them, and what a run of the proofs has shown of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

BEFORE = {"scalability": 20, "state": 25, "cost": 60, "resiliency": 40, "enterprise": 35}
"""The audit's five dimensions, with the score that it gave the old system."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One test, one figure or one promise of the peak hour, named as proofs are. `held` None: it could not be
    shown here."""

    name: str
    held: bool | None
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Promise:
    row: int
    says: str
    dimensions: list[str]
    proofs: list[str]

    @property
    def commands(self) -> list[str]:
        tests = dict.fromkeys(proof.partition("::")[0] for proof in self.proofs if proof.startswith("tests/"))
        benches = dict.fromkeys(proof.split()[1] for proof in self.proofs if proof.startswith("bench "))
        others = {proof.split()[0] for proof in self.proofs}
        return [
            *([f"pytest {' '.join(sorted(tests))}"] if tests else []),
            *([f"python -m tests.bench --only {' '.join(benches)}"] if benches else []),
            *(["fairlane peak --quick --faults"] if "peak" in others else []),
            *(["tfcheck terraform"] if "tfcheck" in others else []),
        ]


@dataclass(frozen=True, slots=True)
class Judged:
    """A promise, and by proof all that was seen of it."""

    promise: Promise
    seen: tuple[tuple[Seen, ...], ...]

    @property
    def holds(self) -> bool | None:
        """False if anything failed or a proof is missing; None: nothing failed, and nothing could show it."""
        if not all(self.seen) or any(one.held is False for of_one in self.seen for one in of_one):
            return False
        return True if any(one.held for of_one in self.seen for one in of_one) else None

    @property
    def shown(self) -> list[str]:
        """What was seen: the tests counted together, each figure by itself, and what is amiss."""
        every = [one for of_one in self.seen for one in of_one]
        passed = sum(one.held is True for one in every if one.name.startswith("tests/"))
        missing = [proof for proof, of_one in zip(self.promise.proofs, self.seen, strict=True) if not of_one]
        return [
            *([f"{passed} tests passed"] if passed else []),
            *(f"failed: {one.name}" for one in every if one.held is False and not one.shown),
            *dict.fromkeys(one.shown for one in every if one.shown),
            *(f"not seen: {proof}" for proof in missing),
        ]


def promises() -> list[Promise]:
    rows = YAML(typ="safe").load(Path(__file__).with_suffix(".yaml"))
    return [Promise(**row) for row in rows]


def judge(promise: Promise, seen: Sequence[Seen]) -> Judged:
    by_proof = (tuple(one for one in seen if _is_of(proof, one.name)) for proof in promise.proofs)
    return Judged(promise, tuple(by_proof))


def _is_of(proof: str, name: str) -> bool:
    return name == proof or name.startswith(f"{proof}::" if proof.startswith("tests/") else proof)


def scores(judged: Sequence[Judged]) -> dict[str, int]:
    """By dimension: per cent of its promises that hold, rounded down."""
    by_dimension = {
        dimension: [one.holds is True for one in judged if dimension in one.promise.dimensions]
        for dimension in BEFORE
    }
    return {dimension: 100 * sum(held) // len(held) for dimension, held in by_dimension.items()}
