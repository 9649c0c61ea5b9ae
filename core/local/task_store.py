"""The queue's memory and arithmetic: tasks, remembered names, rate, back-off. Times are Unix seconds.

Rules: cloud.google.com/tasks/docs/reference/rpc/google.cloud.tasks.v2 (Queue, Task, RetryConfig).
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_TASK_BYTES: Final = 100 * 1024
NAME_MEMORY_S: Final = 24 * 3600.0
_CONGESTION_FLOOR = 0.02


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Defaults are Cloud Tasks'. `max_attempts` -1: no end by count; `max_retry_s` 0: none by time."""

    max_attempts: int = 100
    max_retry_s: float = 0.0
    min_backoff_s: float = 0.1
    max_backoff_s: float = 3600.0
    max_doublings: int = 16

    def backoff_s(self, failures: int) -> float:
        """Doubles `max_doublings` times, then grows by the last step, up to `max_backoff_s`."""
        doublings = min(failures - 1, self.max_doublings)
        linear = max(0, failures - 1 - self.max_doublings)
        step = self.min_backoff_s * 2.0**doublings
        return min(self.max_backoff_s, step * (1 + linear))

    def exhausted(self, attempts: int, age_s: float) -> bool:
        """Only when both limits are met; one that is off does not count."""
        if self.max_attempts < 0 and self.max_retry_s <= 0:
            return False
        enough = self.max_attempts < 0 or attempts >= self.max_attempts
        return enough and (self.max_retry_s <= 0 or age_s >= self.max_retry_s)


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """`max_burst` 0: derived from the rate, as Cloud Tasks does."""

    max_dispatches_per_s: float = 500.0
    max_burst: int = 0
    max_concurrent: int = 1000
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    @property
    def burst(self) -> int:
        return self.max_burst or int(max(1, min(100, self.max_dispatches_per_s)))


@dataclass(slots=True)
class StoredTask:
    """`dispatches` counts attempts, `responses` those that were answered, `executions` those answered with
    something other than a 5xx (X-CloudTasks-TaskExecutionCount). `sent_to`: the target it went to last."""

    name: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    schedule_s: float
    created_s: float
    deadline_s: float
    retry: RetryPolicy | None = None
    dispatches: int = 0
    responses: int = 0
    executions: int = 0
    first_attempt_s: float | None = None
    last_status: int | None = None
    in_flight: bool = False
    sent_to: str = ""

    @property
    def task_id(self) -> str:
        return self.name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class DeadTask:
    """Dropped after its last attempt: what a deployment would have lost."""

    name: str
    body: bytes
    attempts: int
    last_status: int | None
    at_s: float


@dataclass(frozen=True, slots=True)
class QueueStats:
    """`backlog`: tasks in the queue, running ones included. `waiting`: due but not running."""

    backlog: int
    waiting: int
    succeeded: int
    failed_attempts: int


class TokenBucket:
    """Dispatch rate. Failures that mean "too much" slow it, successes bring it back (congestion control)."""

    def __init__(self, rate_per_s: float, burst: int, now_s: float) -> None:
        self._rate = rate_per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = now_s
        self.congestion = 1.0

    def configure(self, rate_per_s: float, burst: int) -> None:
        self._rate, self._burst = rate_per_s, float(burst)

    def take(self, now_s: float) -> float:
        """0 if a token was taken, else the seconds until there is one."""
        rate = max(self._rate * self.congestion, 1e-6)
        self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._at) * rate)
        self._at = now_s
        # A timer may fire a rounding error too early; waiting for that would spin.
        if self._tokens >= 1.0 - 1e-6:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / rate

    def slow(self) -> None:
        self.congestion = max(_CONGESTION_FLOOR, self.congestion * 0.7)

    def recover(self) -> None:
        self.congestion = min(1.0, self.congestion * 1.1)


class TaskStore:
    """One queue's tasks, ordered by schedule time, and the names it remembers."""

    def __init__(self, name: str, config: QueueConfig) -> None:
        self.name = name
        self.config = config
        self.paused = False
        self.tasks: dict[str, StoredTask] = {}
        self.dead: list[DeadTask] = []
        self.finished: deque[StoredTask] = deque(maxlen=10_000)
        self.succeeded = self.failed_attempts = 0
        self.in_flight = 0
        self._names: dict[str, float] = {}
        self._heap: list[tuple[float, int, StoredTask]] = []
        self._sequence = itertools.count()

    def knows(self, name: str, now_s: float) -> bool:
        """A task of that name exists or existed within the last 24 h."""
        return name in self.tasks or self._names.get(name, 0.0) > now_s

    def add(self, task: StoredTask) -> None:
        self.tasks[task.name] = task
        self.schedule(task)

    def schedule(self, task: StoredTask) -> None:
        heapq.heappush(self._heap, (task.schedule_s, next(self._sequence), task))

    def next_due(self) -> StoredTask | None:
        """The earliest task that waits, left where it is."""
        while self._heap:
            schedule_s, _, task = self._heap[0]
            if self.tasks.get(task.name) is task and not task.in_flight and task.schedule_s == schedule_s:
                return task
            heapq.heappop(self._heap)
        return None

    def remove(self, task: StoredTask, now_s: float) -> None:
        if self.tasks.get(task.name) is task:
            del self.tasks[task.name]
            self._names[task.name] = now_s + NAME_MEMORY_S
            self.finished.append(task)

    def bury(self, task: StoredTask, now_s: float) -> None:
        self.remove(task, now_s)
        self.dead.append(DeadTask(task.name, task.body, task.dispatches, task.last_status, now_s))

    def purge(self, now_s: float) -> None:
        for task in list(self.tasks.values()):
            self.remove(task, now_s)

    def find(self, name: str) -> StoredTask | None:
        """A task of the queue, or one of the last that left it. `name`: full or only the id."""
        matches = (t for t in (*self.tasks.values(), *reversed(self.finished)) if name in (t.name, t.task_id))
        return next(matches, None)

    def stats(self, now_s: float) -> QueueStats:
        tasks = self.tasks.values()
        return QueueStats(
            backlog=len(tasks),
            waiting=sum(not t.in_flight and t.schedule_s <= now_s for t in tasks),
            succeeded=self.succeeded,
            failed_attempts=self.failed_attempts,
        )
