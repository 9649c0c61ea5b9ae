"""Pictures in one process of the turn function: its memory while fifteen turns have four of 10 MB each at
once, and what one of 3 MB adds to a turn besides the model's call."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import psutil

from core.domain.clinic import Limits
from core.local.openai_api import Latency
from core.local.simulator import Sent
from core.local.stack import LocalStack, StackOptions
from tests.bench.table import Row
from tests.support.fault_scene import FaultScene
from tests.support.fault_scene import Row as Told
from tests.support.pictures import a_picture, heavy, photo

TARGET_MIB, TARGET_MS = 256, 150
TURNS, EACH = 15, 4
TRIES = 9
MODEL_S = 0.3


async def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="fairlane-bench-") as folder:
        options = StackOptions(turns=1, latency=Latency(MODEL_S, 0.0), environment=_SETTINGS)
        async with LocalStack(options) as stack, FaultScene(stack, Path(folder)) as scene:
            clinic = await scene.clinic(limits=Limits(max_concurrent=TURNS), gather_s=0.0)
            told = Told("media", clinic)
            await _once(scene, told, with_picture=False)
            memory = await _memory(scene, told)
            return [memory, await _time(scene, told)]


_SETTINGS = {
    "CHAT_MAX_CONCURRENT_PER_ORG": str(TURNS),
    "ORG_MESSAGES_PER_MINUTE": "60000",
    "SENDER_MESSAGES_PER_10S": "60000",
}


async def _memory(scene: FaultScene, told: Told) -> Row:
    """Before the process has loaded Pillow, so that this counts, too."""
    worker = _worker(scene)
    idle, large = worker.memory_info().rss, heavy(10)
    _forget_highest(worker)
    questions = []
    for n in range(TURNS):
        sent = [a_picture(scene, told, large, f"customer {n}") for _ in range(EACH)]
        questions.append(scene.message(told, f"customer {n}", "อันนี้อะไรคะ?"))
        await scene.sim.send(*sent, questions[-1])
    unanswered = await scene.sim.wait_answered([sent.event_id for sent in questions], 120)
    shown = sum(len(call.pictures) for call in scene.stack.openai.calls)
    added = (_highest(worker) - idle) / 2**20
    return Row(
        f"memory, {TURNS} turns with {EACH} pictures of {len(large) / 1e6:.0f} MB at once",
        f"+{added:.0f} MiB",
        f"≤ {TARGET_MIB} MiB",
        f"idle {idle / 2**20:.0f} MiB; {shown} of {TURNS * EACH} shown",
        added <= TARGET_MIB and not unanswered and shown == TURNS * EACH,
    )


async def _time(scene: FaultScene, told: Told) -> Row:
    with_picture, without, worker = list[float](), list[float](), _worker(scene)
    used_s = {True: 0.0, False: 0.0}
    for _ in range(TRIES):
        for given, times in ((False, without), (True, with_picture)):
            began_s = sum(worker.cpu_times()[:2])
            times.append(await _once(scene, told, with_picture=given))
            used_s[given] += sum(worker.cpu_times()[:2]) - began_s
    processor_ms = 1000 * (used_s[True] - used_s[False]) / TRIES
    added = statistics.median(with_picture) - statistics.median(without)
    return Row(
        "what a picture of 3 MB adds to a turn, fetching it over loopback included",
        f"{added:.0f} ms",
        f"≤ {TARGET_MS} ms",
        f"{processor_ms:.0f} ms of processor time; a turn without {statistics.median(without):.0f} ms",
        added <= TARGET_MS,
    )


_CAMERA = photo(4032, 3024, quality=90)


async def _once(scene: FaultScene, told: Told, *, with_picture: bool) -> float:
    """Milliseconds from the webhook to LINE's acceptance."""
    events: list[Sent] = [a_picture(scene, told, _CAMERA, "one")] if with_picture else []
    question = scene.message(told, "one", "อันนี้อะไรคะ?")
    await scene.sim.send(*events, question)
    if await scene.sim.wait_answered([question.event_id], 60):
        raise AssertionError("not answered")
    await scene.stack.tasks.drained(20)
    (delivery,) = scene.sim.answers(question.event_id)
    return delivery.at_ms - question.sent_ms


def _worker(scene: FaultScene) -> psutil.Process:
    """The process that serves: gunicorn's only worker."""
    started = scene.stack.turns[0].pid
    children = psutil.Process(started).children(recursive=True)
    return max(children, key=lambda child: child.memory_info().rss)


def _forget_highest(worker: psutil.Process) -> None:
    """See proc(5), clear_refs: the peak begins anew."""
    Path(f"/proc/{worker.pid}/clear_refs").write_text("5")


def _highest(worker: psutil.Process) -> int:
    for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")
