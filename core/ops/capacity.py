"""`fairlane capacity`: what a number of clinics needs, what gives out first, what it costs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from core.adapters.system_clock import SystemClock
from core.domain.clinic import ModelConfig
from core.domain.dispatching import MAX_PER_S
from core.domain.prices import load_prices
from core.ops.sizing.cost import cloud_prices, monthly_usd
from core.ops.sizing.demand import Demand, Latency
from core.ops.sizing.plan import Plan, Provider, plan
from core.ops.sizing.simulation import Simulated, simulate
from core.ops.sizing.tfvars import written

SIMULATED_S = 900.0


def capacity(
    clinics: Annotated[int, typer.Option(help="How many clinics.", min=1)] = 500,
    messages: Annotated[
        float, typer.Option(help="Messages a clinic gets in its peak hour, on average.", min=0.1)
    ] = 30.0,
    latency_s: Annotated[
        float, typer.Option("--latency", help="Median of an LLM call, seconds.", min=0.01)
    ] = 2.5,
    sigma: Annotated[float, typer.Option(help="Its spread: sigma of the logarithm.", min=0.0, max=3.0)] = 0.5,
    rpm: Annotated[int | None, typer.Option(help="The provider's requests per minute.", min=1)] = None,
    tpm: Annotated[int | None, typer.Option(help="The provider's tokens per minute.", min=1)] = None,
    per_org: Annotated[int, typer.Option(help="Slots that one clinic may hold.", min=1)] = 5,
    simulated: Annotated[
        bool, typer.Option("--simulate", help="Check the prediction by simulating a quarter of an hour.")
    ] = False,
    tfvars: Annotated[Path | None, typer.Option(help="Write the sizes to a file for Terraform.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Slots, dispatch rate, instances, Redis, Firestore and money for a number of clinics.

    Waiting times come from a queueing model (M/G/c); --simulate checks them event by event, also for 50,000
    clinics, and shows how cells go on where one queue or one Redis ends.

        fairlane capacity --clinics 5000 --rpm 10000 --simulate --tfvars terraform/sizes.auto.tfvars
    """
    provider = Provider(rpm, tpm)
    found = plan(Demand(clinics, messages, Latency(latency_s, sigma)), provider, per_org=per_org)
    seen = simulate_cells(found) if simulated else {}
    price = load_prices().price_at(ModelConfig().model_name, SystemClock().now_ms())
    costs = monthly_usd(found, price)
    if tfvars is not None:
        tfvars.write_text(written(found, provider), "utf-8")
    if as_json:
        typer.echo(json.dumps(_json(found, costs, seen), ensure_ascii=False, indent=2))
        return
    console = Console(highlight=False)
    for part in (
        _sizes(found, seen),
        _limits(found),
        *([_cells(found, seen)] if seen else []),
        _costs(costs),
    ):
        console.print(part)
    if tfvars is not None:
        by_itself = f"Terraform in {tfvars.parent}/ reads it by itself"
        used = by_itself if tfvars.name.endswith(".auto.tfvars") else f"-var-file={tfvars.resolve()}"
        console.print(f"wrote {tfvars}: {used}", soft_wrap=True)


def simulate_cells(found: Plan) -> dict[int, Simulated]:
    """By number of cells: one, as many as the plan asks for, and twice as many."""
    return {
        cells: simulate(
            found.demand,
            found.slots,
            found.per_org,
            cells=cells,
            dispatches_per_s=MAX_PER_S,
            seconds=SIMULATED_S,
        )
        for cells in sorted({1, found.cells, 2 * found.cells})
    }


def _table(title: str, columns: Sequence[str] = ("", ""), right: Sequence[str] = ()) -> Table:
    """Without names of columns, the first is dim. `right`: columns that stand at the right."""
    named = any(columns)
    out = Table(
        box=None, pad_edge=False, header_style="bold", title=title, title_justify="left", show_header=named
    )
    for i, name in enumerate(columns):
        style = None if named or i else "dim"
        out.add_column(name, justify="right" if name in right else "left", style=style)
    return out


def _sizes(found: Plan, seen: dict[int, Simulated]) -> Table:
    demand = found.demand
    out = _table(f"{demand.clinics:,} clinics")
    out.add_row("peak", f"{demand.messages_per_s:,.1f} messages/s, {demand.turns_per_s:,.1f} turns/s")
    out.add_row("slots", f"{found.slots:,} (clinic: {found.per_org}), {found.utilisation:.0%} busy")
    out.add_row("waits for a slot", f"{found.delayed:.1%} of turns")
    out.add_row("webhook to LINE", f"p50 {_seconds(found.p50_s)}, p95 {_seconds(found.p95_s)}")
    if seen:
        run = seen[found.cells]
        p50, p95, p99 = map(_seconds, (run.p50_s, run.p95_s, run.p99_s))
        out.add_row("  simulated", f"p50 {p50}, p95 {p95}, p99 {p99} of {run.turns:,} turns")
    out.add_row("queue", f"{found.dispatches_per_s} dispatches/s, {found.room:,} at once")
    out.add_row("turn instances", f"up to {found.turn_instances}, {found.turn_concurrency} requests each")
    out.add_row("Redis", f"{found.redis_gib} GiB ({found.redis_used_mib:,.0f} MiB used)")
    busiest = f"busiest {found.hottest_document_per_s:.2f}/s"
    out.add_row("Firestore", f"{found.document_writes_per_s:,.0f} writes/s, {busiest}")
    if found.cells > 1:
        why = "one queue or Redis does not carry it"
        out.add_row("cells", f"{found.cells} deployments, a project each: {why}")
    return out


def _limits(found: Plan) -> Table:
    out = _table("\nwhat gives out first", ("part", "used", "limit", "remedy"), right=["used"])
    for limit in found.bottlenecks:
        style = "red" if limit.reached > 1 else "yellow" if limit.reached > 0.8 else None
        out.add_row(limit.part, f"{limit.reached:.0%}", limit.limit, limit.remedy, style=style)
    return out


def _cells(found: Plan, seen: dict[int, Simulated]) -> Table:
    title = "\nas cells: whole deployments side by side, the clinics and the slots shared out"
    columns = ("cells", "slots each", "p50", "p95", "p99", "wait for dispatch at the end")
    out = _table(title, columns, right=columns)
    for cells, run in seen.items():
        times = map(_seconds, (run.p50_s, run.p95_s, run.p99_s, run.queued_s))
        style = "red" if run.queued_s > 1 else None
        out.add_row(f"{cells}", f"{found.slots // cells:,}", *times, style=style)
    return out


def _costs(costs: dict[str, float]) -> Table:
    out = _table(f"\na month, USD, by prices of {cloud_prices()['dated']}")
    out.columns[1].justify = "right"
    for part, usd in costs.items():
        out.add_row(part, f"{usd:,.0f}")
    out.add_row("all", f"{sum(costs.values()):,.0f}", style="bold")
    return out


def _seconds(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.1f} s"


def _json(found: Plan, costs: dict[str, float], seen: dict[int, Simulated]) -> dict[str, Any]:
    finite = {name: None for name in ("p50_s", "p95_s") if math.isinf(getattr(found, name))}
    by_cells = {cells: asdict(run) for cells, run in seen.items()}
    simulated = {"simulated": by_cells.get(found.cells), "simulated_by_cells": by_cells}
    return {**asdict(found), **finite, "monthly_usd": costs, **simulated}
