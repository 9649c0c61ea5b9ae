"""A Cloud Tasks server for one machine: the real gRPC API, real dispatches over HTTP, tasks in memory.

No usable emulator exists for the current client. Rules it keeps: names with ALREADY_EXISTS for 24 h, schedule
times, dispatch rate (token bucket), concurrency, retries with back-off, deadlines, X-CloudTasks headers,
pause and resume, slowing down on 429 and 503. OIDC tokens are not made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import grpc

from core.adapters.http_client import HttpClient
from core.domain.errors import InvalidInputError
from core.local.task_dispatcher import Attempt, DispatchPlan, OnDispatch, TaskDispatcher
from core.local.task_service import CloudTasksService
from core.local.task_store import DeadTask, QueueConfig, QueueStats, RetryPolicy, TaskStore

__all__ = ["Attempt", "CloudTasks", "DeadTask", "DispatchPlan", "QueueConfig", "QueueStats", "RetryPolicy"]


class CloudTasks:
    """`address` is what CLOUD_TASKS_EMULATOR_HOST wants. `targets`, `on_dispatch` and `max_deadline_s`
    (which shortens every task's dispatch deadline) apply to all queues and may change at any time."""

    def __init__(self, *, port: int = 0, targets: Sequence[str] = (), max_deadline_s: float = 1800.0) -> None:
        self._port = port
        self._targets = tuple(targets)
        self._on_dispatch: OnDispatch | None = None
        self._max_deadline_s = max_deadline_s
        self._client: HttpClient | None = None
        self._server: grpc.aio.Server | None = None
        self.queues: dict[str, TaskDispatcher] = {}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def start(self) -> None:
        self._client = HttpClient()
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        server.add_generic_rpc_handlers((CloudTasksService(self).handler(),))
        self._port = server.add_insecure_port(self.address)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Cancels what is in flight. Safe to call twice."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
        for queue in self.queues.values():
            await queue.stop()
        self.queues.clear()
        if self._client is not None:
            await self._client.close()
            self._client = None

    def create_queue(self, name: str, config: QueueConfig | None = None) -> TaskDispatcher:
        """`name`: projects/P/locations/L/queues/Q."""
        if self._client is None:
            raise InvalidInputError("the local Cloud Tasks server is not started: call start() first")
        queue = TaskDispatcher(TaskStore(name, config or QueueConfig()), self._client)
        queue.targets, queue.on_dispatch = self._targets, self._on_dispatch
        queue.max_deadline_s = self._max_deadline_s
        self.queues[name] = queue
        queue.start()
        return queue

    def queue(self, name: str | None = None) -> TaskDispatcher:
        """By full name; without one, the only queue there is."""
        return self.queues[name] if name else next(iter(self.queues.values()))

    @property
    def targets(self) -> tuple[str, ...]:
        return self._targets

    @targets.setter
    def targets(self, targets: Sequence[str]) -> None:
        self._targets = tuple(targets)
        for queue in self.queues.values():
            queue.targets = self._targets

    @property
    def on_dispatch(self) -> OnDispatch | None:
        """Called before each attempt; may ask for copies or a delay. See DispatchPlan."""
        return self._on_dispatch

    @on_dispatch.setter
    def on_dispatch(self, hook: OnDispatch | None) -> None:
        self._on_dispatch = hook
        for queue in self.queues.values():
            queue.on_dispatch = hook

    def pause(self) -> None:
        for queue in self.queues.values():
            queue.store.paused = True

    def resume(self) -> None:
        for queue in self.queues.values():
            queue.store.paused = False
            queue.wake()

    def redeliver(self, task: str, *, copies: int = 1) -> None:
        """Dispatch a task again `copies` times at once, also one that is finished (at-least-once delivery).

        `task`: its name or id. Raises InvalidInputError if no queue remembers it.
        """
        for queue in self.queues.values():
            found = queue.store.find(task)
            if found is not None:
                for _ in range(copies):
                    queue.duplicate(found)
                return
        raise InvalidInputError(f"no queue remembers the task {task!r}")

    def stats(self, name: str | None = None) -> QueueStats:
        return self.queue(name).store.stats(time.time())

    @property
    def dead(self) -> list[DeadTask]:
        """Tasks of all queues that were dropped after their last attempt."""
        return [dead for queue in self.queues.values() for dead in queue.store.dead]

    async def drained(self, timeout_s: float) -> None:
        """Until no queue holds a task. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while True:
                if not any(queue.store.tasks for queue in self.queues.values()):
                    return
                await asyncio.sleep(0.02)

    async def __aenter__(self) -> CloudTasks:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
