"""The deployment that Terraform builds, for whatever stands in for it: local stack, tests, benches, the peak.

tests/terraform/test_deployment.py compares all of it with Terraform.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from core.domain import dispatching
from core.domain.settings import VARIABLES, Role
from core.local.task_store import QueueConfig, RetryPolicy

TURN_MAX_INSTANCES: Final = 4
TURN_CONCURRENCY: Final = 80
TIMEOUT_S: Final[Mapping[Role, int]] = {"webhook": 10, "turn": 120}
RETRY: Final = RetryPolicy(
    max_attempts=100, max_retry_s=90_000, min_backoff_s=1.0, max_backoff_s=60.0, max_doublings=6
)
_DIFFERENT_DEFAULTS: Final = {"LLM_REQUESTS_PER_MINUTE": "500"}
"""Where Terraform's default is not the function's own."""


def settings(chosen: Mapping[str, str]) -> dict[str, str]:
    """The functions' tunable settings as Terraform sets them, with what was `chosen` over its defaults."""
    return {**_DIFFERENT_DEFAULTS, **chosen}


def queue(chosen: Mapping[str, str]) -> QueueConfig:
    """Rate and room that follow from these settings; retries as deployed."""
    values = {v.name: v.default for v in VARIABLES} | settings(chosen)
    slots, slot_wait_s = int(values["CHAT_MAX_CONCURRENT"] or 0), float(values["SLOT_WAIT_S"] or 0)
    requests_per_minute = int(values["LLM_REQUESTS_PER_MINUTE"] or 0) or None
    return QueueConfig(
        max_dispatches_per_s=dispatching.dispatches_per_s(slots, requests_per_minute),
        max_concurrent=dispatching.room(
            slots, slot_wait_s, instances=TURN_MAX_INSTANCES, concurrency=TURN_CONCURRENCY
        ),
        retry=RETRY,
    )


def platform(role: Role, port: int) -> dict[str, str]:
    """What Cloud Run sets in the environment of a function's container."""
    return {
        "PORT": str(port),
        "K_SERVICE": f"fairlane-{role}",
        "K_REVISION": f"fairlane-{role}-00001-loc",
        "K_CONFIGURATION": f"fairlane-{role}",
        "CLOUD_RUN_TIMEOUT_SECONDS": str(TIMEOUT_S[role]),
    }
