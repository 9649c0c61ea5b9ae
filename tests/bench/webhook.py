"""Webhook requests a second ÷ those of a bare function that only creates the task.

Both are real functions-framework processes with the real Cloud Tasks client against one local server, loaded
in turns with the same kind of requests; the ratio of each pair of turns counts, since machines are noisy.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
from google.cloud.tasks_v2 import CreateTaskRequest, Task

from core.adapters.file_secrets import FileSecrets
from core.adapters.http_client import HttpClient
from core.adapters.sqlite_documents import SqliteDocuments
from core.domain.clinic import Clinic, Limits
from core.domain.signature import sign
from core.local import deployment
from core.local.processes import ChildProcess, Guard, free_port
from core.local.redis_server import RedisServer
from core.ports.documents import Key, Merge
from core.usecases.clinics import documents as collections
from tests.bench import load
from tests.bench.table import Row

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BOT, SECRET = "U" + "b" * 32, "bench-channel-secret"
ROUNDS, SECONDS, CONNECTIONS = 12, 0.8, 16
TARGET = 0.7
CLINIC = Clinic("bench", "Bench", BOT, "1650000001", limits=Limits(messages_per_minute=60_000))


async def serve_tasks(port: int) -> None:
    """The queue's side: it answers CreateTask and keeps nothing, so that it is not what is measured."""

    async def create(request: Any, context: Any) -> Any:
        return Task.pb()(name=request.task.name)

    handler = grpc.unary_unary_rpc_method_handler(
        create,
        request_deserializer=CreateTaskRequest.pb().FromString,
        response_serializer=Task.pb().SerializeToString,
    )
    service = grpc.method_handlers_generic_handler(
        "google.cloud.tasks.v2.CloudTasks", {"CreateTask": handler}
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def requests(tag: str, count: int) -> Iterator[bytes]:
    """Signed webhooks of one text message each, from 500 customers."""
    made = []
    for n in range(count):
        event = {
            "type": "message",
            "webhookEventId": f"{tag}-{n}",
            "timestamp": round(time.time() * 1000),
            "mode": "active",
            "replyToken": "nHuyWiB7yP5Zw52FIkcQobQuGDXCTA",
            "deliveryContext": {"isRedelivery": False},
            "source": {"type": "user", "userId": f"U{n % 500:032d}"},
            "message": {
                "type": "text",
                "id": f"{n}",
                "quoteToken": "q3Plxr4AgKd",
                "text": "สวัสดีค่ะ อยากทราบราคาฟอกสีฟันค่ะ มีโปรโมชั่นไหมคะ",
            },
        }
        body = json.dumps({"destination": BOT, "events": [event]}, ensure_ascii=False).encode()
        head = (
            "POST /callback HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"x-line-signature: {sign(SECRET, body)}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return iter(made)


class Scene:
    """Redis, the queue's side, and the two functions as processes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.guard, self.redis = folder, Guard(), RedisServer()
        self.tasks_port = free_port()
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            **deployment.platform("webhook", 0),
            "GOOGLE_CLOUD_PROJECT": "bench",
            "DOCUMENT_STORE": f"sqlite:{folder / 'documents.db'}",
            "SECRET_STORE": f"file:{folder / 'secrets.json'}",
            "REDIS_URL": self.redis.url,
            "TASKS_QUEUE": "projects/bench/locations/local/queues/turns",
            "TURN_URL": "http://127.0.0.1:1/",
            "CLOUD_TASKS_EMULATOR_HOST": f"127.0.0.1:{self.tasks_port}",
        }
        self.children: list[ChildProcess] = []

    def child(self, name: str, command: list[str]) -> ChildProcess:
        child = ChildProcess(
            name,
            command,
            guard=self.guard,
            log=self.folder / f"{name}.log",
            environment=self.environment,
            directory=ROOT,
        )
        self.children.append(child)
        child.spawn()
        return child

    async def start(self) -> None:
        await self.redis.start()
        self.child("tasks", [sys.executable, "-m", "tests.bench.webhook", str(self.tasks_port)])
        documents = SqliteDocuments(str(self.folder / "documents.db"))
        await documents.commit(
            [
                Merge(Key(collections.ORGS, CLINIC.org_id), collections.org_document(CLINIC)),
                Merge(Key(collections.CHANNELS, BOT), collections.channel_document(CLINIC.org_id)),
            ]
        )
        await documents.close()
        secrets = FileSecrets(str(self.folder / "secrets.json"))
        await secrets.put(CLINIC.secret_name, {"channel_id": CLINIC.channel_id, "channel_secret": SECRET})

    async def function(self, target: str, source: str) -> Function:
        """Once it answers."""
        port, http = free_port(), HttpClient()
        command = [str(BIN / "functions-framework"), f"--target={target}", f"--source={ROOT / source}"]
        child = self.child(target, [*command, "--host=127.0.0.1", f"--port={port}"])

        async def answers() -> bool:
            return (await http.request("GET", f"http://127.0.0.1:{port}")).status < 500

        try:
            await child.ready(answers, timeout_s=40, remedy="See its log")
        finally:
            await http.close()
        return Function(child, port)

    async def stop(self) -> None:
        for child in reversed(self.children):
            await child.terminate(3)
        await self.redis.stop()
        self.guard.close()


@dataclass(frozen=True, slots=True)
class Rate:
    per_s: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Function:
    child: ChildProcess
    port: int

    def cpu_s(self) -> float:
        """Of the server and its workers, so far."""
        server = psutil.Process(self.child.pid)
        times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
        return sum(t.user + t.system for t in times)

    async def rate(self, tag: str, *, seconds: float = SECONDS) -> Rate:
        before, made = self.cpu_s(), requests(tag, int(4000 * seconds))
        statuses = await load.run(self.port, made, connections=CONNECTIONS, seconds=seconds)
        if set(statuses) != {200}:
            raise SystemExit(f"{tag}: answers other than 200: {statuses}\n{self.child.log_tail()}")
        return Rate(statuses[200] / seconds, (self.cpu_s() - before) / statuses[200] * 1e6)


async def measure() -> list[tuple[Rate, Rate]]:
    """The webhook's rate and the bare function's, pair by pair."""
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder))
        try:
            await scene.start()
            webhook = await scene.function("webhook", "functions/webhook/main.py")
            bare = await scene.function("bare", "tests/bench/bare_function.py")
            await webhook.rate("warm up", seconds=0.7)
            await bare.rate("warm up", seconds=0.7)
            return [(await webhook.rate(f"w{n}"), await bare.rate(f"b{n}")) for n in range(ROUNDS)]
        finally:
            await scene.stop()


async def rows() -> list[Row]:
    pairs = await measure()
    webhook, bare = zip(*pairs, strict=True)
    (per_s, cpu_us), (bare_per_s, bare_cpu_us) = (
        [statistics.median(values) for values in zip(*map(astuple, rates), strict=True)]
        for rates in (webhook, bare)
    )
    ratio = statistics.median(ours.per_s / theirs.per_s for ours, theirs in pairs)
    # Where other processes take the cores, requests a second say little; processor time still does.
    by_cpu = statistics.median(theirs.cpu_us / ours.cpu_us for ours, theirs in pairs)
    return [
        Row(
            "webhook requests/s ÷ a bare function that only creates the task",
            f"{ratio:.2f} ({per_s:,.0f}/s)",
            f"≥ {TARGET:g}",
            f"bare {bare_per_s:,.0f}/s",
            ratio >= TARGET,
        ),
        Row(
            "the same by processor time a request",
            f"{by_cpu:.2f} ({cpu_us:.0f} µs)",
            "",
            f"bare {bare_cpu_us:.0f} µs",
        ),
    ]


if __name__ == "__main__":
    asyncio.run(serve_tasks(int(sys.argv[1])))
