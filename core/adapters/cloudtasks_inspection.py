"""The queue as an operator sees it: its settings, and what waits as far as one listing shows."""

from __future__ import annotations

import time
from typing import Any

import grpc.aio
from google.api_core.exceptions import GoogleAPICallError, PermissionDenied, RetryError
from google.auth.exceptions import GoogleAuthError
from google.cloud.tasks_v2 import CloudTasksAsyncClient, GetQueueRequest, ListTasksRequest

from core.adapters.cloudtasks_tasks import connect
from core.domain.errors import TasksUnavailableError
from core.ports.inspection import QueueFacts

_LISTED = 1000  # the most of one call


async def inspect_queue(
    queue: str, *, emulator_host: str | None = None, timeout_s: float = 10.0
) -> QueueFacts:
    """`queue`: `projects/P/locations/L/queues/Q`. Raises TasksUnavailableError."""
    client = connect(emulator_host)
    try:
        found = await client.get_queue(GetQueueRequest(name=queue), retry=None, timeout=timeout_s)
        count, more, oldest_late_s = await _backlog(client, queue, timeout_s)
    except (GoogleAPICallError, RetryError, GoogleAuthError, grpc.aio.AioRpcError) as exc:
        raise TasksUnavailableError(f"{queue}: {type(exc).__name__}: {exc}") from exc
    finally:
        transport: Any = client.transport
        await transport.close()
    raw: Any = type(found).pb(found)
    retry, limits = raw.retry_config, raw.rate_limits
    return QueueFacts(
        state=found.state.name.lower(),
        dispatches_per_s=limits.max_dispatches_per_second,
        concurrent=limits.max_concurrent_dispatches,
        max_attempts=retry.max_attempts,
        max_retry_s=float(retry.max_retry_duration.seconds),
        max_backoff_s=float(retry.max_backoff.seconds),
        tasks=count,
        more=more,
        oldest_late_s=oldest_late_s,
    )


async def _backlog(
    client: CloudTasksAsyncClient, queue: str, timeout_s: float
) -> tuple[int | None, bool, float | None]:
    """How many tasks, whether there are more, and by how much the most overdue one is late."""
    request = ListTasksRequest(parent=queue, page_size=_LISTED)
    try:
        page = await client.list_tasks(request, retry=None, timeout=timeout_s)
    except PermissionDenied:
        return None, False, None
    tasks = list(page.tasks)
    due = [task.schedule_time.timestamp() for task in tasks]
    return len(tasks), bool(page.next_page_token), max(0.0, time.time() - min(due)) if due else None
