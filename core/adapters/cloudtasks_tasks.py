"""The queue in Cloud Tasks, or in a local server that speaks the same gRPC."""

from __future__ import annotations

import time
from typing import Any

import grpc.aio
from google.api_core.exceptions import AlreadyExists, GoogleAPICallError, RetryError
from google.auth.exceptions import GoogleAuthError
from google.cloud.tasks_v2 import CloudTasksAsyncClient, CreateTaskRequest
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport

from core.adapters import google_credentials
from core.domain.errors import TasksUnavailableError
from core.domain.task import TurnTask

# gRPC waits up to two minutes before it tries a lost connection again; a webhook has two seconds.
_RECONNECT = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]


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
        self._client: CloudTasksAsyncClient | None = None
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

    async def create(self, task: TurnTask, *, delay_ms: int = 0, timeout_s: float = 5.0) -> bool:
        """See the port. Raises TasksUnavailableError."""
        if self._client is None:
            self._client = connect(self._emulator_host)
        try:
            await self._client.create_task(self._request(task, delay_ms), retry=None, timeout=timeout_s)
        except AlreadyExists:
            return False
        except (GoogleAPICallError, RetryError, GoogleAuthError, grpc.aio.AioRpcError) as exc:
            raise TasksUnavailableError(f"the queue did not confirm the task: {exc}") from exc
        return True

    async def close(self) -> None:
        if self._client is not None:
            transport: Any = self._client.transport  # untyped
            self._client = None
            await transport.close()

    def _request(self, task: TurnTask, delay_ms: int) -> CreateTaskRequest:
        request = type(self._template)()
        request.CopyFrom(self._template)
        request.task.name = f"{self._queue}/tasks/{task.name}"
        request.task.http_request.body = task.encode()
        if delay_ms > 0:
            # A wall clock, since the queue dispatches by its own.
            request.task.schedule_time.FromMilliseconds(time.time_ns() // 1_000_000 + delay_ms)
        wrapped: CreateTaskRequest = CreateTaskRequest.wrap(request)
        return wrapped


def connect(emulator_host: str | None = None) -> CloudTasksAsyncClient:
    """A client of Cloud Tasks, or of a local server at `host:port`. Raises TasksUnavailableError where there
    are no credentials."""
    channel: Any = _open_channel
    if emulator_host:
        channel = grpc.aio.insecure_channel(emulator_host, options=_RECONNECT)
    try:
        return CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))
    except GoogleAuthError as exc:
        raise TasksUnavailableError(f"Cloud Tasks: {google_credentials.missing(exc)}") from exc


def _open_channel(host: str, *, options: list[tuple[str, Any]], **kwargs: Any) -> grpc.aio.Channel:
    return CloudTasksGrpcAsyncIOTransport.create_channel(host, options=[*options, *_RECONNECT], **kwargs)
