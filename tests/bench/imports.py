"""What a function's own code adds to the import of the client libraries it cannot do without."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

from tests.bench.table import Row

ROOT = Path(__file__).parents[2]
ROUNDS = 5
TARGET = 1.15

CLIENTS = """
import functions_framework.aio
import grpc.aio
import redis.asyncio
from google.cloud.firestore import AsyncClient
from google.cloud.secretmanager import SecretManagerServiceAsyncClient
from google.cloud.tasks_v2 import CloudTasksAsyncClient
"""
BASELINES = {
    "webhook": CLIENTS,
    "turn": CLIENTS + "from openai import AsyncOpenAI\nimport httpx2, tenacity\n",
}
FUNCTION = "import runpy; runpy.run_path('functions/{}/main.py')"


def seconds(code: str) -> float:
    """In a fresh interpreter; processor time, since another process may hold the machine's cores."""
    timed = f"import time; t = time.process_time()\n{code}\nprint(time.process_time() - t)"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", timed], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    return float(done.stdout)


def ratio(name: str) -> tuple[float, float, float]:
    """Medians of the function's import and of its clients' (seconds), and the first over the second."""
    codes = (FUNCTION.format(name), BASELINES[name])
    for code in codes:
        seconds(code)  # compiles what is not compiled yet
    rounds = [tuple(map(seconds, codes)) for _ in range(ROUNDS)]
    ours, clients = (statistics.median(times) for times in zip(*rounds, strict=True))
    return ours, clients, statistics.median(a / b for a, b in rounds)


async def rows() -> list[Row]:
    found = []
    for name in BASELINES:
        ours, clients, share = ratio(name)
        figure = f"import of {name} ÷ import of its client libraries"
        baseline = f"clients {clients:.2f} s"
        found.append(Row(figure, f"{share:.2f} ({ours:.2f} s)", f"≤ {TARGET:g}", baseline, share <= TARGET))
    return found
