"""`fairlane insights`: what came of customers' conversations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.domain.budget import budget_day
from core.domain.errors import InvalidInputError
from core.domain.money import format_baht
from core.ops.insights_report import to_html
from core.ops.session import Session, run
from core.ops.spend_table import shown_day
from core.ops.terminal import stdout
from core.usecases.operate.insights import Insights, ReadInsights
from core.usecases.operate.spend_report import parse_day, shifted

_DAYS = 30
_FUNNEL = {
    "conversations": "conversations",
    "advised": "came to advice",
    "to_book": "came to a booking",
    "bookings": "bookings asked for",
    "confirmed": "confirmed by staff",
}


def insights(
    org: Annotated[str | None, typer.Option(help="One clinic's org_id; all of them if left out.")] = None,
    first: Annotated[
        str | None, typer.Option("--from", help="First day: YYYY-MM-DD. Default: 30 days in all.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day. Default: today.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Counters and sums, for programs.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="A page in Thai for the clinic's owner. Needs --org."),
    ] = None,
) -> None:
    """Funnel from conversation to confirmed booking, baht a booking, waiting times, hours, open questions.

    Example: fairlane insights --org bkk-smile --from 2026-11-01 --to 2026-11-30 --report november.html
    """
    if report and org is None:
        raise InvalidInputError("--report: a page is one clinic's: name it with --org")

    async def read(here: Session) -> tuple[Insights, list[Insights] | None]:
        timezone = here.settings.budget_timezone
        end = parse_day(last or "today", today := budget_day(here.clock.now_ms(), timezone))
        days = parse_day(first, today) if first else shifted(end, 1 - _DAYS), end
        reader = ReadInsights(here.documents, here.clock, timezone)
        return (await reader.of_clinic(org, *days), None) if org else await reader.of_all(*days)

    found, clinics = run(read)
    if report:
        report.write_text(to_html(found), "utf-8")
    if as_json:
        typer.echo(json.dumps(insights_json(found, clinics), ensure_ascii=False, indent=2))
    else:
        _print(stdout(highlight=False), found, clinics)


def insights_json(found: Insights, clinics: list[Insights] | None) -> dict[str, Any]:
    """Of all clinics: their sum, and each of them."""
    whole = found.as_json()
    return whole if clinics is None else {**whole, "clinics": [each.as_json() for each in clinics]}


def _print(console: Console, found: Insights, clinics: list[Insights] | None) -> None:
    name = f"{found.org_id}, " if found.org_id else "all clinics, "
    console.print(f"[bold]{name}{shown_day(found.first_day)} to {shown_day(found.last_day)}[/bold]")
    if not found.count("turns"):
        console.print("nothing was counted on these days")
        return
    console.print(_figures(found))
    if found.questions:
        console.print("\n[bold]asked, and not answered by the clinic's words[/bold]")
        for question in found.questions:
            words = question.latest.question if question.latest else ""
            console.print(Text(f"  {question.count:>4}  {question.org_id}  {words}"))
    if clinics:
        console.print()
        console.print(_clinics(clinics))


def _figures(found: Insights) -> Table:
    out = Table(box=None, show_header=False, pad_edge=False)
    out.add_column(style="dim")
    out.add_column(justify="right")
    out.add_column(style="dim")
    opened = found.count("conversations")
    for name, count in found.funnel.items():
        share = f"{count / opened:.0%} of conversations" if opened and name != "conversations" else ""
        out.add_row(_FUNNEL[name], f"{count:,}", share)
    kinds = ", ".join(
        f"{found.count(kind):,} {kind}" for kind in ("answered", "fixed", "fallbacks", "stopped")
    )
    out.add_row("turns", f"{found.count('turns'):,}", kinds)
    out.add_row("handed to people", f"{found.count('handoffs'):,}", "")
    out.add_row("pushes", f"{found.count('pushes'):,}", "each a message that LINE charges for")
    per_booking = found.micro_baht_per_booking
    shown = "–" if per_booking is None else format_baht(per_booking)
    out.add_row("a booking", shown, f"{format_baht(found.spent_micro_baht)} spent on the model")
    for part, name in ((0.5, "half"), (0.95, "95 %")):
        waited = found.waited_s(part)
        out.add_row(f"{name} answered within", "–" if waited is None else f"{waited} s", "")
    hours = found.by_name("hours")
    busiest = sorted(hours, key=lambda hour: -hours[hour])[:3]
    out.add_row("busiest hours", ", ".join(sorted(busiest)), "")
    return out


def _clinics(clinics: list[Insights]) -> Table:
    out = Table(box=None, pad_edge=False, header_style="bold")
    out.add_column("clinic")
    for name in ("conversations", "turns", "hand-offs", "bookings", "confirmed", "a booking", "95 % within"):
        out.add_column(name, justify="right")
    for each in clinics:
        counts = (
            f"{each.count(n):,}" for n in ("conversations", "turns", "handoffs", "bookings", "confirmed")
        )
        per_booking, waited = each.micro_baht_per_booking, each.waited_s(0.95)
        out.add_row(
            each.org_id,
            *counts,
            "–" if per_booking is None else format_baht(per_booking),
            "–" if waited is None else f"{waited} s",
        )
    return out
