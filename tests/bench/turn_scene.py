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
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import psutil

from core.adapters.http_client import HttpClient
from core.bootstrap import shared
from core.domain.clinic import Clinic, secret_name
from core.domain.event import EventKind, InboundEvent
from core.domain.settings import Role, Settings, required_by
from core.domain.task import TurnTask
from core.local import deployment
from core.local.line_webhook import sign
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
        documents, secrets, writes = shared.documents(settings), {}, []
        for line in self.clinics:
            bot, channel_id, secret = (
                line.channel.bot_user_id,
                line.channel.channel_id,
                line.channel.channel_secret,
            )
            clinic = Clinic(line.org_id, line.name, bot, channel_id, persona="เปิดทุกวันค่ะ " * 60)
            secrets[secret_name(line.org_id)] = {"channel_id": channel_id, "channel_secret": secret}
            writes.append(Create(Key("orgs", line.org_id), org_document(clinic)))
            writes.append(Create(Key("line_channels", bot), channel_document(line.org_id)))
        _write_secrets(Path(settings.secret_store.removeprefix("file:")), secrets)
        await warm(documents)
        for start in range(0, len(writes), 100):
            await documents.commit(writes[start : start + 100])
        await documents.close()

    def tasks(self, count: int, *, customer: str | None = None) -> list[bytes]:
        """Of new conversations, one message each; or all of one customer's."""
        return [self._task(n % len(self.clinics), customer) for n in range(count)]

    def tasks_of(self, clinics: Iterable[int]) -> list[bytes]:
        """A new conversation's for each of these clinics, by number."""
        return [self._task(n, None) for n in clinics]

    def _task(self, clinic: int, customer: str | None) -> bytes:
        self._made += 1
        event = self._event(self.clinics[clinic], customer or str(self._made))
        return TurnTask(event, trace="bench").encode()

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

    async def turn(self, root: Path = ROOT, *, until_ready: bool = True) -> TurnFunction:
        """The deployed one, of this checkout or another."""
        environment = {"PYTHONPATH": str(root)}
        return await self.function(
            "turn", root / "functions/turn/main.py", environment, until_ready=until_ready
        )

    async def bare(self, *, until_ready: bool = True) -> TurnFunction:
        """It makes the call that `turn` made last."""
        request = self.stack.run_dir / "request.json"
        request.write_text(json.dumps(self.stack.openai.calls[-1].body, ensure_ascii=False))
        more = {"BARE_REQUEST": str(request), "BARE_LINE_TOKEN": await self._line_token()}
        source = ROOT / "tests/bench/bare_turn.py"
        return await self.function("bare", source, more, until_ready=until_ready)

    def webhook_request(self) -> tuple[dict[str, str], bytes]:
        """Headers and body of a webhook with one message, signed."""
        clinic = self.clinics[0]
        self._made += 1
        sent = self.sim.message(clinic, self.sim.user(clinic, str(self._made)), "text", text="สวัสดีค่ะ")
        webhook = {"destination": clinic.channel.bot_user_id, "events": [sent.event]}
        body = json.dumps(webhook, ensure_ascii=False).encode()
        signature = sign(clinic.channel.channel_secret, body)
        return {"content-type": "application/json", "x-line-signature": signature}, body

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
        """Started as Cloud Run starts it; as a rule, once it answers."""
        role: Role = "webhook" if target == "webhook" else "turn"
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
            environment={**deployment.platform(role, port), **self.stack.process_env(), **environment},
            directory=ROOT,
        )
        self._exit.push_async_callback(child.kill)
        child.spawn()
        function = TurnFunction(child, f"http://127.0.0.1:{port}", self.http)
        if until_ready:
            await child.ready(function.get, timeout_s=60, remedy=f"Read {child.log}")
        return function


def _write_secrets(path: Path, secrets: Mapping[str, Mapping[str, str]]) -> None:
    """All at once: the store's `put` writes the whole file for each."""
    path.write_text(json.dumps(secrets))
    path.chmod(0o600)
