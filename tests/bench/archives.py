"""Size of the deployed archives, and their cold start: process start -> first 200.

Unpacked as they are deployed, run with this environment's packages; the baseline is an async function of
five lines in the same environment. Needs terraform, which evaluates what goes into an archive.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path

from core.local.processes import free_port
from tests.bench.table import Row
from tests.support import archives

ROUNDS = 3
BARE = """
import functions_framework.aio

@functions_framework.aio.http
async def bare(request):
    return "hello"
"""


def cold_start_s(function: str, folder: Path) -> float:
    port, began = free_port(), time.perf_counter()
    process = archives.start(function, folder, Path(sys.executable).parent, port)
    try:
        while process.poll() is None and time.perf_counter() - began < 30:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    assert answer.status == 200
                    return time.perf_counter() - began
            except OSError:
                time.sleep(0.01)
        raise RuntimeError(f"{function} does not answer")
    finally:
        process.terminate()
        process.communicate(timeout=15)


async def rows() -> list[Row]:
    if not archives.terraform():
        return [Row("archives", "not measured: no terraform here", "")]
    found = []
    with tempfile.TemporaryDirectory(prefix="fairlane-archives-") as made:
        work = Path(made)
        (work / "evaluate").mkdir()
        (work / "bare").mkdir()
        (work / "bare" / "main.py").write_text(BARE)
        folders = {"bare": work / "bare"}
        for name, listed in archives.files(work / "evaluate").items():
            archive = archives.build(listed, work / f"{name}.zip")
            folders[name] = work / name
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(folders[name])
            size = f"{archive.stat().st_size / 1024:.0f} KiB, {len(listed)} files"
            found.append(Row(f"archive of {name}", size, ""))
        for folder in folders.values():
            cold_start_s(folder.name, folder)  # compiles what is not compiled yet
        rounds = [{n: cold_start_s(n, folder) for n, folder in folders.items()} for _ in range(ROUNDS)]
        seconds = {name: statistics.median(r[name] for r in rounds) for name in folders}
    bare = f"bare function {seconds.pop('bare'):.2f} s"
    return found + [
        Row(f"cold start of {name}: process start → first 200", f"{took:.2f} s", "", bare)
        for name, took in seconds.items()
    ]
