"""An instance without requests, as Cloud Run leaves it: no CPU for the server and its worker."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Iterable

from core.local.processes import ChildProcess


class Caller:
    """Cloud Run's side of one instance: it keeps a connection to it, and makes another when it needs one."""

    def __init__(self, process: ChildProcess, url: str) -> None:
        self.process = process
        self._port = int(url.rpartition(":")[2])
        self._kept: http.client.HTTPConnection | None = None

    async def before(self) -> None:
        """A request is answered, and its connection is kept."""
        self._kept = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        assert await asyncio.to_thread(_answer, self._kept) == 200

    async def wake(self) -> tuple[int | str, int | str]:
        """The CPU comes with a request on the kept connection; another comes at once. What was answered."""
        assert self._kept is not None
        await asyncio.to_thread(self._kept.request, "GET", "/")
        self.process.resume()
        fresh = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        answers = await asyncio.gather(
            asyncio.to_thread(_answer, self._kept, sent=True), asyncio.to_thread(_answer, fresh)
        )
        self._kept.close()
        fresh.close()
        return answers


async def idle(callers: Iterable[Caller], seconds: float) -> list[int | str]:
    """Each instance answers, is without CPU for so long, and is woken up by requests. Their answers."""
    callers = list(callers)
    await asyncio.gather(*(caller.before() for caller in callers))
    await asyncio.sleep(0.3)  # the worker has given its last sign of life
    for caller in callers:
        caller.process.pause()
    await asyncio.sleep(seconds)
    woken = await asyncio.gather(*(caller.wake() for caller in callers))
    return [answer for answers in woken for answer in answers]


def _answer(connection: http.client.HTTPConnection, *, sent: bool = False) -> int | str:
    """The status, or what came instead."""
    try:
        if not sent:
            connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as exc:
        return repr(exc)
    return answer.status
