"""The queue in Cloud Tasks, or in a local server that speaks the same gRPC."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import grpc.aio
from google.api_core.gapic_v1.routing_header import to_grpc_metadata
from google.auth.exceptions import GoogleAuthError
from google.cloud.tasks_v2 import (
    CloudTasksAsyncClient,
    CreateTaskRequest,
    ListTasksRequest,
    ListTasksResponse,
    RunTaskRequest,
)
from google.cloud.tasks_v2.services.cloud_tasks.transports import (
    CloudTasksGrpcAsyncIOTransport as _Transport,
)

from core.adapters import google_credentials
from core.domain.errors import TasksUnavailableError
from core.domain.task import Task
from core.ports.tasks import Scheduled

# A task waits for a lost connection as long as its time-out allows, instead of failing at once; and gRPC,
# which waits up to two minutes before it tries again, must have tried by then: a webhook has two seconds.
_SERVICE = "google.cloud.tasks.v2.CloudTasks"
_WAITS = {"service": _SERVICE, "method": "CreateTask"}
_CHANNEL = [
    ("grpc.service_config", json.dumps({"methodConfig": [{"name": [_WAITS], "waitForReady": True}]})),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Channels share connections otherwise, so that a new channel would be as dead as the one it replaces.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),  # as the client sets it: a listing is long
]
_PAGE = 1_000  # the most that one listing has
_TELLING_S = 0.25
"""A shorter time-out says nothing about the connection."""
_GRACE_S = 10.0
"""Longer than any call, so that none that still runs on a channel is cut off when it is closed."""


class CloudTasksQueue:
    """`queue`: `projects/P/locations/L/queues/Q`. `url`: where tasks are sent, and their OIDC audience.

    With `emulator_host` (`host:port`) plaintext gRPC and no credentials; without `service_account` the tasks
    carry no OIDC token. `dispatch_deadline_s`: how long a task may run before Cloud Tasks sends it again
    (15 s to 30 min). The client is made with the first task: a module is imported before the server forks,
    and gRPC does not survive a fork.
    """

    def __init__(
        self,
        queue: str,
        url: str,
        *,
        service_account: str | None = None,
        emulator_host: str | None = None,
        dispatch_deadline_s: int = 120,
    ) -> None:
        self._queue = queue
        self._emulator_host = emulator_host
        self._calls: _Calls | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._metadata = (to_grpc_metadata((("parent", queue),)),)
        # What is the same in every request. Plain protobuf: the client's own wrappers (proto-plus) take
        # several times as long to fill in.
        self._template = CreateTaskRequest.pb()(parent=queue)
        http = self._template.task.http_request
        http.url = url
        http.http_method = 1  # POST
        http.headers["Content-Type"] = "application/json"
        if service_account:
            http.oidc_token.service_account_email = service_account
            http.oidc_token.audience = url
        self._template.task.dispatch_deadline.seconds = dispatch_deadline_s

    async def create(self, task: Task, *, delay_ms: int = 0, timeout_s: float = 5.0) -> bool:
        """See the port. Raises TasksUnavailableError."""
        if self._calls is None:
            self._calls = _Calls(self._emulator_host)
        calls = self._calls
        try:
            await calls.create(self._request(task, delay_ms), timeout=timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as exc:
            if exc.code() is grpc.StatusCode.ALREADY_EXISTS:
                return False
            if exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED and timeout_s >= _TELLING_S:
                self._replace(calls)
            raise TasksUnavailableError(f"the queue did not confirm the task: {_told(exc)}") from exc
        except GoogleAuthError as exc:
            raise TasksUnavailableError(f"the queue did not confirm the task: {exc}") from exc
        return True

    async def run(self, name: str, *, timeout_s: float = 5.0) -> bool:
        """See the port. Raises TasksUnavailableError."""
        if self._calls is None:
            self._calls = _Calls(self._emulator_host)
        request = RunTaskRequest.pb()(name=f"{self._queue}/tasks/{name}")
        metadata = (to_grpc_metadata((("name", request.name),)),)
        try:
            await self._calls.run(request, timeout=timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as exc:
            if exc.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise TasksUnavailableError(f"the queue did not run the task: {_told(exc)}") from exc
        except GoogleAuthError as exc:
            raise TasksUnavailableError(f"the queue did not run the task: {exc}") from exc
        return True

    async def scheduled(self, *, timeout_s: float = 10.0) -> list[Scheduled]:
        """See the port."""
        if self._calls is None:
            self._calls = _Calls(self._emulator_host)
        calls = self._calls
        request, now_ms = ListTasksRequest.pb()(parent=self._queue, page_size=_PAGE), time.time() * 1000
        found: list[Scheduled] = []
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    page = await calls.list(request, metadata=self._metadata)
                    for task in page.tasks:
                        created_ms, due_ms = (
                            round(moment.seconds * 1000 + moment.nanos / 1e6)
                            for moment in (task.create_time, task.schedule_time)
                        )
                        if due_ms > now_ms:
                            found.append(Scheduled(task.name.rpartition("/")[2], created_ms, due_ms))
                    if not page.next_page_token:
                        return found
                    request.page_token = page.next_page_token
        except grpc.aio.AioRpcError as exc:
            raise TasksUnavailableError(f"the queue did not list its tasks: {_told(exc)}") from exc
        except (GoogleAuthError, TimeoutError) as exc:
            raise TasksUnavailableError(f"the queue did not list its tasks: {exc!r}") from exc

    async def close(self) -> None:
        for closing in self._closing:
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        calls, self._calls = self._calls, None
        if calls is not None:
            await calls.channel.close()

    def _replace(self, calls: _Calls) -> None:
        """The next task opens a new channel: the connection may be dead without anybody having said so, and
        then every call on it runs out of time until TCP gives up, minutes later. Calls that run go on."""
        if calls is not self._calls:
            return
        self._calls = None
        closing = asyncio.create_task(_close_after(_GRACE_S, calls.channel))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _request(self, task: Task, delay_ms: int) -> Any:
        request = type(self._template)()
        request.CopyFrom(self._template)
        request.task.name = f"{self._queue}/tasks/{task.name}"
        request.task.http_request.body = task.encode()
        if delay_ms > 0:
            # A wall clock, since the queue dispatches by its own.
            request.task.schedule_time.FromMilliseconds(time.time_ns() // 1_000_000 + delay_ms)
        return request


class _Calls:
    """The queue's methods on a channel of the client's: what the client wraps around them (retries, its own
    time-out, a header built anew, a task and a log record for each call) takes as long again and is not used
    here."""

    def __init__(self, emulator_host: str | None) -> None:
        self.channel = _open_channel(emulator_host)
        self.create: Any = self.channel.unary_unary(f"/{_SERVICE}/CreateTask", _serialized)
        self.run: Any = self.channel.unary_unary(f"/{_SERVICE}/RunTask", _serialized)
        read = ListTasksResponse.pb().FromString
        self.list: Any = self.channel.unary_unary(f"/{_SERVICE}/ListTasks", _serialized, read)


def _serialized(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _told(exc: grpc.aio.AioRpcError) -> str:
    return f"{exc.code().name}: {exc.details()}"


async def _close_after(grace_s: float, channel: grpc.aio.Channel) -> None:
    """At once when cancelled. Not gRPC's own grace, which refuses calls that are just about to start."""
    try:
        await asyncio.sleep(grace_s)
    finally:
        await channel.close()


def connect(emulator_host: str | None = None) -> CloudTasksAsyncClient:
    """A client of Cloud Tasks, or of a local server at `host:port`. Raises TasksUnavailableError where there
    are no credentials."""
    return CloudTasksAsyncClient(transport=_Transport(channel=_open_channel(emulator_host)))


def _open_channel(emulator_host: str | None) -> grpc.aio.Channel:
    if emulator_host:
        return grpc.aio.insecure_channel(emulator_host, options=_CHANNEL)
    try:
        return _Transport.create_channel(_Transport.DEFAULT_HOST, options=_CHANNEL)
    except GoogleAuthError as exc:
        raise TasksUnavailableError(f"Cloud Tasks: {google_credentials.missing(exc)}") from exc
