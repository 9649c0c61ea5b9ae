"""Where tests stand: the folders are core's, and what several share is in tests/support."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
TOOLS = {"bench", "readiness"}
# What is tested as a whole, and what helps; all others have core's names.
WITHOUT_A_TWIN = {"e2e", "terraform", "support", *TOOLS}
# The judge of the promises reads the benches' figures.
MAY_ALSO_IMPORT = {"readiness": {"bench"}}
PACKAGES = sorted(path.name for path in TESTS.iterdir() if path.is_dir() and any(path.rglob("*.py")))


def imported_packages(path: Path) -> set[str]:
    """The folders of tests/ that a module imports from."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{name.name}" for name in node.names}
    return {name.split(".")[1] for name in names if name.startswith("tests.")}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_test_package_imports_another(package: str) -> None:
    allowed = {package, "support"} | MAY_ALSO_IMPORT.get(package, set())
    found = {str(path): imported_packages(path) - allowed for path in (TESTS / package).rglob("*.py")}
    assert not {path: others for path, others in found.items() if others}


@pytest.mark.parametrize("package", sorted({*PACKAGES} - {"support", *TOOLS}))
def test_a_test_package_holds_tests_and_their_fixtures(package: str) -> None:
    names = {path.name for path in (TESTS / package).rglob("*.py")}
    assert not {name for name in names if not name.startswith("test_")} - {"conftest.py"}


@pytest.mark.parametrize("package", sorted({*PACKAGES} - WITHOUT_A_TWIN))
def test_folders_of_tests_are_those_of_core(package: str) -> None:
    folders = {path.parent.relative_to(TESTS) for path in (TESTS / package).rglob("*.py")}
    assert not [folder for folder in folders if not (ROOT / "core" / folder).is_dir()]
