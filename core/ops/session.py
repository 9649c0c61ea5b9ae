"""One operator command: settings from the environment, the stores open for as long as it runs."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from core.adapters.json_log import JsonFormatter
from core.adapters.redis_connection import Redis
from core.adapters.system_clock import SystemClock
from core.bootstrap import shared
from core.domain.settings import Settings
from core.ops.operator import operator
from core.ports import log
from core.ports.clock import Clock
from core.ports.documents import DocumentStore
from core.ports.secrets import SecretStore
from core.ports.tasks import TaskQueue
from core.usecases.operate.known_commits import KnownCommits

REDIS = ("REDIS_URL",)
TASKS = ("TASKS_QUEUE", "TURN_URL")
NO_REDIS = (
    "is REDIS_URL right, the instance READY, and this machine inside the network "
    '(terraform/README.md, "The operator\'s machine")?'
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Session:
    """`secrets` is for commands that run `with_secrets`, `redis` for those that need REDIS, `tasks` TASKS."""

    settings: Settings
    clock: Clock
    documents: DocumentStore
    secrets: SecretStore
    opened: AsyncExitStack

    def operator(self) -> str:
        """Who runs this command."""
        return operator(self.settings)

    def redis(self) -> Redis:
        redis = shared.redis(self.settings)
        self.opened.push_async_callback(redis.aclose)
        return redis

    def tasks(self) -> TaskQueue:
        tasks = shared.tasks(self.settings)
        self.opened.push_async_callback(tasks.close)
        return tasks


def run(
    command: Callable[[Session], Awaitable[T]], *, with_secrets: bool = False, needs: Collection[str] = ()
) -> T:
    """Run `command` and close what was opened. What fairlane raises on purpose goes on to core.ops.cli.

    `needs`: variables that must be set; Google's project must be, too, if a store that it uses is Google's.
    """

    async def opened() -> T:
        async with session(os.environ, with_secrets=with_secrets, needs=needs) as here:
            with events(here.settings):
                return await command(here)

    return asyncio.run(opened())


@asynccontextmanager
async def session(
    environment: Mapping[str, str], *, with_secrets: bool = False, needs: Collection[str] = ()
) -> AsyncIterator[Session]:
    """The stores of `environment`, open for the block; see `run`."""
    in_files = environment.get("DOCUMENT_STORE", "").startswith("sqlite:") and (
        environment.get("SECRET_STORE", "").startswith("file:") or not with_secrets
    )
    project = () if in_files else ("GOOGLE_CLOUD_PROJECT",)
    settings = Settings.read(environment, {*project, *needs})
    documents, secrets = KnownCommits(shared.documents(settings)), shared.secrets(settings)
    async with AsyncExitStack() as opened:
        opened.push_async_callback(documents.close)
        opened.push_async_callback(secrets.close)
        yield Session(settings, SystemClock(), documents, secrets, opened)


@contextmanager
def events(settings: Settings) -> Iterator[None]:
    """Events go to standard error, for whoever collects it; on a terminal the command's words are enough."""
    if sys.stderr.isatty():
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(settings.google_cloud_project))
    log.LOGGER.addHandler(handler)
    level = log.LOGGER.level
    log.LOGGER.setLevel(settings.log_level)
    try:
        yield
    finally:
        log.LOGGER.removeHandler(handler)
        log.LOGGER.setLevel(level)
