"""The gRPC side of the local Cloud Tasks: requests checked, answers in Google's own message types."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, Protocol

import grpc
from google.cloud import tasks_v2
from google.protobuf import empty_pb2

from core.local.task_dispatcher import TaskDispatcher
from core.local.task_store import MAX_TASK_BYTES, QueueConfig, RetryPolicy, StoredTask

# grpc and protobuf ship no types for what they make at run time.
_grpc: Any = grpc
_Empty: Any = empty_pb2.__dict__["Empty"]
_HttpMethod: Any = tasks_v2.HttpMethod
# The raw protobuf classes: the proto-plus wrappers cost more than the whole rest of a call.
_Queue = tasks_v2.Queue.pb()
_Task = tasks_v2.Task.pb()
_METHODS: dict[str, tuple[str, Any]] = {
    "CreateQueue": ("CreateQueueRequest", _Queue),
    "GetQueue": ("GetQueueRequest", _Queue),
    "UpdateQueue": ("UpdateQueueRequest", _Queue),
    "ListQueues": ("ListQueuesRequest", tasks_v2.ListQueuesResponse.pb()),
    "PauseQueue": ("PauseQueueRequest", _Queue),
    "ResumeQueue": ("ResumeQueueRequest", _Queue),
    "PurgeQueue": ("PurgeQueueRequest", _Queue),
    "CreateTask": ("CreateTaskRequest", _Task),
    "GetTask": ("GetTaskRequest", _Task),
    "ListTasks": ("ListTasksRequest", tasks_v2.ListTasksResponse.pb()),
    "DeleteTask": ("DeleteTaskRequest", _Empty),
    "RunTask": ("RunTaskRequest", _Task),
}
_QUEUE_NAME = re.compile(r"projects/[^/]+/locations/[^/]+/queues/[A-Za-z0-9-]{1,100}")
_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")
_MAX_AHEAD_S = 30 * 24 * 3600


class Queues(Protocol):
    """Where the service finds and makes queues."""

    queues: dict[str, TaskDispatcher]

    def create_queue(self, name: str, config: QueueConfig) -> TaskDispatcher: ...


class _RefusedError(Exception):
    def __init__(self, code: grpc.StatusCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def _invalid(detail: str) -> NoReturn:
    raise _RefusedError(grpc.StatusCode.INVALID_ARGUMENT, detail)


class CloudTasksService:
    """`google.cloud.tasks.v2.CloudTasks` as far as queues with HTTP targets need it."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def handler(self) -> Any:
        """For `grpc.aio.Server.add_generic_rpc_handlers`."""
        methods = {}
        for name, (request, response) in _METHODS.items():
            methods[name] = _grpc.unary_unary_rpc_method_handler(
                self._guarded(getattr(self, f"_{_snake(name)}")),
                request_deserializer=getattr(tasks_v2, request).pb().FromString,
                response_serializer=response.SerializeToString,
            )
        return _grpc.method_handlers_generic_handler("google.cloud.tasks.v2.CloudTasks", methods)

    def _guarded(self, method: Callable[[Any], Any]) -> Callable[[Any, Any], Awaitable[Any]]:
        async def call(request: Any, context: Any) -> Any:
            try:
                return method(request)
            except _RefusedError as exc:
                return await context.abort(exc.code, str(exc))

        return call

    def _queue(self, name: str) -> TaskDispatcher:
        queue = self._queues.queues.get(name)
        if queue is None:
            raise _RefusedError(grpc.StatusCode.NOT_FOUND, f"Queue does not exist: {name}")
        return queue

    def _task(self, name: str) -> tuple[TaskDispatcher, StoredTask]:
        queue = self._queue(name.partition("/tasks/")[0])
        task = queue.store.tasks.get(name)
        if task is None:
            raise _RefusedError(grpc.StatusCode.NOT_FOUND, f"The task does not exist: {name}")
        return queue, task

    # Queues

    def _create_queue(self, request: Any) -> Any:
        name = request.queue.name
        if not _QUEUE_NAME.fullmatch(name) or not name.startswith(f"{request.parent}/queues/"):
            _invalid(f"Queue.name {name!r} is not projects/P/locations/L/queues/Q of the parent")
        if name in self._queues.queues:
            raise _RefusedError(grpc.StatusCode.ALREADY_EXISTS, "Queue already exists")
        return _show_queue(self._queues.create_queue(name, _read_config(request.queue, QueueConfig())))

    def _get_queue(self, request: Any) -> Any:
        return _show_queue(self._queue(request.name))

    def _update_queue(self, request: Any) -> Any:
        """Every field that is set is taken, whatever the mask says beside it."""
        queue = self._queue(request.queue.name)
        config = _read_config(request.queue, queue.store.config)
        queue.store.config = config
        queue.bucket.configure(config.max_dispatches_per_s, config.burst)
        queue.wake()
        return _show_queue(queue)

    def _list_queues(self, request: Any) -> Any:
        prefix = f"{request.parent}/queues/"
        found = [_show_queue(q) for name, q in self._queues.queues.items() if name.startswith(prefix)]
        return tasks_v2.ListQueuesResponse.pb()(queues=found)

    def _pause_queue(self, request: Any) -> Any:
        return self._set_paused(request.name, paused=True)

    def _resume_queue(self, request: Any) -> Any:
        return self._set_paused(request.name, paused=False)

    def _set_paused(self, name: str, *, paused: bool) -> Any:
        queue = self._queue(name)
        queue.store.paused = paused
        queue.wake()
        return _show_queue(queue)

    def _purge_queue(self, request: Any) -> Any:
        queue = self._queue(request.name)
        queue.store.purge(time.time())
        return _show_queue(queue)

    # Tasks

    def _create_task(self, request: Any) -> Any:
        queue, raw, now = self._queue(request.parent), request.task, time.time()
        name = raw.name or f"{request.parent}/tasks/{uuid.uuid4().int % 10**20}"
        prefix, _, task_id = name.rpartition("/tasks/")
        if prefix != request.parent or not _TASK_ID.fullmatch(task_id):
            _invalid(f"Task.name {name!r} is not a task of {request.parent}")
        if raw.ByteSize() > MAX_TASK_BYTES:
            _invalid(f"Task size too large: {raw.ByteSize()} bytes, the limit is {MAX_TASK_BYTES}")
        if not raw.http_request.url.startswith(("http://", "https://")):
            _invalid("HttpRequest.url is required and must begin with http:// or https://")
        schedule_s = _seconds(raw.schedule_time) if raw.HasField("schedule_time") else now
        if schedule_s > now + _MAX_AHEAD_S:
            _invalid("The schedule_time is more than 30 days ahead")
        deadline_s = _seconds(raw.dispatch_deadline) if raw.HasField("dispatch_deadline") else 600.0
        if not 15 <= deadline_s <= 1800:
            _invalid("The dispatch_deadline must be between 15 s and 30 min")
        if queue.store.knows(name, now):
            detail = "The task cannot be created because a task with this name existed too recently."
            raise _RefusedError(grpc.StatusCode.ALREADY_EXISTS, detail)
        http = raw.http_request
        task = StoredTask(
            name,
            _HttpMethod(http.http_method).name if http.http_method else "POST",
            http.url,
            dict(http.headers),
            http.body,
            # A past time is dispatched at once, but its ETA stays what was asked for only if it is ahead.
            max(schedule_s, now),
            now,
            deadline_s,
            _read_retry(raw.retry_config, queue.store.config.retry) if raw.HasField("retry_config") else None,
        )
        queue.store.add(task)
        queue.wake()
        return _show_task(task, full=request.response_view == tasks_v2.Task.View.FULL)

    def _get_task(self, request: Any) -> Any:
        _, task = self._task(request.name)
        return _show_task(task, full=request.response_view == tasks_v2.Task.View.FULL)

    def _list_tasks(self, request: Any) -> Any:
        """Page tokens are offsets; 1,000 a page."""
        tasks = list(self._queue(request.parent).store.tasks.values())
        start = int(request.page_token or 0)
        size = min(request.page_size or 1000, 1000)
        full = request.response_view == tasks_v2.Task.View.FULL
        return tasks_v2.ListTasksResponse.pb()(
            tasks=[_show_task(t, full=full) for t in tasks[start : start + size]],
            next_page_token=str(start + size) if start + size < len(tasks) else "",
        )

    def _delete_task(self, request: Any) -> Any:
        queue, task = self._task(request.name)
        queue.store.remove(task, time.time())
        return _Empty()

    def _run_task(self, request: Any) -> Any:
        queue, task = self._task(request.name)
        queue.force(task)
        return _show_task(task, full=request.response_view == tasks_v2.Task.View.FULL)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _seconds(value: Any) -> float:
    """Of a Timestamp or a Duration."""
    return float(value.seconds + value.nanos / 1e9)


