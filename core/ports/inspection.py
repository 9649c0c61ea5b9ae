"""What can be seen of the parts of a deployment from outside, for an operator's checks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """`policy` None: the server does not say. `max_bytes` 0: no limit of its own. `clock_ahead_ms`: of this
    machine's clock before Redis'."""

    version: str
    tls: bool
    policy: str | None
    used_bytes: int
    max_bytes: int
    round_trip_ms: float
    clock_ahead_ms: int


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """`max_attempts` -1 and `max_retry_s` 0: no end. `tasks` and `oldest_late_s` (how far the most overdue
    task is behind its time) of the first tasks listed, None if listing is not allowed; `more`: there are
    more than these."""

    state: str
    dispatches_per_s: float
    concurrent: int
    max_attempts: int
    max_retry_s: float
    max_backoff_s: float
    tasks: int | None = None
    more: bool = False
    oldest_late_s: float | None = None
