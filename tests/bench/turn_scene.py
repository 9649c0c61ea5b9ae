"""The deployed turn and a bare one beside it, as processes, each given the same kind of tasks over HTTP.

The far sides (Redis, documents, queue, LINE and the model) run here, so that a function's processor time is
its own alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import psutil

from core.adapters.file_secrets import FileSecrets
from core.adapters.http_client import HttpClient
from core.bootstrap import shared
from core.domain.clinic import Clinic, secret_name
from core.domain.event import EventKind, InboundEvent
from core.domain.settings import Settings, required_by
from core.domain.task import TurnTask
from core.local import deployment
from core.local.openai_api import Latency
from core.local.processes import ChildProcess, free_port
from core.local.simulator import Clinic as LineClinic
from core.local.simulator import LineSimulator
from core.local.stack import ROOT, LocalStack, StackOptions
from core.ports.documents import Create, Key
from core.usecases.clinics.documents import channel_document, org_document
from tests.bench.cold_emulator import warm

MODEL_S = 0.02
UNBOUNDED = "1000000"
"""Of a rate that is set, as deployed, and holds nothing up: a turn is measured, not its wait."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one turn, in ms."""

    cpu: float
    wall: float


class TurnFunction:
    """A server with its worker, and what tasks cost there."""

    def __init__(self, child: ChildProcess, url: str, http: HttpClient) -> None:
        self.child, self.url, self._http = child, url, http

    @property
    def processes(self) -> list[psutil.Process]:
        """The server and its workers."""
        server = psutil.Process(self.child.pid)
        return [server, *server.children(recursive=True)]

    def cpu_s(self) -> float:
        times = [process.cpu_times() for process in self.processes]
        return float(sum(t.user + t.system for t in times))

    async def get(self) -> bool:
        return (await self._http.request("GET", self.url)).status == 200

    async def post(self, body: bytes) -> None:
        headers = {"content-type": "application/json"}
        answered = await self._http.request("POST", self.url, headers=headers, body=body)
        if answered.status != 200:
            raise SystemExit(f"{self.child.name} answered {answered.status}\n{self.child.log_tail()}")

    async def cost(self, bodies: Sequence[bytes], *, at_once: int = 1) -> Cost:
        """Of each of these tasks, `at_once` of them on the way."""
        left, before, began = iter(bodies), self.cpu_s(), time.perf_counter()

        async def lane() -> None:
            for body in left:
                await self.post(body)

        await asyncio.gather(*(lane() for _ in range(at_once)))
        took, used = time.perf_counter() - began, self.cpu_s() - before
        return Cost(used / len(bodies) * 1000, took / len(bodies) * 1000)


