"""`fairlane statement`: a clinic's month, down to each charge and each booking."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from core.domain.booking import Booking
from core.domain.money import format_baht
from core.ops.session import Session, run
from core.ops.spend_table import shown_day
from core.ops.statement_report import to_html
from core.ops.terminal import stdout
from core.usecases.operate.statement import Statement, StatementLine, Statements


def statement(
    org: Annotated[str, typer.Argument(metavar="ORG", help="A clinic's org_id.")],
    month: Annotated[str, typer.Argument(metavar="YYYY-MM", help="The month.")],
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="One line a charge and booking.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="The same as a page, in Thai, to print.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All of it in micro-baht, for programs.")] = False,
) -> None:
    """Every charge with its turn and price row, every booking, and whether the sum is that of the books.

    Ends with 1 if it is not: a month in which charges were not kept yet, or a defect.

    Example: fairlane statement bkk-smile 2026-11 --csv november.csv --report november.html
    """

    async def read(here: Session) -> Statement:
        statements = Statements(here.documents, here.clock, here.settings.budget_timezone)
        return await statements(org, month)

    found = run(read)
    if csv_file:
        csv_file.write_text(as_lines(found), "utf-8-sig")  # spreadsheets take it for Thai by this mark
    if report:
        report.write_text(to_html(found), "utf-8")
    if as_json:
        typer.echo(json.dumps(statement_json(found), ensure_ascii=False, indent=2))
    else:
        _print(found)
    if not found.closes:
        days = ", ".join(shown_day(day.day) for day in found.open_days)
        typer.echo(f"error: charges and books differ on {days}", err=True)
        raise typer.Exit(1)


def statement_json(found: Statement) -> dict[str, Any]:
    """The form that scripts rely on. Times in Unix ms, money in micro-baht."""
    return {
        "org_id": found.org_id,
        "month": found.month,
        "closes": found.closes,
        "charged_micro_baht": found.charged_micro_baht,
        "booked_micro_baht": found.booked_micro_baht,
        "days": [
            {
                "day": day.day,
                "charged_micro_baht": day.charged_micro_baht,
                "booked_micro_baht": day.booked_micro_baht,
            }
            for day in found.days
        ],
        "charges": [_line_json(line) for line in found.lines],
        "bookings": [_booking_json(booking) for booking in found.bookings],
        "bookings_counted": found.bookings_counted,
    }


def _line_json(found: StatementLine) -> dict[str, Any]:
    charge, line = found.charge, found.line
    return {
        "turn_id": charge.turn_id,
        "day": charge.day,
        "at_ms": charge.at_ms,
        "kind": line.kind.value,
        "model": line.model,
        "attempts": line.attempts,
        "usage": dict(line.usage),
        "price": found.price,
        "thb_per_usd": line.thb_per_usd,
        "service_tier": line.service_tier,
        "micro_baht": line.micro_baht,
    }


def _booking_json(booking: Booking) -> dict[str, Any]:
    names = ("id", "service", "date", "time", "created_ms", "confirmed_ms")
    return {**{name: getattr(booking, name) for name in names}, "state": booking.state.value}


_USAGE = ("input", "cached", "cache_write", "output", "audio_ms")
_PRICE = ("version", "input_usd", "cached_usd", "cache_write_usd", "output_usd")
COLUMNS = (
    "what",
    "day",
    "at",
    "turn_id",
    "model",
    "attempts",
    *_USAGE,
    *(f"price_{name}" for name in _PRICE),
    "price_else",
    "thb_per_usd",
    "service_tier",
    "micro_baht",
    "service",
    "appointment",
    "state",
)


def as_lines(found: Statement) -> str:
    """CSV: charges by kind, then bookings, whose id is their turn's."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for each in found.lines:
        charge, line = each.charge, each.line
        writer.writerow(
            {
                "what": line.kind.value,
                "day": shown_day(charge.day),
                "at": f"{found.local(charge.at_ms):%Y-%m-%d %H:%M:%S}",
                "turn_id": charge.turn_id,
                "model": line.model,
                "attempts": line.attempts,
                **{name: line.usage.get(name, "") for name in _USAGE},
                **{f"price_{name}": each.price.get(name) or "" for name in _PRICE},
                "price_else": "; ".join(f"{n} {each.price[n]}" for n in each.price if n not in _PRICE),
                "thb_per_usd": line.thb_per_usd,
                "service_tier": line.service_tier or "",
                "micro_baht": line.micro_baht,
            }
        )
    for booking in found.bookings:
        asked = found.local(booking.created_ms)
        writer.writerow(
            {
                "what": "booking",
                "day": f"{asked:%Y-%m-%d}",
                "at": f"{asked:%Y-%m-%d %H:%M:%S}",
                "turn_id": booking.id,
                "service": _plain(booking.service),
                "appointment": f"{booking.date} {booking.time}",
                "state": booking.state.value,
            }
        )
    return text.getvalue()


def _plain(text: str) -> str:
    """A spreadsheet takes what begins like a formula for one; these are customers' words."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def _print(found: Statement) -> None:
    console = stdout(highlight=False)
    out = Table(box=None, pad_edge=False, header_style="bold")
    out.add_column("day")
    for name in ("charges", "charged", "in the books"):
        out.add_column(name, justify="right")
    counts = {day.day: sum(line.charge.day == day.day for line in found.lines) for day in found.days}
    for day in found.days:
        sums = (format_baht(n, decimals=6) for n in (day.charged_micro_baht, day.booked_micro_baht))
        out.add_row(shown_day(day.day), f"{counts[day.day]:,}", *sums)
    totals = (format_baht(n, decimals=6) for n in (found.charged_micro_baht, found.booked_micro_baht))
    out.add_row(found.month, f"{len(found.lines):,}", *totals, style="bold")
    console.print(out)
    kept = f"{len(found.bookings)} of {found.bookings_counted} bookings are still kept"
    console.print(f"{kept}; every charge and booking: --csv, --report or --json")
