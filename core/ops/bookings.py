"""`fairlane bookings`: the appointments that customers asked for, and what is decided about them."""

from __future__ import annotations

import json
import uuid
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from core.domain.booking import STAFF, Booking, BookingState
from core.domain.calendar import calendar
from core.domain.clinic import Clinic
from core.ops.session import TASKS, Session, run
from core.ops.terminal import stdout
from core.usecases.bookings.decide import DecideBooking, Decision
from core.usecases.bookings.records import BookingRecords
from core.usecases.operate.stored_clinics import find_clinic
from core.usecases.outbox.outbox import Outbox

app = typer.Typer(
    help="Appointments: list, show, confirm, decline, cancel, export as a calendar.", no_args_is_help=True
)

Id = Annotated[str, typer.Argument(metavar="ID", help="As `bookings list` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_bookings(
    org: Annotated[str | None, typer.Option(metavar="ORG", help="One clinic's.")] = None,
    as_json: AsJson = False,
) -> None:
    """All bookings, the first to begin first."""

    async def read(here: Session) -> list[Booking]:
        if org is not None:
            await find_clinic(here.documents, org)
        return await BookingRecords(here.documents, here.clock).all(org)

    bookings = run(read)
    if as_json:
        typer.echo(json.dumps([booking_json(each) for each in bookings], ensure_ascii=False, indent=2))
    elif bookings:
        stdout().print(_table(bookings))
    else:
        typer.echo("no bookings")


@app.command("show")
def show_booking(booking: Id, as_json: AsJson = False) -> None:
    """All of one booking."""

    async def read(here: Session) -> Booking:
        return await BookingRecords(here.documents, here.clock).get(booking)

    _print(run(read), as_json)


@app.command("confirm")
def confirm_booking(booking: Id, as_json: AsJson = False) -> None:
    """Confirm it: the customer is told by one push, and reminded before it begins. Safe to repeat."""
    _decide(booking, BookingState.CONFIRMED, as_json)


@app.command("decline")
def decline_booking(booking: Id, as_json: AsJson = False) -> None:
    """Decline it: the customer is told by one push. Safe to repeat."""
    _decide(booking, BookingState.DECLINED, as_json)


@app.command("cancel")
def cancel_booking(booking: Id, as_json: AsJson = False) -> None:
    """Cancel it, requested or confirmed: no reminder is sent. Nothing is sent to the customer: tell them
    yourself. Safe to repeat."""
    _decide(booking, BookingState.CANCELLED, as_json)


@app.command("export")
def export_bookings(org: Annotated[str, typer.Argument(metavar="ORG", help="The clinic's org_id.")]) -> None:
    """What stands, as an iCalendar file on standard output; requests are tentative. Importing it again
    changes what was imported before."""

    async def read(here: Session) -> str:
        clinic = await find_clinic(here.documents, org)
        bookings = await BookingRecords(here.documents, here.clock).all(org)
        return calendar(clinic, bookings, here.clock.now_ms())

    typer.echo(run(read).encode(), nl=False)


def _decide(booking_id: str, state: BookingState, as_json: bool) -> None:
    async def decide(here: Session) -> Decision:
        booking = await BookingRecords(here.documents, here.clock).get(booking_id)
        clinic: Clinic = await find_clinic(here.documents, booking.org_id)
        deciding = DecideBooking(here.documents, Outbox(here.tasks(), here.clock), here.clock)
        return await deciding(clinic, booking_id, state, STAFF, uuid.uuid4().hex)

    decision = run(decide, needs=TASKS)
    booking = decision.booking
    _print(booking, as_json, f"{booking.id}: {booking.state}")
    if booking.state is not state:
        by = f" by {booking.decided_by}" if booking.decided_by else ""
        typer.echo(f"error: it was {booking.state}{by} before; nothing was changed", err=True)
        raise typer.Exit(1)


def booking_json(booking: Booking) -> dict[str, Any]:
    data = {name: value for name, value in booking.encode().items() if name != "expire_at"}
    return {"id": booking.id, **data}


def _print(booking: Booking, as_json: bool, line: str = "") -> None:
    data = booking_json(booking)
    if as_json:
        typer.echo(json.dumps(data, ensure_ascii=False, indent=2))
    elif line:
        typer.echo(line)
    else:
        out = Table(box=None, show_header=False, pad_edge=False)
        for name, value in data.items():
            shown = ", ".join(f"{k}: {v}" for k, v in value.items()) if isinstance(value, dict) else value
            out.add_row(name, Text("" if shown is None else str(shown)))
        stdout(highlight=False).print(out)


def _table(bookings: list[Booking]) -> Table:
    out = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("clinic", "day", "time", "service", "name", "phone", "state", "id"):
        out.add_column(name)
    for each in bookings:
        texts = (each.service, each.name, each.phone, each.state.value, each.id)
        out.add_row(each.org_id, each.date, each.time, *map(Text, texts))
    return out
