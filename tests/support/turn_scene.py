"""The turn's use case in this process, at the end of a real queue; all it talks to is over sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from core.bootstrap import shared
from core.bootstrap import turn as bootstrap
from core.bootstrap.turn import TurnParts
from core.domain.errors import UnavailableError
from core.domain.settings import Settings, required_by
from core.domain.task import EffectTask, decode_task
from core.local.http_server import HttpServer, Request, Response
from core.local.openai_api import Latency
from core.local.simulator import Sent
from core.local.stack import LocalStack, StackOptions
from core.usecases.turn.lead import RunTurn
from tests.support.fault_scene import FaultScene


@asynccontextmanager
async def turn_scene(folder: Path) -> AsyncIterator[FaultScene]:
    """A stack without turn processes; `serving` is the turn."""
    options = StackOptions(turns=0, run_dir=folder / "run", latency=Latency(0.25, 0.0))
    faults = folder / "faults"
    faults.mkdir()
    async with LocalStack(options) as stack, FaultScene(stack, faults) as scene:
        yield scene


def said(scene: FaultScene, sent: Sent) -> list[str]:
    return ["\n".join(delivery.texts) for delivery in scene.sim.answers(sent.event_id)]


@asynccontextmanager
async def serving(scene: FaultScene, **environment: str) -> AsyncIterator[RunTurn]:
    """The use case as it is deployed, under these settings, taking the queue's tasks."""
    settings = Settings.read({**scene.stack.settings_env, **environment}, required_by("turn"))
    parts, clients = built(settings)

    async def handle(request: Request) -> Response:
        try:
            task = decode_task(request.body)
            await (parts.effects(task) if isinstance(task, EffectTask) else parts.turns(task))
        except UnavailableError:
            return Response(503)
        return Response(200)

    server = HttpServer(handle)
    await server.start()
    scene.stack.tasks.targets = [server.url]
    try:
        yield parts.turns
    finally:
        scene.stack.tasks.queue().store.purge(0)
        await server.stop()
        for client in reversed(clients):
            await (client.aclose() if hasattr(client, "aclose") else client.close())


def built(settings: Settings) -> tuple[TurnParts, list[Any]]:
    """The use cases and their clients, which are the caller's to close in reverse order."""
    clients: list[Any] = []

    def kept(make: Callable[..., Any]) -> Callable[..., Any]:
        def remember(*args: Any, **more: Any) -> Any:
            clients.append(make(*args, **more))
            return clients[-1]

        return remember

    names = ("LineMessagingApi", "LineContent", "OpenAiLlm", "OpenAiTranscriber", "RedisSlots")
    makers = [(shared, name) for name in ("redis", "documents", "tasks")]
    makers += [(bootstrap, name) for name in names]
    with ExitStack() as patches:
        for module, name in makers:
            patches.enter_context(mock.patch.object(module, name, kept(getattr(module, name))))
        return bootstrap.build(settings), clients