def _fill(value: Any, seconds: float) -> None:
    value.seconds, value.nanos = int(seconds), int(seconds % 1 * 1e9)


def _read_retry(raw: Any, base: RetryPolicy) -> RetryPolicy:
    """Unset fields keep what `base` has."""
    return RetryPolicy(
        raw.max_attempts or base.max_attempts,
        _seconds(raw.max_retry_duration) if raw.HasField("max_retry_duration") else base.max_retry_s,
        _seconds(raw.min_backoff) if raw.HasField("min_backoff") else base.min_backoff_s,
        _seconds(raw.max_backoff) if raw.HasField("max_backoff") else base.max_backoff_s,
        raw.max_doublings or base.max_doublings,
    )


def _read_config(raw: Any, base: QueueConfig) -> QueueConfig:
    limits = raw.rate_limits
    if limits.max_dispatches_per_second > 500:
        _invalid("RateLimits.max_dispatches_per_second must not exceed 500")
    if limits.max_concurrent_dispatches > 5000:
        _invalid("RateLimits.max_concurrent_dispatches must not exceed 5000")
    return QueueConfig(
        limits.max_dispatches_per_second or base.max_dispatches_per_s,
        limits.max_burst_size or base.max_burst,
        limits.max_concurrent_dispatches or base.max_concurrent,
        _read_retry(raw.retry_config, base.retry),
    )


