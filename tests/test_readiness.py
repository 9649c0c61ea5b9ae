"""The list of promises names only what exists, and nothing of the audit is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.bench.__main__ import BENCHES
from tests.readiness.__main__ import Judged, scores
from tests.readiness.gathering import Result, read_junit
from tests.readiness.promises import PROMISES, Dimension, Figure, Peak, Pytest

ROOT = Path(__file__).parents[1]
PROOFS = [proof for promise in PROMISES for proof in promise.proofs]


def test_every_row_and_every_dimension_has_promises() -> None:
    assert {promise.row for promise in PROMISES} == set(range(1, 15))
    assert {dimension for promise in PROMISES for dimension in promise.dimensions} == set(Dimension)
    assert all(promise.proofs for promise in PROMISES)


@pytest.mark.parametrize("node", sorted({proof.node for proof in PROOFS if isinstance(proof, Pytest)}))
def test_every_named_test_exists(node: str) -> None:
    file, _, name = node.partition("::")
    defined = rf"{name}\(" if name else "test_"
    assert re.search(rf"^\s*(async )?def {defined}", (ROOT / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize("figure", [proof for proof in PROOFS if isinstance(proof, Figure)], ids=str)
def test_every_named_figure_is_one_of_its_bench(figure: Figure) -> None:
    assert figure.bench in BENCHES
    sources = [path.read_text() for path in (ROOT / "tests" / "bench").glob(f"{figure.bench}*.py")]
    assert any(f'"{figure.begins}' in source for source in "".join(sources).replace('f"', '"').split("\n"))


@pytest.mark.parametrize("begins", [proof.begins for proof in PROOFS if isinstance(proof, Peak)])
def test_every_named_promise_of_the_peak_hour_is_judged_there(begins: str) -> None:
    assert f'"{begins}' in (ROOT / "core" / "local" / "peak" / "judge.py").read_text()


def test_every_bench_can_be_run() -> None:
    for name in BENCHES:
        assert "\nasync def rows(" in (ROOT / "tests" / "bench" / f"{name}.py").read_text()


def test_a_score_is_full_only_if_every_promise_of_the_dimension_holds() -> None:
    def judged(*, last: bool | None) -> list[Judged]:
        verdicts = [True] * (len(PROMISES) - 1) + [last]
        return [
            Judged(promise, ((promise.proofs[0], Result(holds, "1 passed")),))
            for promise, holds in zip(PROMISES, verdicts, strict=True)
        ]

    assert set(scores(judged(last=True)).values()) == {100}
    touched = set(PROMISES[-1].dimensions)
    for last in (False, None):
        assert {d for d, score in scores(judged(last=last)).items() if score < 100} == touched


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
