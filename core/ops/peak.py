"""`fairlane peak`: the peak hour of hundreds of clinics on this machine, with faults, and a verdict."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from core.local.peak import report as reports
from core.local.peak.evidence import Evidence
from core.local.peak.judge import Verdict, judge
from core.local.peak.run import Live, PeakOptions, PeakRun
from core.local.peak.scenario import ScenarioOptions

_QUICK_MINUTES = 6.0
_QUICK_SPEED = 12.0
_QUICK_COMPARE_S = 1.5
_RESULT = {True: "[green]kept[/]", False: "[red]BROKEN[/]", None: "[yellow]not shown[/]"}


def peak(
    clinics: Annotated[int, typer.Option(help="Clinics, sized by Zipf.", min=2, max=5000)] = 500,
    instances: Annotated[int, typer.Option(help="Processes of the turn function.", min=1, max=16)] = 4,
    minutes: Annotated[float, typer.Option(help="Length of the simulated time.", min=1, max=600)] = 60.0,
    speed: Annotated[
        float, typer.Option(help="Simulated seconds in a real one; 1 is real time.", min=1, max=60)
    ] = 15.0,
    load: Annotated[
        float, typer.Option(help="Mean arrivals, as a share of what the slots can answer.", min=0.05, max=2)
    ] = 0.65,
    slots: Annotated[int, typer.Option(help="CHAT_MAX_CONCURRENT.", min=1, max=1000)] = 10,
    faults: Annotated[
        bool, typer.Option("--faults", help="Redeliveries, duplicates, 429 storms, kills, a lost Redis.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Six minutes instead of the hour, at twelve times the speed.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed makes the same arrivals.")] = 0,
    firestore: Annotated[
        bool, typer.Option("--firestore", help="Google's Firestore emulator instead of SQLite.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write the report to this file: one HTML page with plots.")
    ] = None,
) -> None:
    """The peak hour of hundreds of clinics, on this machine, through the real functions.

    Everything runs here: the webhook and turn functions, Redis, the queue, and stand-ins for LINE and
    OpenAI. Customers write in conversations, a peak comes, and one clinic sends a campaign to all its
    followers. What the stand-ins saw is the judge: nothing lost, nothing answered twice, no limit and no
    budget exceeded, small clinics not starved.

    Ends with 1 if a promise is broken. The defaults take about five minutes, --quick about one.

        fairlane peak --quick --faults
        fairlane peak --faults --report peak.html
        fairlane peak --clinics 50 --minutes 5 --speed 1     in real time
    """
    options = PeakOptions(
        ScenarioOptions(
            clinics=clinics,
            minutes=min(minutes, _QUICK_MINUTES) if quick else minutes,
            slots=slots,
            load=load,
            seed=seed,
        ),
        instances=instances,
        speed=min(speed, _QUICK_SPEED) if quick else speed,
        faults=faults,
        firestore=firestore,
    )
    if quick:
        options = replace(options, compare_s=_QUICK_COMPARE_S)
    evidence = _run(options)
    verdict = judge(evidence)
    if report is not None:
        report.write_text(reports.to_html(evidence, verdict), "utf-8")
    if as_json:
        typer.echo(json.dumps(reports.to_json(evidence, verdict), ensure_ascii=False, indent=2))
    else:
        _show(Console(), verdict, report)
    if not verdict.kept:
        raise typer.Exit(1)


def _run(options: PeakOptions) -> Evidence:
    """With a progress bar on standard error, so that standard output is the result alone."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[live]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=options.scenario.duration_s, live="")

        def show(live: Live) -> None:
            figures = (
                f"minute {live.at_s / 60:4.1f}  sent {live.sent:,}  answered {live.answered:,}  "
                f"calls {live.running}/{live.slots}"
            )
            progress.update(task, description=live.phase, completed=live.at_s, live=figures)

        return asyncio.run(PeakRun(options, show)())


def _show(console: Console, verdict: Verdict, report: Path | None) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("promise", "target", "seen", "", "how"):
        table.add_column(name, overflow="fold", style="dim" if name == "how" else None)
    for promise in verdict.promises:
        table.add_row(promise.name, promise.target, promise.shown, _RESULT[promise.holds], promise.note)
    console.print(table)
    for size, seen in verdict.latency.items():
        console.print(
            f"{size} clinics: {seen.count:,} messages, p50 {seen.p50:.1f} s, p95 {seen.p95:.1f} s, "
            f"p99 {seen.p99:.1f} s"
        )
    if (verdict.figures["stand_in_lag_p99_ms"] or 0) > reports.BUSY_MACHINE_MS:
        console.print("[yellow]The machine could not keep up: a lower --speed asks less of it.[/]")
    if report is not None:
        console.print(f"report: {report}")
