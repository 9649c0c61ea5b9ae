"""Time compression: what is scaled, what has a floor, and what cannot be scaled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from core.domain.settings import VARIABLES, Settings
from core.local import deployment
from core.local.openai_api import Latency
from core.local.peak.scenario import ScenarioOptions
from core.local.task_store import QueueConfig


@dataclass(frozen=True, slots=True)
class Scaled:
    """One waiting time: its value in production and what it is here. `why` it isn't simply divided."""

    name: str
    real: str
    here: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Compression:
    """`speed` simulated seconds pass in one real second. Floors are there because the machine's own pauses
    (2 cores, seven processes) do not shrink: a lease below them would be lost by honest holders."""

    speed: float
    lease_floor_s: float = 4.0
    attempt_floor_s: float = 3.0
    slot_wait_floor_s: float = 20.0
    patience_floor_s: float = 40.0

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
        deployed = Settings.read(deployment.settings({}), ())
        attempt_s = max(deployed.llm_attempt_timeouts_s[-1] / self.speed, self.attempt_floor_s)
        values: dict[str, Any] = {
            "CHAT_MAX_CONCURRENT": options.slots,
            "CHAT_MAX_CONCURRENT_PER_ORG": options.org_slots,
            "LLM_REQUESTS_PER_MINUTE": round((deployed.llm_requests_per_minute or 0) * self.speed),
            "LLM_ATTEMPT_TIMEOUTS_S": ",".join([_seconds(attempt_s)] * 3),
            "LLM_DEADLINE_S": _seconds(
                max(deployed.llm_deadline_s / self.speed, 3 * self.attempt_floor_s + 1)
            ),
            "LLM_BACKOFF_S": _seconds(deployed.llm_backoff_s / self.speed),
            "LLM_JITTER_S": _seconds(deployed.llm_jitter_s / self.speed),
            "SLOT_WAIT_S": _seconds(max(deployed.slot_wait_s / self.speed, self.slot_wait_floor_s)),
            "SLOT_LEASE_S": _seconds(max(deployed.slot_lease_s / self.speed, self.lease_floor_s)),
            "PATIENCE_S": _seconds(max(deployed.patience_s / self.speed, self.patience_floor_s)),
            "ORG_ROOM": round(deployed.org_room * self.speed),
            "ORG_MESSAGES_PER_MINUTE": min(60_000, round(deployed.org_messages_per_minute * self.speed)),
            "SENDER_MESSAGES_PER_10S": round(deployed.sender_messages_per_10s * self.speed),
            "LOG_LEVEL": "WARNING",
        }
        return {name: str(value) for name, value in values.items()}

    def table(self, options: ScenarioOptions) -> list[Scaled]:
        """For the report: every waiting time of the system."""
        here = self.environment(options)
        deployed = {v.name: v.default for v in VARIABLES} | deployment.settings({})

        def setting(name: str, why: str = "") -> Scaled:
            return Scaled(name, deployed[name] or "none", here[name], why)

        floor = "not below this: the machine's own pauses do not shrink"
        queue, here_queue = replace(self, speed=1.0).queue(options), self.queue(options)
        at_once = "a number of dispatches at once: unscaled"
        count = "a count, scaled because what it is measured against is scaled"
        latency = self.latency(options.latency)
        return [
            Scaled(
                "the model's latency (median)",
                f"{options.latency.median_s:g} s",
                f"{latency.median_s * latency.scale * 1000:.0f} ms",
            ),
            Scaled(
                "the queue's dispatches",
                f"{queue.max_dispatches_per_s:g}/s",
                f"{here_queue.max_dispatches_per_s:g}/s",
            ),
            Scaled("the queue's room", f"{queue.max_concurrent}", f"{here_queue.max_concurrent}", at_once),
            Scaled(
                "the queue's first backoff",
                f"{queue.retry.min_backoff_s:g} s",
                f"{here_queue.retry.min_backoff_s * 1000:.0f} ms",
            ),
            setting("LLM_REQUESTS_PER_MINUTE"),
            setting("LLM_BACKOFF_S"),
            setting("LLM_JITTER_S"),
            setting("LLM_ATTEMPT_TIMEOUTS_S", floor),
            setting("LLM_DEADLINE_S", floor),
            setting(
                "SLOT_WAIT_S",
                "what follows it, a put-back of up to 1 s, is unscaled",
            ),
            setting("SLOT_LEASE_S", floor),
            setting("PATIENCE_S", "not below: restarts and leases take their time"),
            setting("ORG_ROOM", "a full room puts back for 2 to 3 s, unscaled"),
            setting("ORG_MESSAGES_PER_MINUTE", count),
            setting("SENDER_MESSAGES_PER_10S", count),
            Scaled("freshness of reply tokens", "50 s", "50 s", "LINE's rule is fixed in the code: unscaled"),
            Scaled("cooldown after a 429", "Retry-After", "Retry-After ÷ speed", "set by the stand-in"),
            Scaled("circuit's window and opening", "30 s, 15 s", "30 s, 15 s", "unscaled"),
        ]


def _seconds(value: float) -> str:
    return f"{value:.4g}"