def _show_queue(queue: TaskDispatcher) -> Any:
    config, retry = queue.store.config, queue.store.config.retry
    shown = _Queue(name=queue.store.name)
    shown.state = tasks_v2.Queue.State.PAUSED if queue.store.paused else tasks_v2.Queue.State.RUNNING
    shown.rate_limits.max_dispatches_per_second = config.max_dispatches_per_s
    shown.rate_limits.max_burst_size = config.burst
    shown.rate_limits.max_concurrent_dispatches = config.max_concurrent
    shown.retry_config.max_attempts = retry.max_attempts
    shown.retry_config.max_doublings = retry.max_doublings
    _fill(shown.retry_config.min_backoff, retry.min_backoff_s)
    _fill(shown.retry_config.max_backoff, retry.max_backoff_s)
    if retry.max_retry_s:
        _fill(shown.retry_config.max_retry_duration, retry.max_retry_s)
    return shown


def _show_task(task: StoredTask, *, full: bool) -> Any:
    shown = _Task(name=task.name, dispatch_count=task.dispatches, response_count=task.responses)
    shown.view = tasks_v2.Task.View.FULL if full else tasks_v2.Task.View.BASIC
    _fill(shown.schedule_time, task.schedule_s)
    _fill(shown.create_time, task.created_s)
    _fill(shown.dispatch_deadline, task.deadline_s)
    shown.http_request.url = task.url
    shown.http_request.http_method = _HttpMethod[task.method]
    for name, value in task.headers.items():
        shown.http_request.headers[name] = value
    if full:
        shown.http_request.body = task.body
    if task.first_attempt_s is not None:
        _fill(shown.first_attempt.dispatch_time, task.first_attempt_s)
    return shown
