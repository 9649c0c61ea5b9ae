"""A console that runs on a store of its own, and what it writes down."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from httpx2 import AsyncClient, Response

from core.domain.clinic import Clinic
from core.ops.console.application import build
from core.ops.console.audit import audited
from core.ops.console.server import ConsoleServer
from core.ops.console.workplace import Workplace
from core.ops.session import session
from core.ports.documents import Create, Key
from core.usecases.clinics.documents import ORGS, org_document


@dataclass
class Served:
    """A console that runs. `log`: what it wrote down."""

    server: ConsoleServer
    workplace: Workplace
    client: AsyncClient
    log: io.StringIO
    cookie: str = ""

    @property
    def base(self) -> str:
        parts = urlsplit(self.server.url)
        return f"{parts.scheme}://{parts.netloc}"

    async def get(self, path: str, **headers: str) -> Response:
        return await self.ask("GET", path, headers)

    async def post(self, path: str, body: str = "", **headers: str) -> Response:
        own = {"origin": self.base, "content-type": "application/x-www-form-urlencoded"}
        return await self.ask("POST", path, {**own, **headers}, body)

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: str = "") -> Response:
        self.client.cookies.clear()
        cookie = {"cookie": self.cookie} if self.cookie else {}
        sent = {name: value for name, value in {**cookie, **headers}.items() if value}
        return await self.client.request(method, self.base + path, headers=sent, content=body)

    async def open(self) -> None:
        answer = await self.client.request("GET", self.server.url)
        assert answer.status_code == 303
        self.cookie = answer.headers["set-cookie"].partition(";")[0]

    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@asynccontextmanager
async def served(folder: Path, **settings: str) -> AsyncIterator[Served]:
    environment = {"DOCUMENT_STORE": f"sqlite:{folder / 'documents.db'}", "GOOGLE_CLOUD_PROJECT": "p"}
    environment |= settings
    log, client, server = io.StringIO(), AsyncClient(trust_env=False), ConsoleServer()
    async with session(environment) as here:
        with audited(here.settings, log):
            clinic = Clinic("one", "คลินิกหนึ่ง", "U1", "1", persona="สุภาพ")
            await here.documents.commit([Create(Key(ORGS, "one"), org_document(clinic))])
            workplace = Workplace(here, environment)
            serving = asyncio.ensure_future(server.serve(build(workplace, server.access)))
            try:
                yield Served(server, workplace, client, log)
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                await client.aclose()