class TurnScene:
    """`async with TurnScene(firestore=…) as scene`. `clinics` share the turns evenly."""

    def __init__(self, *, firestore: bool, clinics: int = 1, **environment: str) -> None:
        chosen = {"LLM_REQUESTS_PER_MINUTE": UNBOUNDED, "LLM_TOKENS_PER_MINUTE": "", **environment}
        self.stack = LocalStack(
            StackOptions(
                turns=0,
                webhooks=0,
                firestore=firestore,
                latency=Latency(MODEL_S, 0.0),
                environment={name: value for name, value in chosen.items() if value},
            )
        )
        self.sim = LineSimulator(self.stack.line, "")
        self.http = HttpClient()
        self.clinics = [self.sim.clinic(f"bench-{n}", name="Bench Clinic") for n in range(clinics)]
        self._made = 0
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> TurnScene:
        await self._exit.enter_async_context(self.stack)
        self._exit.push_async_callback(self.http.close)
        self._exit.push_async_callback(self.sim.close)
        if address := self.stack.settings_env.get("FIRESTORE_EMULATOR_HOST"):
            os.environ["FIRESTORE_EMULATOR_HOST"] = address
        try:
            await self._write_clinics()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def _write_clinics(self) -> None:
        settings = Settings.read(self.stack.settings_env, required_by("turn"))
        secrets, documents = (
            FileSecrets(settings.secret_store.removeprefix("file:")),
            shared.documents(settings),
        )
        await warm(documents)
        for line in self.clinics:
            channel = line.channel
            clinic = Clinic(
                line.org_id, line.name, channel.bot_user_id, channel.channel_id, persona="เปิดทุกวันค่ะ " * 60
            )
            secret = {"channel_id": channel.channel_id, "channel_secret": channel.channel_secret}
            await secrets.put(secret_name(line.org_id), secret)
            await documents.commit(
                [
                    Create(Key("orgs", line.org_id), org_document(clinic)),
                    Create(Key("line_channels", channel.bot_user_id), channel_document(line.org_id)),
                ]
            )
        await documents.close()

    def tasks(self, count: int, *, customer: str | None = None) -> list[bytes]:
        """Of new conversations, one message each; or all of one customer's."""
        return [self._task(customer) for _ in range(count)]

    def _task(self, customer: str | None) -> bytes:
        self._made += 1
        clinic = self.clinics[self._made % len(self.clinics)]
        return TurnTask(self._event(clinic, customer or str(self._made)), trace="bench").encode()

    def _event(self, clinic: LineClinic, customer: str) -> InboundEvent:
        text = f"ขูดหินปูนราคาเท่าไหร่คะ {self._made}"
        sent = self.sim.message(clinic, self.sim.user(clinic, customer), "text", text=text)
        return InboundEvent(
            org_id=clinic.org_id,
            event_id=sent.event_id,
            kind=EventKind.TEXT,
            chat_id=sent.chat_id,
            chat_type="user",
            user_id=sent.chat_id,
            timestamp_ms=sent.timestamp_ms,
            arrived_ms=time.time_ns() // 1_000_000,
            text=text,
            message_id=str(sent.event["message"]["id"]),
            reply_token=sent.reply_token,
        )

    async def turn(self, root: Path = ROOT) -> TurnFunction:
        """The deployed one, of this checkout or another."""
        return await self.function("turn", root / "functions/turn/main.py", {"PYTHONPATH": str(root)})

    async def bare(self) -> TurnFunction:
        """It makes the call that `turn` made last."""
        request = self.stack.run_dir / "request.json"
        request.write_text(json.dumps(self.stack.openai.calls[-1].body, ensure_ascii=False))
        more = {"BARE_REQUEST": str(request), "BARE_LINE_TOKEN": await self._line_token()}
        return await self.function("bare", ROOT / "tests/bench/bare_turn.py", more)

    async def _line_token(self) -> str:
        channel = self.clinics[0].channel
        form = {
            "grant_type": "client_credentials",
            "client_id": channel.channel_id,
            "client_secret": channel.channel_secret,
        }
        headers = {"content-type": "application/x-www-form-urlencoded"}
        url = f"{self.stack.line.url}/oauth2/v3/token"
        answered = await self.http.request("POST", url, headers=headers, body=urlencode(form).encode())
        return str(json.loads(answered.body)["access_token"])

    async def function(
        self, target: str, source: Path, environment: dict[str, str], *, until_ready: bool = True
    ) -> TurnFunction:
        """Started as Cloud Run starts it; once it answers."""
        port = free_port()
        child = ChildProcess(
            f"{target}-{port}",
            [
                str(Path(sys.executable).parent / "functions-framework"),
                f"--target={target}",
                f"--source={source}",
                "--host=127.0.0.1",
            ],
            guard=self.stack.guard,
            log=self.stack.run_dir / f"{target}-{port}.log",
            environment={**deployment.platform("turn", port), **self.stack.process_env(), **environment},
            directory=ROOT,
        )
        self._exit.push_async_callback(child.kill)
        child.spawn()
        function = TurnFunction(child, f"http://127.0.0.1:{port}", self.http)
        if until_ready:
            await child.ready(function.get, timeout_s=60, remedy=f"Read {child.log}")
        return function
