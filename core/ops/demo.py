"""`fairlane demo`: customers of five clinics are answered, on this machine, in front of your eyes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.domain.money import format_baht
from core.local.demo import SHORTENED, options, perform
from core.local.demo_play import Scene
from core.local.demo_report import Line, Report

WIDTH = 100
_TITLE_WIDTH = 44
_NOTES = {"refused": "✗ 401", "silent": "no answer, on purpose", "unanswered": "✗ not answered"}
_MARKS = {"running": ("…", "dim"), "held": ("✓", "green"), "broken": ("✗", "red")}


def demo(
    turns: Annotated[int, typer.Option(help="Processes of the turn function.", min=2, max=16)] = 3,
    openai: Annotated[bool, typer.Option("--openai", help="The real OpenAI, with OPENAI_API_KEY.")] = False,
    firestore: Annotated[bool, typer.Option("--firestore", help="Google's Firestore emulator.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything at the end, for programs.")] = False,
    keep: Annotated[Path | None, typer.Option(help="A folder to leave logs and documents in.")] = None,
) -> None:
    """Watch customers of five clinics being answered, on this machine. Status 1 if a promise did not hold."""
    chosen = options(turns=turns, openai=openai, firestore=firestore, run_dir=keep)
    console = Console(width=None if as_json else WIDTH, quiet=as_json, highlight=False)
    far_side = "LINE is a stand-in" if chosen.openai_real else "LINE and OpenAI are stand-ins"
    console.print(f"[bold]fairlane demo[/bold]: the functions as deployed, real sockets; {far_side}")
    shortened = ", ".join(f"{name}={value}" for name, value in SHORTENED.items())
    console.print(f"[dim]shorter than in production, so that the scenes are: {shortened}[/dim]\n")
    progress = _Progress(console)
    try:
        found = asyncio.run(
            perform(chosen, watch=progress.show, on_ready=progress.ready, coloured=console.is_terminal)
        )
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        progress.end()
    if as_json:
        typer.echo(json.dumps(found.as_json(), ensure_ascii=False, indent=2))
    else:
        _print(console, found)
    if found.broken:
        for reason in found.broken:
            typer.echo(f"broken: {reason}", err=True)
        raise typer.Exit(1)


class _Progress:
    """One line a scene, when it is over; on a terminal also what is under way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._running: list[str] = []
        self._status = console.status("starting Redis, the queue, LINE, OpenAI and the functions")
        if console.is_terminal:
            self._status.start()

    def ready(self, seconds: float) -> None:
        self._console.print(f"started in {seconds:.1f} s\n")

    def show(self, scene: Scene) -> None:
        if scene.state == "running":
            self._running.append(scene.title)
        else:
            self._running.remove(scene.title)
            mark, style = _MARKS[scene.state]
            line = Text(f"{mark} ", style=style)
            line.append(f"{scene.title:<{_TITLE_WIDTH}} ", style="bold")
            line.append("; ".join(scene.broken) or scene.outcome, style="not bold")
            self._console.print(line)
        self._status.update(" · ".join(self._running) or "counting")

    def end(self) -> None:
        self._status.stop()


def _print(console: Console, found: Report) -> None:
    console.print("\n[bold]What was said[/bold]")
    console.print(_transcript(found))
    console.print("\n[bold]What came of it[/bold]")
    console.print(_figures(found))
    console.print("\n[bold]What it cost[/bold] (fairlane spend)")
    typer.echo(found.spend_table.rstrip())
    if found.judged_by_model:
        console.print(_books(found))
    verdict = "[green]every promise held[/green]" if not found.broken else "[red]not every promise held[/red]"
    console.print(f"\n{verdict}, {len(found.scenes)} scenes, {found.seconds:.0f} s")
    console.print("talk to it yourself: [bold]make dev[/bold], and open the console's URL in a browser")


def _transcript(found: Report) -> Table:
    """Clinic by clinic, chat by chat: what was said and, below it, the reply with how it came about."""
    table = Table(box=None, pad_edge=False, collapse_padding=True, show_header=False, width=WIDTH)
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", style="dim", no_wrap=True)
    chats: dict[tuple[str, str], list[Line]] = {}
    order = {figures.org_id: place for place, figures in enumerate(found.clinics)}
    for line in sorted(found.transcript, key=lambda line: order[line.org_id]):
        chats.setdefault((line.clinic, line.customer), []).append(line)
    for (clinic, customer), lines in chats.items():
        table.add_row()
        table.add_row("", Text(f"{clinic} · {customer}", style="bold cyan"), "")
        for line in lines:
            at = f"{line.at_ms / 1000:.1f} s"
            if line.said:
                table.add_row(at, line.said, _NOTES.get(line.outcome, ""))
            if line.reply:
                reply = Text(f"↳ {line.reply}", style="green")
                table.add_row("" if line.said else at, reply, _how(line))
    return table


def _how(line: Line) -> str:
    if line.outcome == "notice":
        return line.how
    took = f"{line.latency_ms / 1000:.1f} s" if line.latency_ms is not None else ""
    return " ".join(filter(None, (line.how, line.instance, line.model or "no model", took)))


def _figures(found: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("clinic")
    for name in ("received", "answered", "silent", "duplicates", "refused", "p50", "p95", "spend"):
        table.add_column(name, justify="right")
    for row in found.clinics:
        seconds = ("" if ms is None else f"{ms / 1000:.2f} s" for ms in (row.p50_ms, row.p95_ms))
        counts = (row.received, row.answered, row.silent, row.duplicates, row.refused)
        table.add_row(
            row.clinic,
            *(str(count) for count in counts),
            *seconds,
            format_baht(row.spent_micro_baht),
            style="" if row.org_id else "bold",
        )
    return table


def _books(found: Report) -> Table:
    """OpenAI's side of the same sum."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    booked = sum(row["spent_micro_baht"] for row in found.spend)
    for name, amount in (
        ("served by OpenAI, by its own count of tokens", found.served_micro_baht),
        (
            "the killed instance's call, at its worst case: nobody knows what was billed",
            found.unknown_micro_baht,
        ),
        ("together", found.served_micro_baht + found.unknown_micro_baht),
        ("booked by fairlane", booked),
    ):
        table.add_row(name, f"{format_baht(amount, decimals=6)}")
    return table
