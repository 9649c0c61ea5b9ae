"""A whole deployment on one machine: Redis, documents, queue, LINE, OpenAI, and the real functions.

Everything listens on free loopback ports and ends with the block, on Ctrl-C, and when this process is killed.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import resource
import shlex
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import core
from core.adapters.http_client import HttpClient
from core.domain.settings import VARIABLES, Role
from core.local import deployment
from core.local.cloud_tasks import CloudTasks
from core.local.firestore_emulator import FirestoreEmulator
from core.local.line_api import LineApi
from core.local.openai_api import OpenAiApi
from core.local.processes import ChildProcess, Guard, PartFailedError, free_port
from core.local.redis_server import RedisServer
from core.local.stack_options import Function, StackOptions

__all__ = ["PROJECT", "QUEUE", "ROOT", "Function", "LocalStack", "StackOptions"]

ROOT = Path(core.__file__).parent.parent
PROJECT = "fairlane-local"
QUEUE = f"projects/{PROJECT}/locations/asia-southeast1/queues/turns"
_OPEN_FILES = 65_536
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_FRAMEWORK = ("FUNCTION_TARGET", "FUNCTION_SOURCE", "FUNCTION_SIGNATURE_TYPE", "HOST", "WORKERS")


class LocalStack:
    """`async with LocalStack(options) as stack`. Raises PartFailedError, which names the part and the remedy.

    `webhooks` and `turns` are the functions' processes; `turn_urls` are in the same order. The queue spreads
    its dispatches over all turns.
    """

    def __init__(self, options: StackOptions | None = None) -> None:
        self.options = options or StackOptions()
        self.tasks = CloudTasks()
        self.line = LineApi(latency_s=self.options.line_latency_s, seed=self.options.seed)
        self.openai = OpenAiApi(latency=self.options.latency, seed=self.options.seed)
        self.backup = OpenAiApi(latency=self.options.latency, seed=self.options.seed + 1)
        self.settings_env: dict[str, str] = {}
        self.documents_url = ""
        self.webhooks: list[ChildProcess] = []
        self.turns: list[ChildProcess] = []
        self.webhook_urls: list[str] = []
        self.turn_urls: list[str] = []
        self._queue = self.options.queue or deployment.queue(self.options.environment)
        self._exit = AsyncExitStack()

    @property
    def webhook_url(self) -> str:
        return self.webhook_urls[0]

    async def __aenter__(self) -> LocalStack:
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def _start(self) -> None:
        _raise_file_limit()
        self.guard = Guard()
        self._exit.callback(self.guard.close)
        self.run_dir = self.options.run_dir or self.guard.temporary_folder("fairlane-")
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.redis = RedisServer(snapshots=self.options.redis_snapshots, guard=self.guard)
        self._client = HttpClient()
        self._exit.push_async_callback(self._client.close)
        for stop in (self.redis.stop, self.tasks.stop, self.line.stop, self.openai.stop, self.backup.stop):
            self._exit.push_async_callback(stop)
        await _together(
            self.redis.start(),
            self.tasks.start(),
            self.line.start(),
            self.openai.start(),
            self.backup.start(),
            self._start_documents(),
        )
        self.turn_urls = [f"http://127.0.0.1:{free_port()}" for _ in range(self.options.turns)]
        self.webhook_urls = [f"http://127.0.0.1:{free_port()}" for _ in range(self.options.webhooks)]
        self.settings_env = self._settings()
        self.tasks.create_queue(QUEUE, self._queue)
        self.tasks.targets = self.turn_urls
        self._write_environment()
        for i, url in enumerate(self.webhook_urls):
            self.webhooks.append(self._function("webhook", i, self.options.webhook_function, url))
        for i, url in enumerate(self.turn_urls):
            self.turns.append(self._function("turn", i, self.options.turn_function, url))
        functions = [*self.webhooks, *self.turns]
        self._exit.push_async_callback(self._kill_functions)
        for function in functions:
            function.spawn()
        urls = [*self.webhook_urls, *self.turn_urls]
        await _together(*(self._ready(f, u) for f, u in zip(functions, urls, strict=True)))

    async def _start_documents(self) -> None:
        if not self.options.firestore:
            self.documents_url = f"sqlite:{self.run_dir / 'documents.db'}"
            return
        emulator = FirestoreEmulator(guard=self.guard, folder=self.run_dir)
        self._exit.push_async_callback(emulator.stop)
        await emulator.start()
        self.documents_url = "firestore"
        self.settings_env["FIRESTORE_EMULATOR_HOST"] = emulator.address

    def _settings(self) -> dict[str, str]:
        """The functions' environment variables."""
        settings = {
            **self.settings_env,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "DOCUMENT_STORE": self.documents_url,
            "REDIS_URL": self.redis.url,
            "SECRET_STORE": f"file:{self.run_dir / 'secrets.json'}",
            "LINE_API_BASE_URL": self.line.url,
            "TASKS_QUEUE": QUEUE,
            "TASKS_DISPATCHES_PER_S": str(math.ceil(self._queue.max_dispatches_per_s)),
            "TURN_URL": self.turn_urls[0] if self.turn_urls else "http://127.0.0.1:9",
            "CLOUD_TASKS_EMULATOR_HOST": self.tasks.address,
            "OPENAI_API_KEY": "sk-local",
            "OPENAI_BASE_URL": self.openai.url,
        }
        if self.options.backup:
            backup = {"name": "backup", "base_url": self.backup.url, "api_key_env": "BACKUP_API_KEY"}
            settings["LLM_PROVIDERS"] = json.dumps([{"name": "openai"}, backup])
            settings["BACKUP_API_KEY"] = "sk-local-backup"
        if self.options.openai_real:
            key = os.environ.get("OPENAI_API_KEY", "")
            if not key:
                raise PartFailedError("openai", "OPENAI_API_KEY is not set", "Set it, or leave --openai out")
            settings["OPENAI_API_KEY"] = key
            settings.pop("OPENAI_BASE_URL")
            if base := os.environ.get("OPENAI_BASE_URL"):
                settings["OPENAI_BASE_URL"] = base
        return {**settings, **deployment.settings(self.options.environment)}

    def process_env(self) -> dict[str, str]:
        """A whole environment for a process that works with this stack: ours without fairlane's variables
        and without proxies (all but the real OpenAI is on loopback), and the stack's settings."""
        ours = {v.name for v in VARIABLES} | {"FIRESTORE_EMULATOR_HOST", "OPENAI_BASE_URL", *_FRAMEWORK}
        ours |= deployment.platform("turn", 0).keys()
        if not self.options.openai_real:
            ours |= {*_PROXIES, *(p.upper() for p in _PROXIES)}
        kept = {name: value for name, value in os.environ.items() if name not in ours}
        loopback = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
        python = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        return {**kept, **loopback, **python, **self.settings_env}

    def _write_environment(self) -> None:
        """`set -a; . env.sh` makes a shell work with this stack."""
        path = self.run_dir / "env.sh"
        path.touch(mode=0o600)
        path.write_text("".join(f"{k}={shlex.quote(v)}\n" for k, v in self.settings_env.items()))

    def _function(self, role: Role, number: int, function: Function, url: str) -> ChildProcess:
        """Started as Cloud Run starts it: the server takes its port and its limits from the environment."""
        name = f"{role}-{number}"
        binary = Path(sys.executable).parent / "functions-framework"
        if not binary.exists():
            raise PartFailedError(name, f"{binary} is missing", "pip install -e '.[local]'")
        command = [
            str(binary),
            f"--target={function.target}",
            f"--source={ROOT / function.source}",
            "--host=127.0.0.1",
        ]
        return ChildProcess(
            name,
            command,
            guard=self.guard,
            log=self.run_dir / f"{name}.log",
            environment=deployment.platform(role, int(url.rpartition(":")[2])) | self.process_env(),
            directory=ROOT,
        )

    async def _kill_functions(self) -> None:
        await asyncio.gather(*(function.kill() for function in (*self.webhooks, *self.turns)))

    async def _ready(self, function: ChildProcess, url: str) -> None:
        async def answers() -> bool:
            return (await self._client.request("GET", url)).status == 200

        remedy = f"Read {function.log}"
        await function.ready(answers, timeout_s=self.options.ready_timeout_s, remedy=remedy)

    async def kill_turn(self, i: int) -> None:
        """SIGKILL to master and worker at once."""
        await self.turns[i].kill()

    async def terminate_turn(self, i: int, *, grace_s: float = 10.0) -> int | None:
        """SIGTERM, then SIGKILL after `grace_s`, as Cloud Run does. Exit status, None if killed."""
        return await self.turns[i].terminate(grace_s)

    async def restart_turn(self, i: int, *, environment: Mapping[str, str] | None = None) -> None:
        """End it if it runs, start it on the same port, wait until it answers.

        `environment` goes over what this turn had.
        """
        turn = self.turns[i]
        await turn.kill()
        turn.environment = {**(turn.environment or {}), **(environment or {})}
        turn.spawn()
        await self._ready(turn, self.turn_urls[i])

    def pause_turn(self, i: int) -> None:
        """SIGSTOP: its port accepts, nothing answers, its leases run out."""
        self.turns[i].pause()

    def resume_turn(self, i: int) -> None:
        self.turns[i].resume()

    @property
    def logs(self) -> Sequence[Path]:
        return sorted(self.run_dir.glob("*.log"))


async def _together(*parts: Coroutine[Any, Any, None]) -> None:
    """All at once; when one fails the others are cancelled and its error, alone, is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except BaseExceptionGroup as exc:
        raise exc.exceptions[0] from None


def _raise_file_limit() -> None:
    """A backlog of dispatches and customers holds many sockets; shells often allow 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
