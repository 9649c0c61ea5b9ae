"""A plan as variables for Terraform, for one deployment: all without which it would refuse the sizes."""

from __future__ import annotations

import math

from core.ops.sizing.plan import BUSY_CPU, WEBHOOK_CPU_S, Plan, Provider, turn_instances

ADDRESSES_AN_INSTANCE = 4  # terraform/network.tf
RESERVED_ADDRESSES = 4  # of a subnet, by Google
DEFAULT_PREFIX_LENGTH = 24  # of Terraform's subnet_cidr
FAILED_TURNS = 0.001  # of all, above which somebody is woken


def written(found: Plan, provider: Provider) -> str:
    """Of one cell: its share of the provider's limits, rounded down, and of everything else, rounded up.

    What Terraform derives by itself (rate, room) is left to it. A limit that was not given is null, since
    Terraform's own default would throttle what was computed without one."""
    cells, demand = found.cells, found.demand
    slots = max(1, found.slots // cells)
    turns_per_s, messages_per_s = demand.turns_per_s / cells, demand.messages_per_s / cells
    instances = turn_instances(slots, turns_per_s, found.turn_concurrency)
    webhooks = max(10, math.ceil(messages_per_s * WEBHOOK_CPU_S / BUSY_CPU))
    rpm, tpm = provider.requests_per_minute, provider.tokens_per_minute
    values = {
        "chat_max_concurrent": slots,
        "chat_max_concurrent_per_org": min(found.per_org, slots),
        "llm_requests_per_minute": max(1, rpm // cells) if rpm else "null",
        "llm_tokens_per_minute": max(1, tpm // cells) if tpm else "null",
        "turn_max_instances": instances,
        "turn_concurrency": found.turn_concurrency,
        "webhook_max_instances": webhooks,
        "redis_memory_gb": math.ceil(found.redis_gib / cells),
        "alert_failed_turns": max(5, math.ceil(turns_per_s * 600 * FAILED_TURNS)),
    }
    if (length := _prefix_length(instances + webhooks)) < DEFAULT_PREFIX_LENGTH:
        values["subnet_cidr"] = f'"10.8.0.0/{length}"  # grows in place if the range in use is a part of it'
    head = f"# fairlane capacity --clinics {demand.clinics} --messages {demand.messages:g}\n"
    if cells > 1:
        head += (
            f"# One of {cells} cells: a project and a state each. In one project: a `name` each, from which\n"
        )
        head += "# database and secrets take theirs.\n"
    return head + "".join(f"{name} = {value}\n" for name, value in values.items())


def _prefix_length(instances: int) -> int:
    """Of the smallest subnet that has addresses for them."""
    return 32 - math.ceil(math.log2(ADDRESSES_AN_INSTANCE * instances + RESERVED_ADDRESSES))
