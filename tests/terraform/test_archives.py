"""The archives that Terraform deploys are complete, and hold nothing more."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support import archives

pytestmark = pytest.mark.skipif(not archives.terraform(), reason="terraform is not installed")

FUNCTIONS = ("webhook", "turn")


@pytest.fixture
def listed(tmp_path: Path) -> dict[str, dict[str, Path]]:
    work = tmp_path / "evaluate"
    work.mkdir()
    return archives.files(work)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_archive_is_flat_and_holds_the_functions_own_files(
    listed: dict[str, dict[str, Path]], function: str
) -> None:
    own = archives.TREE / "functions" / function
    assert listed[function]["main.py"] == own / "main.py"
    assert listed[function]["requirements.txt"] == own / "requirements.txt"
    assert {name.partition("/")[0] for name in listed[function]} == {"main.py", "requirements.txt", "core"}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_archive_has_all_of_core_but_the_local_stack_and_what_operators_use(
    listed: dict[str, dict[str, Path]], function: str
) -> None:
    core = archives.TREE / "core"
    expected = {
        str(path.relative_to(archives.TREE))
        for path in core.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
        if path.relative_to(core).parts[0] not in {"local", "ops", "reports"}
    }
    assert {name for name in listed[function] if name.startswith("core/")} == expected
    assert {".py", ".lua", ".toml"} <= {Path(name).suffix for name in expected}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_unpacked_archive_answers_with_nothing_but_its_own_requirements(
    listed: dict[str, dict[str, Path]], function: str, tmp_path: Path
) -> None:
    archive = archives.build(listed[function], tmp_path / "archive.zip")
    folder = tmp_path / "workspace"
    binaries = archives.install(archive, folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = archives.start(function, folder, binaries, port)
    try:
        assert _first_answer(process, port) == 200
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=15)
    assert "Traceback" not in output


def _first_answer(process: subprocess.Popen[str], port: int) -> int:
    for _ in range(1800):  # turn waits a minute for a Redis that is not there
        if process.poll() is not None:
            pytest.fail(f"the function did not start:\n{process.communicate()[0]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as exc:
            return exc.code
        except OSError:
            time.sleep(0.05)
    pytest.fail("the function did not answer within 90 s")
