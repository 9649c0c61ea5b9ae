"""`fairlane desk`: the chat in which a clinic's staff get notices."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from core.domain.desk import Desk
from core.ops.session import Session, run
from core.ops.turn_view import shown_time
from core.usecases.desk.connection import DeskCode, DeskConnection
from core.usecases.operate.stored_clinics import find_clinic

app = typer.Typer(help="A clinic's desk at LINE: code, show, disconnect.", no_args_is_help=True)

Org = Annotated[str, typer.Argument(metavar="ORG", help="A clinic's org_id.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("code")
def code(org: Org, as_json: AsJson = False) -> None:
    """A code for connecting a desk: good once, for 30 minutes.

    Whoever writes it to the clinic's bot, in a group that the bot was invited to or in
    a chat of their own with it, makes that chat the clinic's desk. Drawing another code
    ends this one. While a desk is connected, a code is refused until `desk disconnect`.
    """

    async def draw(here: Session) -> tuple[DeskCode, str]:
        await find_clinic(here.documents, org)
        drawn = await DeskConnection(here.documents, here.clock).new_code(org)
        return drawn, here.settings.budget_timezone

    drawn, timezone = run(draw)
    if as_json:
        shown = {"org_id": org, "code": drawn.code, "expires_at": _iso(drawn.expires_ms)}
        typer.echo(json.dumps(shown))
    else:
        until = shown_time(drawn.expires_ms, timezone)
        typer.echo(f"{drawn.code}: write it to the clinic's bot in the staff's group, until {until}")


@app.command("show")
def show(org: Org, as_json: AsJson = False) -> None:
    """Which chat is the desk, since when, and how many notices wait to be sent."""

    async def read(here: Session) -> tuple[Desk, int, str]:
        await find_clinic(here.documents, org)
        desk, undone = await DeskConnection(here.documents, here.clock).show(org)
        return desk, undone, here.settings.budget_timezone

    desk, undone, timezone = run(read)
    if as_json:
        typer.echo(json.dumps(_shown(desk, undone)))
    elif desk.is_connected:
        since = shown_time(desk.connected_ms or 0, timezone)
        typer.echo(f"{desk.chat_type} {desk.chat_id}, since {since}; notices not sent: {undone}")
    else:
        typer.echo(f"no desk is connected: `fairlane desk code {org}`; notices not sent: {undone}")


@app.command("disconnect")
def disconnect(org: Org, as_json: AsJson = False) -> None:
    """Nothing is sent to the desk any more, and no tap from there counts. Safe to repeat."""

    async def end(here: Session) -> bool:
        await find_clinic(here.documents, org)
        return await DeskConnection(here.documents, here.clock).disconnect(org)

    ended = run(end)
    if as_json:
        typer.echo(json.dumps({"org_id": org, "disconnected": ended}))
    else:
        typer.echo("disconnected" if ended else "no desk was connected")


def _shown(desk: Desk, undone: int) -> dict[str, object]:
    return {
        "org_id": desk.org_id,
        "connected": desk.is_connected,
        "chat_id": desk.chat_id or None,
        "chat_type": desk.chat_type or None,
        "connected_at": _iso(desk.connected_ms) if desk.connected_ms else None,
        "code_expires_at": _iso(desk.code_expires_ms) if desk.code_hash else None,
        "undone": undone,
    }


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
