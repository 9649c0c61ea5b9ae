"""Dispatches one queue's tasks over HTTP: rate, concurrency, deadlines, retries, and faults on purpose."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from core.adapters.http_client import HttpClient, HttpResponse
from core.local.task_store import StoredTask, TaskStore, TokenBucket


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a dispatch hook sees. `number` counts from 1."""

    task_id: str
    number: int
    body: bytes


@dataclass(frozen=True, slots=True)
class DispatchPlan:
    """What a dispatch hook may ask for. `copies` are sent at the same moment, to the next targets in turn;
    the first one's answer counts. `delay_s` before sending reorders tasks. `target`: the one of the targets
    to send it to, instead of the next in turn."""

    copies: int = 1
    delay_s: float = 0.0
    target: str | None = None


OnDispatch = Callable[[Attempt], DispatchPlan | None]


class TaskDispatcher:
    """Runs one queue. `targets`: base URLs that replace the scheme and host of every task's URL in turn;
    a refused connection is a failed attempt, and the retry goes to the next one."""

    def __init__(self, store: TaskStore, client: HttpClient, *, max_deadline_s: float = 1800.0) -> None:
        self.store = store
        self.targets: Sequence[str] = ()
        self.on_dispatch: OnDispatch | None = None
        self.max_deadline_s = max_deadline_s
        self.bucket = TokenBucket(store.config.max_dispatches_per_s, store.config.burst, time.time())
        self._client = client
        self._turn = itertools.count()
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[Any]] = set()
        self._loop_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop_task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        tasks = [*self._running, *([self._loop_task] if self._loop_task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Something changed: a task, the configuration, pause or resume."""
        self._wake.set()

    def force(self, task: StoredTask) -> None:
        """Dispatch now, whatever the rate, the concurrency, or a pause say (RunTask)."""
        if not task.in_flight:
            self._launch(task)

    def duplicate(self, task: StoredTask) -> None:
        """Deliver it once more, even after it was finished; the answer changes nothing."""
        self._spawn(self._send(task))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            wait_s = self._pump()
            timer = None if wait_s is None else loop.call_later(wait_s, self._wake.set)
            await self._wake.wait()
            if timer is not None:
                timer.cancel()

    def _pump(self) -> float | None:
        """Start all that may run now; seconds until something may change by itself, None if nothing will."""
        store = self.store
        while not store.paused and store.in_flight < store.config.max_concurrent:
            task = store.next_due()
            if task is None:
                return None
            now = time.time()
            if task.schedule_s > now:
                return task.schedule_s - now
            wait_s = self.bucket.take(now)
            if wait_s > 0:
                return wait_s
            self._launch(task)
        return None

    def _launch(self, task: StoredTask) -> None:
        task.in_flight = True
        task.dispatches += 1
        task.first_attempt_s = task.first_attempt_s or time.time()
        self.store.in_flight += 1
        self._spawn(self._attempt(task))

    def _spawn(self, work: Any) -> None:
        running = asyncio.ensure_future(work)
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _attempt(self, task: StoredTask) -> None:
        plan = None
        if self.on_dispatch is not None:
            plan = self.on_dispatch(Attempt(task.task_id, task.dispatches, task.body))
        plan = plan or DispatchPlan()
        response = None
        try:
            if plan.delay_s:
                await asyncio.sleep(plan.delay_s)
            for _ in range(plan.copies - 1):
                self.duplicate(task)
            response = await self._send(task, plan.target)
        finally:
            task.in_flight = False
            self.store.in_flight -= 1
        self._settle(task, response)
        self.wake()

    async def _send(self, task: StoredTask, target: str | None = None) -> HttpResponse | None:
        """None: no answer (refused, reset, deadline)."""
        headers = {
            "content-type": "application/octet-stream",
            **task.headers,
            "user-agent": "Google-Cloud-Tasks",
            "x-cloudtasks-queuename": self.store.name.rpartition("/")[2],
            "x-cloudtasks-taskname": task.task_id,
            "x-cloudtasks-taskretrycount": str(max(0, task.dispatches - 1)),
            "x-cloudtasks-taskexecutioncount": str(task.executions),
            "x-cloudtasks-tasketa": f"{task.schedule_s:.6f}",
        }
        if task.last_status is not None:
            headers["x-cloudtasks-taskpreviousresponse"] = str(task.last_status)
        deadline_s = min(task.deadline_s, self.max_deadline_s)
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(deadline_s):
                task.sent_to = target or self._next_target()
                url = _at(task.sent_to, task.url)
                return await self._client.request(task.method, url, headers=headers, body=task.body)
        return None

    def _next_target(self) -> str:
        """Empty: wherever the task itself wants to go."""
        return self.targets[next(self._turn) % len(self.targets)] if self.targets else ""

    def _settle(self, task: StoredTask, response: HttpResponse | None) -> None:
        store, now = self.store, time.time()
        status = response.status if response is not None else None
        task.last_status = status
        if status is not None:
            task.responses += 1
        if status is not None and 200 <= status < 300:
            store.succeeded += 1
            self.bucket.recover()
            store.remove(task, now)
            return
        store.failed_attempts += 1
        if status is not None and status < 500:
            task.executions += 1
        if status in {429, 503}:
            self.bucket.slow()
        if store.tasks.get(task.name) is not task:
            return  # deleted or purged while it ran
        retry = task.retry or store.config.retry
        if retry.exhausted(task.dispatches, now - (task.first_attempt_s or now)):
            store.bury(task, now)
            return
        task.schedule_s = now + max(retry.backoff_s(task.dispatches), _retry_after_s(response))
        store.schedule(task)


def _at(base: str, url: str) -> str:
    if not base:
        return url
    parts = urlsplit(url)
    return base.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")


def _retry_after_s(response: HttpResponse | None) -> float:
    value = response.headers.get("retry-after", "") if response is not None else ""
    return float(value) if value.isdigit() else 0.0
