"""Time compression: what is scaled, what has a floor, and what cannot be scaled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from core.domain.settings import VARIABLES
from core.local import deployment
from core.local.openai_api import Latency
from core.local.peak.scenario import ScenarioOptions
from core.local.task_store import QueueConfig

_DEPLOYED = deployment.settings({v.name: v.default for v in VARIABLES if v.default is not None})
# Floors: the machine's own pauses do not shrink, and an honest holder would lose a shorter lease.
_ATTEMPT_FLOOR_S = 3.0
_FLOORS_S = {
    "LLM_DEADLINE_S": 3 * _ATTEMPT_FLOOR_S + 1,
    "LLM_BACKOFF_S": 0.0,
    "LLM_JITTER_S": 0.0,
    "SLOT_WAIT_S": 20.0,
    "SLOT_LEASE_S": 4.0,
    "PATIENCE_S": 40.0,
}
_COUNTS = ("LLM_REQUESTS_PER_MINUTE", "ORG_ROOM", "ORG_MESSAGES_PER_MINUTE", "SENDER_MESSAGES_PER_10S")


@dataclass(frozen=True, slots=True)
class Compression:
    """`speed` simulated seconds pass in one real second."""

    speed: float

    def latency(self, latency: Latency) -> Latency:
        return Latency(latency.median_s, latency.sigma, latency.scale / self.speed)

    def queue(self, options: ScenarioOptions) -> QueueConfig:
        """As deployed for that many slots: its rate is scaled, its room is a number of dispatches at once."""
        deployed = deployment.queue({"CHAT_MAX_CONCURRENT": str(options.slots)})
        retry = replace(
            deployed.retry,
            min_backoff_s=deployed.retry.min_backoff_s / self.speed,
            max_backoff_s=deployed.retry.max_backoff_s / self.speed,
        )
        return replace(
            deployed, max_dispatches_per_s=min(deployed.max_dispatches_per_s * self.speed, 500), retry=retry
        )

    def environment(self, options: ScenarioOptions) -> dict[str, str]:
        """The functions' settings."""
        return {
            "CHAT_MAX_CONCURRENT": str(options.slots),
            "CHAT_MAX_CONCURRENT_PER_ORG": str(options.org_slots),
            "LOG_LEVEL": "WARNING",
            **self._scaled(),
        }

    def table(self, options: ScenarioOptions) -> Iterator[tuple[str, str, str]]:
        """(what, in production, here) of all that has to do with time."""
        real, here = replace(self, speed=1.0).queue(options), self.queue(options)
        median_s = options.latency.median_s
        yield "the model's latency (median)", f"{median_s:g} s", f"{median_s / self.speed:.3g} s"
        yield (
            "the queue's dispatches a second",
            f"{real.max_dispatches_per_s:g}",
            f"{here.max_dispatches_per_s:g}",
        )
        yield (
            "the queue's first backoff",
            f"{real.retry.min_backoff_s:g} s",
            f"{here.retry.min_backoff_s:.3g} s",
        )
        yield "cooldown after a 429", "Retry-After", "Retry-After ÷ speed"
        for name, value in self._scaled().items():
            yield name, _DEPLOYED[name], value
        unscaled = ("the queue's room", f"{real.max_concurrent}"), ("freshness of reply tokens", "50 s")
        for name, value in (*unscaled, ("circuit's window and opening", "30 s, 15 s")):
            yield name, value, value

    def _scaled(self) -> dict[str, str]:
        attempts_s = (float(attempt) for attempt in _DEPLOYED["LLM_ATTEMPT_TIMEOUTS_S"].split(","))
        attempts = ",".join(self._seconds(attempt_s, _ATTEMPT_FLOOR_S) for attempt_s in attempts_s)
        waits = {name: self._seconds(float(_DEPLOYED[name]), floor) for name, floor in _FLOORS_S.items()}
        counts = {name: f"{float(_DEPLOYED[name]) * self.speed:.0f}" for name in _COUNTS}
        return {"LLM_ATTEMPT_TIMEOUTS_S": attempts, **waits, **counts}

    def _seconds(self, real_s: float, floor_s: float) -> str:
        return f"{max(real_s / self.speed, floor_s):.4g}"
