"""`fairlane capacity`: what a number of clinics needs, what gives out first, what it costs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from core.domain.capacity.cost import cloud_prices, monthly_usd
from core.domain.capacity.demand import Demand, Latency
from core.domain.capacity.dispatching import MAX_PER_S
from core.domain.capacity.plan import Plan, Provider, plan
from core.domain.capacity.simulation import Simulated, simulate
from core.domain.clinic import ModelConfig
from core.domain.prices import load_prices
from core.ports.clock import SystemClock

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
    demand = Demand(clinics, messages, Latency(latency_s, sigma))
    found = plan(demand, Provider(rpm, tpm), per_org=per_org)
    seen = simulate_cells(found) if simulated else {}
    price = load_prices().price_at(ModelConfig().model_name, SystemClock().now_ms())
    costs = monthly_usd(found, price)
    if tfvars is not None:
        tfvars.write_text(_tfvars(found, rpm, tpm), "utf-8")
    if as_json:
        typer.echo(json.dumps(_json(found, costs, seen), ensure_ascii=False, indent=2))
        return
    console = Console(highlight=False)
    console.print(_sizes(found, seen))
    console.print(_limits(found))
    if seen:
        console.print(_cells(found, seen))
    console.print(_costs(costs))
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


def _cells(found: Plan, seen: dict[int, Simulated]) -> Table:
    title = "\nas cells: whole deployments side by side, the clinics and the slots shared out"
    out = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for name in ("cells", "slots each", "p50", "p95", "p99", "wait for dispatch at the end"):
        out.add_column(name, justify="right")
    for cells, run in seen.items():
        times = (_seconds(value) for value in (run.p50_s, run.p95_s, run.p99_s, run.queued_s))
        style = "red" if run.queued_s > 1 else None
        out.add_row(f"{cells}", f"{found.slots // cells:,}", *times, style=style)
    return out


def _sizes(found: Plan, seen: dict[int, Simulated]) -> Table:
    demand = found.demand
    out = Table(
        box=None, show_header=False, pad_edge=False, title=f"{demand.clinics:,} clinics", title_justify="left"
    )
    out.add_column(style="dim")
    out.add_column()
    rows = [
        ("peak", f"{demand.messages_per_s:,.1f} messages/s, {demand.turns_per_s:,.1f} turns/s"),
        ("slots", f"{found.slots:,} (clinic: {found.per_org}), {found.utilisation:.0%} busy"),
        ("waits for a slot", f"{found.delayed:.1%} of turns"),
        ("webhook to LINE", f"p50 {_seconds(found.p50_s)}, p95 {_seconds(found.p95_s)}"),
        ("queue", f"{found.dispatches_per_s} dispatches/s, {found.room:,} at once"),
        ("turn instances", f"up to {found.turn_instances}, {found.turn_concurrency} requests each"),
        ("Redis", f"{found.redis_gib} GiB ({found.redis_used_mib:,.0f} MiB used)"),
        (
            "Firestore",
            f"{found.document_writes_per_s:,.0f} writes/s, busiest {found.hottest_document_per_s:.2f}/s",
        ),
    ]
    if seen:
        run = seen[found.cells]
        times = ", ".join(
            f"{name} {_seconds(value)}"
            for name, value in (("p50", run.p50_s), ("p95", run.p95_s), ("p99", run.p99_s))
        )
        rows.insert(4, ("  simulated", f"{times} of {run.turns:,} turns"))
    if found.cells > 1:
        rows.append(("cells", f"{found.cells} deployments: one queue or Redis does not carry it"))
    for row in rows:
        out.add_row(*row)
    return out


def _limits(found: Plan) -> Table:
    out = Table(
        box=None, pad_edge=False, header_style="bold", title="\nwhat gives out first", title_justify="left"
    )
    for name in ("part", "used", "limit", "remedy"):
        out.add_column(name, justify="right" if name == "used" else "left")
    for limit in found.bottlenecks:
        style = "red" if limit.reached > 1 else "yellow" if limit.reached > 0.8 else None
        out.add_row(limit.part, f"{limit.reached:.0%}", limit.limit, limit.remedy, style=style)
    return out


def _costs(costs: dict[str, float]) -> Table:
    title = f"\na month, USD, by prices of {cloud_prices()['dated']}"
    out = Table(box=None, pad_edge=False, show_header=False, title=title, title_justify="left")
    out.add_column(style="dim")
    out.add_column(justify="right")
    for part, usd in costs.items():
        out.add_row(part, f"{usd:,.0f}")
    out.add_row("all", f"{sum(costs.values()):,.0f}", style="bold")
    return out


def _seconds(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.1f} s"


def _tfvars(found: Plan, rpm: int | None, tpm: int | None) -> str:
    """Of one cell: its share of the provider's limits, rounded down, and of everything else, rounded up. What
    Terraform derives by itself (rate, room) is left to it. A limit that was not given is null: Terraform's
    own default would throttle what was computed without one."""
    cells = found.cells
    values: dict[str, int | None] = {
        "chat_max_concurrent": found.slots // cells,
        "chat_max_concurrent_per_org": found.per_org,
        "llm_requests_per_minute": rpm and max(1, rpm // cells),
        "llm_tokens_per_minute": tpm and max(1, tpm // cells),
        "turn_max_instances": max(2, math.ceil(found.turn_instances / cells)),
        "turn_concurrency": found.turn_concurrency,
        "redis_memory_gb": math.ceil(found.redis_gib / cells),
    }
    head = f"# fairlane capacity --clinics {found.demand.clinics} --messages {found.demand.messages:g}\n"
    if cells > 1:
        head += f"# one of {cells} cells: a deployment each, with its own name and firestore_database\n"
    return head + "".join(
        f"{name} = {'null' if value is None else value}\n" for name, value in values.items()
    )


def _json(found: Plan, costs: dict[str, float], seen: dict[int, Simulated]) -> dict[str, Any]:
    data = asdict(found)
    for name in ("p50_s", "p95_s"):
        data[name] = None if math.isinf(data[name]) else data[name]
    by_cells = {cells: asdict(run) for cells, run in seen.items()}
    simulated = {"simulated": by_cells.get(found.cells), "simulated_by_cells": by_cells}
    return {**data, "monthly_usd": costs, **simulated}
