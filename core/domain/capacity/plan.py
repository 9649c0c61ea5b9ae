"""From a demand to sizes, and what gives out first."""

from __future__ import annotations

import math
from dataclasses import dataclass

from core.domain.capacity import dispatching
from core.domain.capacity.demand import Demand
from core.domain.capacity.queueing import erlang_c, turn_latency_s, wait
from core.domain.capacity.simulation import DISPATCHES_AN_EVENT

DOCUMENT_WRITES_PER_S = 1.0  # Firestore: sustained, one document
REDIS_TURNS_PER_S = 2_000.0  # four round trips and their scripts; `make bench` measures the scripts
TURN_CPU_S = 0.02  # of a turn process; `fairlane peak` measures it
SESSION_BYTES = 8_000  # session, mailbox and marks of a conversation; a full session has 12,000
SESSION_MINUTES = 30
TURN_DOCUMENT_BYTES = 4_000
DAY_WRITES = 2  # a turn writes its clinic's day when it reserves and when it settles
WRITES, READS = 7, 5  # documents a turn: claim, turn three times, day twice, memory now and then


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

    `cells`: whole deployments side by side (Terraform's `name` and `firestore_database`), among which the
    clinics are shared out so that no queue and no Redis is more than `busy`. They share nothing but the
    provider, whose limits are shared out with the clinics; a clinic's webhook URL leads to its cell.
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
    demand: Demand,
    provider: Provider,
    *,
    per_org: int = 5,
    slot_wait_s: float = 20.0,
    concurrency: int = 80,
    busy: float = 0.8,
) -> Plan:
    """As few slots as keep them no more than `busy`, and hardly anybody waiting (5 % at most)."""
    slots = max(per_org, math.ceil(demand.load / busy))
    while erlang_c(slots, demand.load) > 0.05:
        slots += 1
    if provider.concurrent is not None:
        slots = min(slots, provider.concurrent)
    waiting = dispatching.waiting_room(slots, slot_wait_s)
    by_cpu = demand.turns_per_s * TURN_CPU_S / 0.6  # a vCPU no more than 60 % busy
    instances = max(2, math.ceil(by_cpu), math.ceil(min(waiting, dispatching.MAX_AT_ONCE) / concurrency))
    conversations = demand.messages_per_s * 60 * SESSION_MINUTES / 3  # some three messages each
    redis_bytes = conversations * SESSION_BYTES + 20_000_000
    hottest = demand.shares()[0] * demand.turns_per_s * DAY_WRITES
    return Plan(
        demand=demand,
        slots=slots,
        per_org=per_org,
        utilisation=demand.load / slots,
        delayed=wait(demand.turns_per_s, demand.latency, slots).delayed,
        p50_s=turn_latency_s(demand, slots, per_org, 0.50),
        p95_s=turn_latency_s(demand, slots, per_org, 0.95),
        dispatches_per_s=dispatching.dispatches_per_s(slots, provider.requests_per_minute),
        room=dispatching.room(slots, slot_wait_s, instances=instances, concurrency=concurrency),
        turn_instances=instances,
        turn_concurrency=concurrency,
        redis_gib=max(1, math.ceil(2 * redis_bytes / 2**30)),
        redis_used_mib=redis_bytes / 2**20,
        document_writes_per_s=demand.turns_per_s * WRITES,
        hottest_document_per_s=hottest,
        bottlenecks=_bottlenecks(demand, provider, slots, hottest),
        cells=max(
            math.ceil(DISPATCHES_AN_EVENT * demand.messages_per_s / (busy * dispatching.MAX_PER_S)),
            math.ceil(demand.turns_per_s / (busy * REDIS_TURNS_PER_S)),
        ),
    )


def _bottlenecks(demand: Demand, provider: Provider, slots: int, hottest: float) -> tuple[Bottleneck, ...]:
    """Every limit, the one that gives out first at the top."""
    rate = demand.turns_per_s
    tokens = rate * 60 * (demand.input_tokens + demand.output_tokens)
    found = [
        Bottleneck(
            "slots",
            demand.load / slots,
            f"{slots} calls at once",
            "raise CHAT_MAX_CONCURRENT, if the provider's limits allow it",
        ),
        Bottleneck(
            "queue",
            DISPATCHES_AN_EVENT * demand.messages_per_s / dispatching.MAX_PER_S,
            f"{dispatching.MAX_PER_S} dispatches a second",
            "cells, each with its queue and its clinics",
        ),
        Bottleneck(
            "Redis",
            rate / REDIS_TURNS_PER_S,
            f"{REDIS_TURNS_PER_S:.0f} turns a second on one core",
            "cells, each with its Redis and its share of the slots",
        ),
        Bottleneck(
            "the busiest clinic's day",
            hottest / DOCUMENT_WRITES_PER_S,
            "1 sustained write a second to a document",
            "shards of that day, each with its share of the budget",
        ),
    ]
    if provider.requests_per_minute:
        reached = rate * 60 / provider.requests_per_minute
        limit = f"{provider.requests_per_minute:,} requests a minute"
        found.append(Bottleneck("provider's requests", reached, limit, "a higher tier, or a second provider"))
    if provider.tokens_per_minute:
        reached = tokens / provider.tokens_per_minute
        limit = f"{provider.tokens_per_minute:,} tokens a minute"
        found.append(Bottleneck("provider's tokens", reached, limit, "a higher tier, or shorter personas"))
    return tuple(sorted(found, key=lambda bottleneck: -bottleneck.reached))
