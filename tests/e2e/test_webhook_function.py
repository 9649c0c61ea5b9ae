"""The real webhook function under functions-framework, with Redis, the queue and the clinics over sockets."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.adapters.file_secrets import FileSecrets
from core.adapters.http_client import HttpClient, HttpResponse
from core.adapters.sqlite_documents import SqliteDocuments
from core.domain.clinic import Clinic
from core.domain.signature import sign
from core.domain.task import TurnTask
from core.local.cloud_tasks import CloudTasks
from core.local.processes import ChildProcess, Guard, free_port
from core.local.redis_server import RedisServer
from core.ports.documents import Key, Merge
from core.usecases.clinics import documents as collections

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BOT, SECRET = "U" + "b" * 32, "canary-channel-secret"
QUEUE = "projects/demo/locations/local/queues/turns"
TRACE = "105445aa7843bc8bf206b12000100000"
CLINIC = Clinic("bkk-smile", "Bangkok Smile Dental", BOT, "1650000001")


def event(event_id: str, text: str = "canary-words", **changes: Any) -> dict[str, Any]:
    return {
        "type": "message",
        "webhookEventId": event_id,
        "timestamp": 1_700_000_000_000,
        "mode": "active",
        "replyToken": f"canary-token-{event_id}",
        "deliveryContext": {"isRedelivery": False},
        "source": {"type": "user", "userId": f"U{event_id}"},
        "message": {"type": "text", "id": "1", "text": text},
        **changes,
    }


def body(*events: Any, destination: str = BOT) -> bytes:
    return json.dumps({"destination": destination, "events": list(events)}).encode()


class Scene:
    def __init__(self, folder: Path) -> None:
        self.folder, self.guard = folder, Guard()
        self.redis, self.tasks, self.http = RedisServer(), CloudTasks(port=free_port()), HttpClient()
        self.url = f"http://127.0.0.1:{free_port()}"
        self.function: ChildProcess | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "GOOGLE_CLOUD_PROJECT": "demo",
            "DOCUMENT_STORE": f"sqlite:{self.folder / 'documents.db'}",
            "SECRET_STORE": f"file:{self.folder / 'secrets.json'}",
            "REDIS_URL": self.redis.url,
            "TASKS_QUEUE": QUEUE,
            "TURN_URL": "http://127.0.0.1:1/",
            "CLOUD_TASKS_EMULATOR_HOST": self.tasks.address,
        }

    async def open_queue(self) -> None:
        await self.tasks.start()
        self.tasks.create_queue(QUEUE)
        self.tasks.pause()

    async def know_the_clinic(self) -> None:
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

    async def start(self) -> None:
        await asyncio.gather(self.redis.start(), self.open_queue(), self.know_the_clinic())
        source, port = ROOT / "functions/webhook/main.py", self.url.rpartition(":")[2]
        command = [str(BIN / "functions-framework"), "--target=webhook", f"--source={source}"]
        self.function = ChildProcess(
            "webhook",
            [*command, "--host=127.0.0.1", f"--port={port}"],
            guard=self.guard,
            log=self.folder / "webhook.log",
            environment=self.environment,
            directory=ROOT,
        )
        self.function.spawn()
        await self.function.ready(self.is_up, timeout_s=30, remedy="See its log")

    async def is_up(self) -> bool:
        return (await self.http.request("GET", self.url)).status == 200

    async def post(self, raw: bytes, signature: str | None = "good") -> tuple[int, float]:
        """The status, and how many seconds it took."""
        headers = {"x-cloud-trace-context": f"{TRACE}/1;o=1", "content-type": "application/json"}
        if signature:
            headers["x-line-signature"] = sign(SECRET, raw) if signature == "good" else signature
        started = time.perf_counter()
        answer: HttpResponse = await self.http.request(
            "POST", f"{self.url}/any/path", headers=headers, body=raw
        )
        return answer.status, time.perf_counter() - started

    async def hang_up(self) -> None:
        """Begin a post and go away."""
        _, writer = await asyncio.open_connection("127.0.0.1", int(self.url.rpartition(":")[2]))
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()
        await asyncio.sleep(0.1)

    def enqueued(self) -> dict[str, TurnTask]:
        queued = (TurnTask.decode(task.body) for task in self.tasks.queue().store.tasks.values())
        return {task.event.event_id: task for task in queued}

    def log(self) -> str:
        return (self.folder / "webhook.log").read_text()

    async def stop(self) -> None:
        if self.function:
            await self.function.terminate(5)
        await self.http.close()
        await self.tasks.stop()
        await self.redis.stop()
        self.guard.close()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    try:
        await scene.start()
        yield scene
    finally:
        await scene.stop()


async def test_the_webhook_answers_as_line_expects_and_logs_no_secret(scene: Scene) -> None:
    raw = body(event("e1"), event("e2", mode="standby"), {"type": "teleport"}, event("e3"))
    assert (await scene.post(raw))[0] == 200
    assert (await scene.post(raw))[0] == 200
    assert sorted(scene.enqueued()) == ["e1", "e3"]
    assert scene.enqueued()["e1"].trace == TRACE

    assert (await scene.post(body()))[0] == 200
    assert (await scene.post(body(event("x1")), None))[0] == 401
    assert (await scene.post(body(event("x1")), "bm90IHRoZSBzaWduYXR1cmU="))[0] == 401
    assert (await scene.post(body(event("x1"), destination="U" + "0" * 32)))[0] == 404
    assert (await scene.post(b"nonsense"))[0] == 400
    assert (await scene.post(b'{"hello": "world"}'))[0] == 400
    assert (await scene.post(b" " * (1024 * 1024 + 1)))[0] == 413
    assert (await scene.post(body(event("long", "ก" * 100_000))))[0] == 200

    # Seven from one sender: five wait a second for another one, the excess together for its rate.
    one = [event(f"n{i}", source={"type": "user", "userId": "U1"}) for i in range(7)]
    assert (await scene.post(body(*one)))[0] == 200
    assert sorted(scene.enqueued()) == sorted(["e1", "e3", "long", *(f"n{i}" for i in range(7))])
    due = sorted(task.schedule_s - task.created_s for task in scene.tasks.queue().store.tasks.values())
    assert due[-3:] == [pytest.approx(s, abs=0.7) for s in (1, 2, 2)]

    chance = random.Random(1)
    for n in range(300):
        good = body(event(f"m{n}"))
        at = chance.randrange(len(good))
        mutated = good[:at] + chance.randbytes(chance.randrange(3)) + good[at + chance.randrange(3) :]
        assert (await scene.post(mutated))[0] in {200, 400, 404}
        assert (await scene.post(mutated, sign("another", mutated)))[0] in {400, 401, 404}
    await scene.hang_up()
    lines = [json.loads(line) for line in scene.log().splitlines()]
    assert {line["severity"] for line in lines} <= {"INFO", "WARNING"}
    acked = [line for line in lines if line["message"] == "webhook.acked"]
    assert acked[0]["logging.googleapis.com/trace"] == f"projects/demo/traces/{TRACE}"
    assert (acked[0]["events"], acked[0]["enqueued"], acked[1]["duplicates"]) == (4, 2, 2)
    assert "canary" not in scene.log()
    assert sign(SECRET, raw) not in scene.log()


async def test_whatever_fails_the_answer_comes_in_time_and_is_never_a_false_200(scene: Scene) -> None:
    assert (await scene.post(body(event("warm"))))[0] == 200

    scene.redis.pause()
    hanging = [await scene.post(body(event(f"h{i}"))) for i in range(20)]
    scene.redis.resume()
    await scene.redis.kill()
    stopped = [await scene.post(body(event(f"s{i}"))) for i in range(20)]
    for status, seconds in hanging + stopped:
        assert status == 200
        assert seconds < 1.9
    assert sum(seconds for _, seconds in hanging + stopped) < 4
    assert len(scene.enqueued()) == 41
    assert "shaper.failed_open" in scene.log()

    await scene.tasks.stop()
    for i in range(3):
        status, seconds = await scene.post(body(event(f"q{i}")))
        assert status >= 500
        assert seconds < 1.9
    assert "webhook.enqueue_failed" in scene.log()

    waiting = asyncio.create_task(scene.post(body(event("q0"))))
    await asyncio.sleep(0.5)
    await scene.open_queue()
    status, seconds = await waiting
    assert status == 200
    assert seconds < 1.9
    assert list(scene.enqueued()) == ["q0"]


def test_without_its_settings_the_process_ends_and_names_them_all() -> None:
    ended = subprocess.run(
        [BIN / "functions-framework", "--target=webhook", f"--source={ROOT / 'functions/webhook/main.py'}"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "LOG_LEVEL": "LOUD",
            "PORT": str(free_port()),
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode != 0
    for name in ("GOOGLE_CLOUD_PROJECT", "REDIS_URL", "TASKS_QUEUE", "TURN_URL", "LOG_LEVEL"):
        assert name in ended.stderr
    assert "OPENAI_API_KEY" not in ended.stderr
