"""A function imports what its own requirements.txt pins and nothing else, and does nothing while it does."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import archives

ROOT = Path(__file__).parents[2]
FUNCTIONS = ("webhook", "turn")

# Run with the function's main.py as the argument: what is loaded, and whether anything reached out.
PROBE = """
import json, os, runpy, sys, threading
reached = []
sys.addaudithook(lambda event, _: reached.append(event) if event in
                 ("socket.connect", "socket.getaddrinfo", "subprocess.Popen") else None)
before = dict(os.environ)
runpy.run_path(sys.argv[1])
core = sorted(m.__file__ for name, m in sys.modules.items() if name.startswith("core.") and m.__file__)
print(json.dumps({"core": core, "reached": reached, "threads": threading.active_count(),
                  "changed": before != dict(os.environ)}))
"""


def pinned(function: str) -> set[str]:
    """Distributions of its requirements.txt, normalised."""
    text = (ROOT / "functions" / function / "requirements.txt").read_text()
    return {
        name.lower().replace("_", "-") for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)
    }


def imported(file: Path) -> set[str]:
    """Full names of the modules that a source file names, also those that it imports later."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            spec = find_spec(node.module)
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            # A namespace package has no file: what is taken from it are modules.
            names |= {node.module} if spec and spec.origin else parts
    return {name for name in names if name.partition(".")[0] not in {"core", *sys.stdlib_module_names}}


def owned_files(function: str) -> set[Path]:
    found = (distribution(name) for name in pinned(function))
    return {Path(str(d.locate_file(file))).resolve() for d in found for file in d.files or ()}


def found(name: str, owned: set[Path]) -> bool:
    spec = find_spec(name)
    return bool(spec and spec.origin and Path(spec.origin).resolve() in owned)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_imports_only_what_it_pins_and_reaches_out_to_nothing(function: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, ROOT / "functions" / function / "main.py"],
        env={"PYTHONPATH": str(ROOT)},  # no settings: an import needs none
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    seen = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert (seen["reached"], seen["threads"], seen["changed"]) == ([], 1, False)
    files = [Path(file) for file in seen["core"]]
    assert not [file for file in files if {"local", "ops", "reports"} & set(file.relative_to(ROOT).parts)]
    owned = owned_files(function)
    sources = [ROOT / "functions" / function / "main.py", *files]
    foreign = {(file.name, name) for file in sources for name in imported(file) if not found(name, owned)}
    assert foreign == set()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_dependency_ships_a_top_level_package_named_core(function: str) -> None:
    for name in pinned(function):
        shipped = {file.parts[0] for file in distribution(name).files or ()}
        assert not shipped & {"core", "core.py", "main.py", "functions"}, name


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_imports_in_an_environment_of_its_own(function: str, tmp_path: Path) -> None:
    own = ROOT / "functions" / function
    flat = {"main.py": own / "main.py", "requirements.txt": own / "requirements.txt"}
    for file in (ROOT / "core").rglob("*"):
        part = file.relative_to(ROOT)
        if (
            file.is_file()
            and part.parts[1] not in {"local", "ops", "reports"}
            and "__pycache__" not in part.parts
        ):
            flat[str(part)] = file
    folder = tmp_path / "workspace"
    binaries = archives.install(archives.build(flat, tmp_path / "archive.zip"), folder)
    assert not list(binaries.parent.glob("lib/python3*/site-packages/core*"))
    done = subprocess.run(
        [binaries / "python", "-W", "error::ImportWarning", "-c", "import main, core; print(core.__file__)"],
        cwd=folder,
        env={},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder / "core" / "__init__.py")
