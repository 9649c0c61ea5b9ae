"""From a demand to sizes, and what gives out first."""

from __future__ import annotations

import math
from dataclasses import dataclass

from core.domain import dispatching
from core.ops.sizing.demand import Demand
from core.ops.sizing.queueing import erlang_c, turn_latency_s, wait
from core.ops.sizing.simulation import DISPATCHES_AN_EVENT

DOCUMENT_WRITES_PER_S = 1.0  # Firestore: sustained, one document
REDIS_TURNS_PER_S = 2_000.0  # four round trips and their scripts; `make bench` measures the scripts
TURN_CPU_S, WEBHOOK_CPU_S = 0.02, 0.02  # of a process, a turn or a message; `fairlane peak` measures it
BUSY_CPU = 0.6  # of an instance
SESSION_BYTES = 8_000  # session, mailbox and marks of a conversation; a full session has 12,000
SESSION_MINUTES = 30
TURN_DOCUMENT_BYTES = 4_000
DAY_WRITES = 2  # a turn writes its clinic's day when it reserves and when it settles
WRITES, READS = 7, 5  # documents a turn: claim, turn three times, day twice, memory now and then
SLOT_WAIT_S = 20.0
_REMEDIES = {
    "slots": "raise CHAT_MAX_CONCURRENT, if the provider's limits allow it",
    "queue": "cells, each a project with its queue and its clinics",
    "Redis": "cells, each a project with its Redis and its share of the slots",
    "the busiest clinic's day": "shards of that day, each with its share of the budget",
    "provider's requests": "a higher tier, or a second provider",
    "provider's tokens": "a higher tier, or shorter personas",
}


@dataclass(frozen=True, slots=True)
class Provider:
    """The LLM provider's limits; None: not known."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """`reached`: share of the limit that the demand takes; above 1 it does not fit."""

    part: str
    reached: float
    limit: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes for a demand. Rates are a second, latencies seconds from the webhook to LINE.

    `cells`: whole deployments side by side, a project each, among which the clinics are shared out so that no
    queue and no Redis is more than `busy`. They share nothing but the provider, whose limits are shared out
    with the clinics; a clinic's webhook URL leads to its cell.
    """

    demand: Demand
    slots: int
    per_org: int
    utilisation: float
    delayed: float
    p50_s: float
    p95_s: float
    dispatches_per_s: int
    room: int
    turn_instances: int
    turn_concurrency: int
    redis_gib: int
    redis_used_mib: float
    document_writes_per_s: float
    hottest_document_per_s: float
    bottlenecks: tuple[Bottleneck, ...]
    cells: int


def plan(
    demand: Demand, provider: Provider, *, per_org: int = 5, concurrency: int = 80, busy: float = 0.8
) -> Plan:
    """As few slots as keep them no more than `busy`, and hardly anybody waiting (5 % at most)."""
    slots = max(per_org, math.ceil(demand.load / busy))
    while erlang_c(slots, demand.load) > 0.05:
        slots += 1
    if provider.concurrent is not None:
        slots = min(slots, provider.concurrent)
    instances = turn_instances(slots, demand.turns_per_s, concurrency)
    conversations = demand.messages_per_s * 60 * SESSION_MINUTES / 3  # some three messages each
    redis_bytes = conversations * SESSION_BYTES + 20_000_000
    limits = _limits(demand, provider, slots)
    return Plan(
        demand=demand,
        slots=slots,
        per_org=per_org,
        utilisation=demand.load / slots,
        delayed=wait(demand.turns_per_s, demand.latency, slots).delayed,
        p50_s=turn_latency_s(demand, slots, per_org, 0.50),
        p95_s=turn_latency_s(demand, slots, per_org, 0.95),
        dispatches_per_s=dispatching.dispatches_per_s(slots, provider.requests_per_minute),
        room=dispatching.room(slots, SLOT_WAIT_S, instances=instances, concurrency=concurrency),
        turn_instances=instances,
        turn_concurrency=concurrency,
        redis_gib=max(1, math.ceil(2 * redis_bytes / 2**30)),
        redis_used_mib=redis_bytes / 2**20,
        document_writes_per_s=demand.turns_per_s * WRITES,
        hottest_document_per_s=_hottest(demand),
        bottlenecks=tuple(sorted(limits, key=lambda limit: -limit.reached)),
        cells=math.ceil(
            max(
                DISPATCHES_AN_EVENT * demand.messages_per_s / dispatching.MAX_PER_S,
                demand.turns_per_s / REDIS_TURNS_PER_S,
                slots / dispatching.MAX_AT_ONCE,
            )
            / busy
        ),
    )


def turn_instances(slots: int, turns_per_s: float, concurrency: int) -> int:
    """As many as hold what the queue's room lets in, with their CPUs no more than `BUSY_CPU`."""
    at_once = min(dispatching.waiting_room(slots, SLOT_WAIT_S), dispatching.MAX_AT_ONCE)
    return max(2, math.ceil(turns_per_s * TURN_CPU_S / BUSY_CPU), math.ceil(at_once / concurrency))


def _hottest(demand: Demand) -> float:
    """Writes a second to the busiest clinic's day."""
    return demand.shares()[0] * demand.turns_per_s * DAY_WRITES


def _limits(demand: Demand, provider: Provider, slots: int) -> list[Bottleneck]:
    per_minute = demand.turns_per_s * 60
    tokens_per_minute = per_minute * (demand.input_tokens + demand.output_tokens)
    limits: dict[str, tuple[float, float | None, str]] = {
        "slots": (demand.load, slots, "calls at once"),
        "queue": (
            DISPATCHES_AN_EVENT * demand.messages_per_s,
            dispatching.MAX_PER_S,
            "dispatches a second",
        ),
        "Redis": (demand.turns_per_s, REDIS_TURNS_PER_S, "turns a second on one core"),
        "the busiest clinic's day": (
            _hottest(demand),
            DOCUMENT_WRITES_PER_S,
            "sustained write a second to a document",
        ),
        "provider's requests": (per_minute, provider.requests_per_minute, "requests a minute"),
        "provider's tokens": (tokens_per_minute, provider.tokens_per_minute, "tokens a minute"),
    }
    return [
        Bottleneck(part, used / most, f"{most:,.0f} {what}", _REMEDIES[part])
        for part, (used, most, what) in limits.items()
        if most
    ]
