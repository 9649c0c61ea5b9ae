"""The queue: one durable task an event or effect, created once by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from core.domain.task import Task


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A task that waits for its time (Unix ms)."""

    name: str
    created_ms: int
    due_ms: int


class TaskQueue(Protocol):
    async def create(self, task: Task, *, delay_ms: int = 0, timeout_s: float = 5.0) -> bool:
        """Enqueue `task` under its name, to be dispatched no earlier than `delay_ms` from now.

        True if it was created, False if a task of that name existed (which is success too). Raises
        TasksUnavailableError when the queue did not confirm within `timeout_s`.
        """
        ...

    async def run(self, name: str, *, timeout_s: float = 5.0) -> bool:
        """Dispatch a task that waits for its time now; False if there is none of that name. It stays in the
        queue until it is done. Raises TasksUnavailableError."""
        ...

    async def scheduled(self, *, timeout_s: float = 10.0) -> list[Scheduled]:
        """All tasks that are not due yet. Many calls of the queue: for what is rare. Raises
        TasksUnavailableError."""
        ...

    async def close(self) -> None: ...
