"""What a function's process does once: read its settings, set up logging, build its clients, drain.

This holds the one piece of global state there is: the process's clients, made at the first request, since
the module is imported before the server forks and clients belong to an event loop.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Generic, TypeVar

from core.adapters import json_log
from core.domain.settings import Role, Settings, SettingsError, required_by
from core.edge.server import survive_idleness
from core.ports import log

App = TypeVar("App")


class Process(Generic[App]):
    """`build` makes the function's use case from the settings; `drain` ends what runs, on SIGTERM;
    `before_port` is what a function that serves waits for before its port opens."""

    def __init__(
        self,
        role: Role,
        build: Callable[[Settings], App],
        drain: Callable[[App], Awaitable[None]] | None = None,
        before_port: Callable[[Settings], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._role = role
        self._build = build
        self._drain = drain
        self._before_port = before_port
        self._app: App | None = None
        self._draining: asyncio.Task[None] | None = None

    def check(self) -> None:
        """If it is to serve: end the process now, naming every setting that is missing or wrong, or prepare
        it to serve.

        Called when the function's module is loaded: the server loads it before it opens its port. Whoever
        imports the module for another reason needs no settings.
        """
        if "functions_framework._cli" not in sys.modules:
            return
        try:
            settings = self._settings()
        except SettingsError as exc:
            sys.exit(f"fairlane {self._role} does not start: {exc}")
        survive_idleness()
        if self._before_port is not None:
            json_log.install(settings.log_level, settings.google_cloud_project)
            asyncio.run(self._before_port(settings))

    def app(self) -> App:
        """The use case, built on first use in the process and loop that serve it."""
        if self._app is None:
            settings = self._settings()
            json_log.install(settings.log_level, settings.google_cloud_project)
            self._app = self._build(settings)
            if self._drain is not None:
                self._on_sigterm(self._app, self._drain)
            _collect_less_often()
            log.info("process.ready", role=self._role)
        return self._app

    def _settings(self) -> Settings:
        return Settings.read(os.environ, required_by(self._role))

    def _on_sigterm(self, app: App, drain: Callable[[App], Awaitable[None]]) -> None:
        """Cloud Run sends SIGTERM 10 s before it ends the container; the server then waits for its requests.

        The server's own handler stays in charge; this one goes before it.
        """
        loop = asyncio.get_running_loop()
        servers_own = signal.getsignal(signal.SIGTERM)

        async def drained() -> None:
            log.info("process.draining", role=self._role)
            await drain(app)

        def start() -> None:
            self._draining = self._draining or loop.create_task(drained())

        def handle(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(start)
            if callable(servers_own):
                servers_own(number, frame)

        signal.signal(signal.SIGTERM, handle)


@contextmanager
def uncollected() -> Iterator[None]:
    """For imports: what they make stays, and walking it over and over is a tenth of a cold start; so is
    walking it once, when the collector is back."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _collect_less_often() -> None:
    """The modules stay, so the collector need not walk them again and again; and at its default threshold it
    runs several times a request: a fifth of the webhook's processor time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
