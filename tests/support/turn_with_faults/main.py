"""The turn function with adapters that fail on command: what the product itself has no hooks for.

Files in the folder FAULTS say what goes wrong, whichever process gets there first:
`kill-POINT` the process and its group die by SIGKILL at that point, once; `pause-POINT` one waits there until
the file is gone (`paused-POINT` stands there meanwhile); `documents-down` the document store fails while the
file is there. CLOCK_OFFSET_MS sets this process's wall clock off.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from core.adapters.cloudtasks_tasks import CloudTasksQueue
from core.adapters.line_messaging import LineMessagingApi
from core.adapters.openai_llm import OpenAiLlm
from core.adapters.openai_transcriber import OpenAiTranscriber
from core.adapters.redis_mailbox import RedisMailbox
from core.adapters.redis_slots import RedisSlots
from core.adapters.system_clock import CorrectedClock
from core.bootstrap import shared
from core.bootstrap import turn as bootstrap
from core.domain.errors import DocumentsUnavailableError
from core.domain.task import EffectTask, Task
from core.edge.turn import PROCESS, execute
from core.ports.documents import Document, DocumentStore, Key, Version, Write

FAULTS = Path(os.environ["FAULTS"])
STEPS = {
    "reserved": "claim",
    "answered": "settle",
    "delivered": "delivered",
    "failed": "delivered",
    "sent": "noticed",
    "confirmed": "decided",
}


def _take(source: Path, target: Path) -> bool:
    try:
        source.rename(target)
    except FileNotFoundError:
        return False
    return True


async def at(point: str) -> None:
    if _take(FAULTS / f"kill-{point}", FAULTS / f"killed-{point}"):
        os.killpg(0, signal.SIGKILL)
    paused = FAULTS / f"paused-{point}"
    if _take(FAULTS / f"pause-{point}", paused):
        while paused.exists():  # noqa: ASYNC110  another process removes it
            await asyncio.sleep(0.01)


class Mailbox(RedisMailbox):
    async def begin(self, *args: Any, **more: Any) -> Any:
        begun = await super().begin(*args, **more)
        await at("begin.after")
        return begun

    async def finish(self, *args: Any, **more: Any) -> Any:
        await at("finish.before")
        finished = await super().finish(*args, **more)
        await at("finish.after")
        return finished


class Slots(RedisSlots):
    @asynccontextmanager
    async def hold(self, *args: Any, **more: Any) -> AsyncIterator[Any]:
        async with super().hold(*args, **more) as slot:
            await at("slot.granted")
            yield slot


class Llm(OpenAiLlm):
    async def complete(self, *args: Any, **more: Any) -> Any:
        calling = asyncio.ensure_future(super().complete(*args, **more))
        try:
            await asyncio.wait({calling}, timeout=0.1)  # the stand-in takes longer to answer
            await at("llm.sent")
            answer = await calling
        finally:
            calling.cancel()
        await at("llm.answered")
        return answer


class Transcriber(OpenAiTranscriber):
    async def transcribe(self, *args: Any, **more: Any) -> Any:
        calling = asyncio.ensure_future(super().transcribe(*args, **more))
        try:
            await asyncio.wait({calling}, timeout=0.1)
            await at("voice.sent")
            transcript = await calling
        finally:
            calling.cancel()
        await at("voice.answered")
        return transcript


class Line(LineMessagingApi):
    async def reply(self, *args: Any, **more: Any) -> Any:
        await at("line.before")
        sent = await super().reply(*args, **more)
        await at("line.accepted")
        return sent

    async def push(self, channel: Any, to: str, *args: Any, **more: Any) -> Any:
        """A group's is a notice to a desk."""
        called = "desk" if to.startswith("C") else "line"
        await at(f"{called}.before")
        sent = await super().push(channel, to, *args, **more)
        await at(f"{called}.accepted")
        return sent


class Tasks(CloudTasksQueue):
    async def create(self, task: Task, **more: Any) -> bool:
        is_effect = isinstance(task, EffectTask)
        if is_effect:
            await at("task.before")
        created = await super().create(task, **more)
        if is_effect:
            await at("task.after")
        return created


class Documents:
    """`documents-down`: reads fail; of the commits, every other one happens although it is said to fail."""

    def __init__(self, inner: DocumentStore) -> None:
        self._inner = inner
        self._refused = 0

    async def get_many(self, keys: Sequence[Key]) -> list[Document | None]:
        self._check()
        return await self._inner.get_many(keys)

    async def query(self, *args: Any, **more: Any) -> list[Document]:
        self._check()
        return await self._inner.query(*args, **more)

    async def commit(self, writes: Sequence[Write]) -> list[Version]:
        written = [getattr(write, "data", {}) for write in writes]
        step = next((s for data in written if (s := STEPS.get(str(data.get("state"))))), None)
        if any(data.get("audio") and "state" not in data for data in written):
            step = "heard"
        if any("told" in data and "state" not in data for data in written):
            step = "told"
        if step:
            await at(f"{step}.before")
        down = (FAULTS / "documents-down").exists()
        self._refused += down
        if down and self._refused % 2:
            self._check()
        versions = await self._inner.commit(writes)
        self._check(down=down)
        if step:
            await at(f"{step}.after")
        return versions

    async def close(self) -> None:
        await self._inner.close()

    def _check(self, *, down: bool = True) -> None:
        if down and (FAULTS / "documents-down").exists():
            raise DocumentsUnavailableError("switched off by a test")


class Clock(CorrectedClock):
    def __init__(self) -> None:
        super().__init__(int(os.environ.get("CLOCK_OFFSET_MS", "0")))


_documents = shared.documents
for name, part in {
    "RedisMailbox": Mailbox,
    "RedisSlots": Slots,
    "OpenAiLlm": Llm,
    "OpenAiTranscriber": Transcriber,
    "LineMessagingApi": Line,
    "CorrectedClock": Clock,
}.items():
    setattr(bootstrap, name, part)
setattr(shared, "CloudTasksQueue", Tasks)  # noqa: B010  as below
setattr(shared, "documents", lambda settings: Documents(_documents(settings)))  # noqa: B010  mypy refuses the plain way

PROCESS.check()


@functions_framework.aio.http
async def turn(request: Request) -> Response:
    if request.method != "POST":
        return Response(status_code=200)
    return Response(status_code=await execute(await request.body(), request.headers))
