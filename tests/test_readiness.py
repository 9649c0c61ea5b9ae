"""The list of promises names only what exists, and nothing of the audit is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.bench.__main__ import BENCHES
from tests.readiness.gathering import read_junit
from tests.readiness.promises import BEFORE, Judged, Seen, judge, promises, scores

ROOT = Path(__file__).parents[1]
PROMISES = promises()
PROOFS = sorted({proof for promise in PROMISES for proof in promise.proofs})


def test_every_row_and_every_dimension_has_promises() -> None:
    assert {promise.row for promise in PROMISES} == set(range(1, 15))
    assert {dimension for promise in PROMISES for dimension in promise.dimensions} == set(BEFORE)
    assert all(promise.proofs for promise in PROMISES)


@pytest.mark.parametrize("proof", PROOFS)
def test_every_proof_exists(proof: str) -> None:
    kind, _, begins = proof.partition(" | ")
    if kind.startswith("tests/"):
        file, _, name = kind.partition("::")
        defined = rf"{name}\(" if name else "test_"
        assert re.search(rf"^\s*(async )?def {defined}", (ROOT / file).read_text(), re.MULTILINE)
    elif kind == "peak":
        assert f'"{begins}' in (ROOT / "core" / "local" / "peak" / "judge.py").read_text()
    elif kind != "tfcheck":
        bench = kind.removeprefix("bench ")
        assert bench in BENCHES
        sources = [path.read_text() for path in (ROOT / "tests" / "bench").glob(f"{bench}*.py")]
        assert f'"{begins}' in "".join(sources).replace('f"', '"')


def test_every_bench_can_be_run() -> None:
    for name in BENCHES:
        assert "\nasync def rows(" in (ROOT / "tests" / "bench" / f"{name}.py").read_text()


def test_a_score_is_full_only_if_every_promise_of_the_dimension_holds() -> None:
    def judged(*last: Seen) -> list[Judged]:
        shown = [judge(one, [Seen(proof, held=True) for proof in one.proofs]) for one in PROMISES[:-1]]
        rest = [Seen(proof, held=True) for proof in PROMISES[-1].proofs[1:]]
        return [*shown, judge(PROMISES[-1], [*rest, *last])]

    first = PROMISES[-1].proofs[0]
    assert set(scores(judged(Seen(first, held=True))).values()) == {100}
    touched = set(PROMISES[-1].dimensions)
    for last in ((), (Seen(first, held=False),), (Seen(first, held=True), Seen(first, held=False))):
        assert {d for d, score in scores(judged(*last)).items() if score < 100} == touched


def test_what_could_not_be_shown_holds_only_if_something_else_was_seen() -> None:
    promise = PROMISES[0]
    unseen = [Seen(proof, held=None, shown="left out") for proof in promise.proofs]
    assert judge(promise, unseen).holds is None
    assert judge(promise, [*unseen[1:], Seen(promise.proofs[0], held=True)]).holds is True


def test_pytests_report_is_read_by_node() -> None:
    report = """<testsuites><testsuite>
      <testcase classname="tests.a.test_b" name="test_c[x]"/>
      <testcase classname="tests.a.test_b.TestD" name="test_e"><failure/></testcase>
      <testcase classname="tests.a.test_b" name="test_f"><skipped/></testcase>
    </testsuite></testsuites>"""
    assert [(seen.name, seen.held) for seen in read_junit(report)] == [
        ("tests/a/test_b.py::test_c", True),
        ("tests/a/test_b.py::TestD::test_e", False),
        ("tests/a/test_b.py::test_f", None),
    ]
