"""Google's Firestore emulator, for those who have gcloud."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from core.adapters.http_client import HttpClient
from core.local.processes import ChildProcess, Guard, PartFailedError, free_port

_REMEDY = (
    "Install gcloud with its Firestore emulator (`gcloud components install cloud-firestore-emulator`, "
    "needs Java), or use SQLite documents: leave --firestore out"
)

_JSON = {"content-type": "application/json"}


class FirestoreEmulator:
    """Empty at every start; nothing is kept. `address` is what FIRESTORE_EMULATOR_HOST wants."""

    def __init__(self, *, guard: Guard, folder: Path) -> None:
        self._guard = guard
        self._folder = folder
        self._port = free_port()
        self._process: ChildProcess | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def start(self) -> None:
        gcloud = shutil.which("gcloud")
        if gcloud is None:
            raise PartFailedError("firestore", "gcloud is not on PATH", _REMEDY)
        command = [gcloud, "emulators", "firestore", "start", f"--host-port={self.address}", "--quiet"]
        log = self._folder / "firestore.log"
        self._process = ChildProcess("firestore", command, guard=self._guard, log=log)
        self._process.spawn()
        client = HttpClient()

        async def answers() -> bool:
            return (await client.request("GET", f"http://{self.address}/")).status == 200

        try:
            await self._process.ready(answers, timeout_s=60, remedy=_REMEDY)
            await self._warm(client)
        finally:
            await client.close()

    async def _warm(self, client: HttpClient) -> None:
        """The first write of a cold JVM takes seconds: longer than a turn gives it."""
        url = f"http://{self.address}/v1/projects/warm/databases/(default)/documents/warm"
        async with asyncio.timeout(30):
            answer = await client.request("POST", url, headers=_JSON, body=b"{}")
        if answer.status != 200:
            raise PartFailedError("firestore", f"its first write ended in {answer.status}", "See its log")

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.kill()
