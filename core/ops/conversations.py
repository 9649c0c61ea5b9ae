"""`fairlane conversations`: what people answer instead of the bot; begin and end it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from core.adapters.line_messaging import LineMessagingApi
from core.domain.clinic import secret_name
from core.domain.errors import InvalidInputError
from core.ops.session import Session, run
from core.ops.terminal import stdout
from core.ops.turn_view import shown_time
from core.ports.line import ChannelCredentials
from core.usecases.customers.conversation_control import (
    ConversationControl,
    Handoff,
    Notice,
    chat_id,
    list_handoffs,
)
from core.usecases.operate.stored_clinics import find_clinic

app = typer.Typer(help="Conversations handed over to people: list, pause, resume.", no_args_is_help=True)

Org = Annotated[str, typer.Argument(metavar="ORG", help="A clinic's org_id.")]
User = Annotated[
    str, typer.Argument(metavar="USER", help="LINE's id of the customer (U…), group (C…) or room (R…).")
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_command(
    org: Annotated[str | None, typer.Option(help="One clinic's org_id; all of them if left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Conversations in which the bot is silent: until when, and who said so (model, customer or staff)."""

    async def read(here: Session) -> tuple[list[Handoff], str]:
        found = await list_handoffs(here.documents, here.clock.now_ms(), org)
        if org is not None and not found:
            await find_clinic(here.documents, org)  # of a mistyped one, nothing would be true to say
        return found, here.settings.budget_timezone

    handoffs, timezone = run(read)
    if as_json:
        typer.echo(json.dumps([asdict(handoff) for handoff in handoffs], ensure_ascii=False, indent=2))
    else:
        stdout().print(_table(handoffs, timezone) if handoffs else "the bot answers everywhere")


@app.command("pause")
def pause(
    org: Org,
    user: User,
    hours: Annotated[
        float | None, typer.Option(min=0.01, max=24 * 365, help="How long; default: the clinic's own.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """People take a conversation over: the bot is silent from the next message on. Repeat to prolong."""
    chat = chat_id(user)

    async def change(here: Session) -> tuple[Handoff, str]:
        clinic = await find_clinic(here.documents, org)
        paused = await ConversationControl(here.documents, here.clock).pause(clinic, chat, hours)
        return paused, here.settings.budget_timezone

    paused, timezone = run(change)
    if as_json:
        typer.echo(json.dumps(asdict(paused), ensure_ascii=False))
    else:
        typer.echo(f"the bot is silent until {shown_time(paused.until_ms, timezone)}")


@app.command("resume")
def resume(
    org: Org,
    user: User,
    notify: Annotated[
        bool, typer.Option("--notify", help="Tell the customer, by a push message (it counts at LINE).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """The bot answers again. Safe to repeat: a conversation that it answers already is left as it is."""
    chat = chat_id(user)

    async def change(here: Session) -> bool:
        clinic = await find_clinic(here.documents, org)
        control = ConversationControl(here.documents, here.clock)
        if not notify:
            return await control.resume(clinic, chat)
        secret = await here.secrets.get(secret_name(org))
        if secret is None:
            raise InvalidInputError(
                f"ORG {org!r}: no LINE secret is stored; `fairlane clinics apply` does it"
            )
        line = LineMessagingApi(here.settings.line_api_base_url, clock=here.clock)
        here.opened.push_async_callback(line.close)
        channel = ChannelCredentials(secret["channel_id"], secret["channel_secret"])
        return await control.resume(clinic, chat, Notice(line, channel))

    resumed = run(change, with_secrets=notify)
    if as_json:
        answer = {"org_id": org, "chat_id": chat, "resumed": resumed, "notified": resumed and notify}
        typer.echo(json.dumps(answer))
    else:
        typer.echo("the bot answers again" if resumed else "the bot was answering already")


def _table(handoffs: Sequence[Handoff], timezone: str) -> Table:
    out = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("clinic", "chat", "silent until", "reason"):
        out.add_column(name, overflow="fold")
    for handoff in handoffs:
        until = shown_time(handoff.until_ms, timezone)
        out.add_row(handoff.org_id, handoff.chat_id, until, handoff.reason)
    return out
