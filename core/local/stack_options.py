"""What can be chosen about the local stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.local.cloud_tasks import QueueConfig
from core.local.openai_api import Latency


@dataclass(frozen=True, slots=True)
class Function:
    """What functions-framework runs. `source` is relative to the checkout, or absolute."""

    target: str
    source: str


@dataclass(frozen=True, slots=True)
class StackOptions:
    """`environment` goes over what the stack sets (CHAT_MAX_CONCURRENT and so on).

    `backup`: a second provider of that name, a stand-in of its own. `openai_real` needs OPENAI_API_KEY in our
    own environment. `run_dir`: where logs, documents and secrets go; without one, a temporary folder that is
    removed at the end. `redis_snapshots` lets `redis.snapshot()` and `redis.restart()` lose the last writes,
    as a failover does.
    """

    turns: int = 3
    webhooks: int = 1
    firestore: bool = False
    openai_real: bool = False
    backup: bool = False
    redis_snapshots: bool = False
    queue: QueueConfig | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    latency: Latency = field(default_factory=Latency)
    line_latency_s: float = 0.0
    seed: int = 0
    run_dir: Path | None = None
    webhook_function: Function = Function("webhook", "functions/webhook/main.py")
    turn_function: Function = Function("turn", "functions/turn/main.py")
    ready_timeout_s: float = 60.0
