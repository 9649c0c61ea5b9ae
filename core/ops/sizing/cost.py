"""What a plan costs a month, by part."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from core.domain.prices import Price
from core.ops.sizing.plan import READS, TURN_DOCUMENT_BYTES, WRITES, Plan

MONTH_S = 30 * 24 * 3600
LOG_BYTES = 4_000  # a turn's log lines


@cache
def cloud_prices() -> Mapping[str, Any]:
    """The dated table that ships with the code, USD."""
    text = resources.files(__package__).joinpath("cloud_prices.toml").read_text("utf-8")
    return tomllib.loads(text)


def monthly_usd(plan: Plan, model: Price) -> dict[str, float]:
    """USD by part, the LLM's tokens last."""
    demand, usd = plan.demand, cloud_prices()
    messages = demand.clinics * demand.messages * demand.peak_hours
    turns = messages * (1 - demand.coalesced)
    # A request occupies its instance while it waits for the model, with up to `concurrency` others.
    active_s = turns * demand.latency.mean_s / max(1.0, plan.turn_concurrency / 4)
    stored_gib = turns * TURN_DOCUMENT_BYTES / 2**30
    cached = demand.input_tokens * demand.cached_share
    return {
        "Cloud Run, turns": active_s * (usd["cloud_run_vcpu_s"] + usd["cloud_run_gib_s"])
        + MONTH_S * usd["cloud_run_idle_vcpu_s"],
        "Cloud Run, webhook": messages * 0.02 * usd["cloud_run_vcpu_s"]
        + MONTH_S * usd["cloud_run_idle_vcpu_s"],
        "Cloud Run, requests": 3 * messages / 1e6 * usd["cloud_run_requests_million"],
        "Cloud Tasks": 4 * messages / 1e6 * usd["cloud_tasks_million"],
        "Firestore": turns
        / 1e5
        * (READS * usd["firestore_reads_100k"] + WRITES * usd["firestore_writes_100k"])
        + stored_gib * usd["firestore_gib_month"],
        "Memorystore": plan.redis_gib * usd["memorystore_ha_gib_hour"] * MONTH_S / 3600,
        "Logging": turns * LOG_BYTES / 2**30 * usd["logging_gib"],
        f"LLM, {model.model}": turns
        / 1e6
        * (
            (demand.input_tokens - cached) * float(model.input)
            + cached * float(model.cached_input)
            + demand.output_tokens * float(model.output)
        ),
    }
