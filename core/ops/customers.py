"""`fairlane customers`: a customer's rights over their data: show, export, forget, withdraw consent."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from core.adapters.redis_conversations import RedisConversations
from core.adapters.redis_mailbox import RedisMailbox
from core.domain.errors import InvalidInputError
from core.domain.event import Conversation
from core.domain.memory import CustomerMemory
from core.ops.bookings import booking_json
from core.ops.session import REDIS, Session, run
from core.ops.terminal import stdout
from core.ops.turn_view import TurnsTable, notice_json, shown_time, turn_json
from core.usecases.customers.conversation_control import chat_id
from core.usecases.operate.customer_rights import CustomerRights, Forgotten, KeptOfCustomer
from core.usecases.operate.stored_clinics import find_clinic

app = typer.Typer(help="What is kept of a customer: show, export, forget, withdraw.", no_args_is_help=True)

T = TypeVar("T")
Org = Annotated[str, typer.Argument(metavar="ORG", help="A clinic's org_id.")]
User = Annotated[str, typer.Argument(metavar="USER", help="LINE's id of the customer, U and 32 hex digits.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
LAST_TURNS = 10


@app.command("show")
def show(org: Org, user: User, as_json: AsJson = False) -> None:
    """The conversation's state, what is remembered, the last turns. Messages' texts are in `export` only."""
    kept, timezone = _kept(org, user)
    if as_json:
        typer.echo(json.dumps(kept_json(kept, texts=False), ensure_ascii=False, indent=2, default=str))
    else:
        stdout(highlight=False).print(_page(kept, timezone))


@app.command("export")
def export(org: Org, user: User) -> None:
    """Everything that is kept of a customer, with all that was said, as JSON on standard output."""
    kept, _ = _kept(org, user)
    typer.echo(json.dumps(kept_json(kept, texts=True), ensure_ascii=False, indent=2, default=str))


@app.command("forget")
def forget(
    org: Org,
    user: User,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase what a customer said and what is known of them; safe to repeat.

    Session, memory (a hand-off with it) and the texts of all turns go, and
    messages that wait are dropped; appointments that stand are cancelled; in
    groups, what this customer said, and the replies to it. The journal keeps
    ids and money. A running turn is waited for. Messages on their way in the
    queue are erased when they arrive.
    Firestore's point-in-time recovery keeps the old state for 7 days.
    """
    customer = _customer(org, user)
    kept, _ = _kept(org, user)
    if not yes:
        facts, turns = len(kept.memory.facts), len(kept.turns)
        typer.confirm(
            f"Erase the texts of {turns} turns, {facts} facts and the conversation of {user}?",
            abort=True,
            err=True,
        )
    done = _run(lambda rights, _: rights.forget(customer))
    if as_json:
        typer.echo(json.dumps({"org_id": org, "user_id": user, **asdict(done)}))
    else:
        typer.echo(_in_words(done))


@app.command("withdraw")
def withdraw(org: Org, user: User, as_json: AsJson = False) -> None:
    """Take back a customer's consent to remembering health facts, and erase these; safe to repeat.

    Health facts are remembered only after the customer has tapped that they agree.
    From now on none is, and the customer is not asked again. A running turn is
    waited for.
    """
    customer = _customer(org, user)

    async def withdrawn(rights: CustomerRights, here: Session) -> int:
        clinic = await find_clinic(here.documents, org)
        return await rights.withdraw(customer, clinic.retention)

    erased = _run(withdrawn)
    if as_json:
        typer.echo(json.dumps({"org_id": org, "user_id": user, "erased": erased}))
    else:
        typer.echo(f"consent withdrawn; erased: {erased} health facts")


def _kept(org: str, user: str) -> tuple[KeptOfCustomer, str]:
    customer = _customer(org, user)

    async def read(rights: CustomerRights, here: Session) -> tuple[KeptOfCustomer, str]:
        kept = await rights.kept(customer)
        # A mistyped ORG must not look like a customer of whom nothing is kept; a removed clinic's still are.
        if kept.nothing:
            await find_clinic(here.documents, org)
        return kept, here.settings.budget_timezone

    return _run(read)


def _run(command: Callable[[CustomerRights, Session], Awaitable[T]]) -> T:
    async def opened(here: Session) -> T:
        redis, lease_ms = here.redis(), round(here.settings.slot_lease_s * 1000)
        rights = CustomerRights(
            here.documents,
            RedisConversations(redis, lease_ms=lease_ms),
            RedisMailbox(redis, lease_ms=lease_ms, session_ttl_s=here.settings.session_ttl_s),
            here.clock,
            timezone=here.settings.budget_timezone,
        )
        return await command(rights, here)

    return run(opened, needs=REDIS)


def _customer(org: str, user: str) -> Conversation:
    if not user.strip() or not org.strip():
        raise InvalidInputError("ORG and USER: expected a clinic's org_id and LINE's id of a customer")
    return Conversation(org, "line", chat_id(user))


def kept_json(kept: KeptOfCustomer, *, texts: bool) -> dict[str, Any]:
    """Times in Unix ms. Without `texts`, what was said is left out."""
    session: dict[str, Any] | None = asdict(kept.session) if kept.session else None
    waiting = [asdict(event) for event in kept.waiting]
    for event in waiting:
        del event["reply_token"]
        if not texts:
            del event["text"]
    if session and not texts:
        session["exchanges"] = [
            {"turn_id": e.turn_id, "at_ms": e.at_ms} for e in (kept.session.exchanges if kept.session else ())
        ]
    return {
        "org_id": kept.conversation.org_id,
        "user_id": kept.conversation.chat_id,
        "session": session,
        "waiting": waiting,
        "memory": dict(kept.memory_document.data) if kept.memory_document else None,
        "turns": [turn_json(turn, texts=texts) for turn in kept.turns],
        "questions": [asdict(asked) for asked in kept.questions] if texts else len(kept.questions),
        "claims": dict(kept.claims),
        "notices": [notice_json(each, texts=texts) for each in kept.notices],
        "bookings": [booking_json(booking) for booking in kept.bookings],
    }


def _page(kept: KeptOfCustomer, timezone: str) -> RenderableType:
    if kept.nothing:
        return Text("nothing is kept of this customer")
    out = Table(box=None, show_header=False, pad_edge=False)
    session = kept.session
    state = (session.stage.value, session.service, session.area, session.preference) if session else ()
    said = f", {len(session.exchanges)} exchanges" if session else ""
    out.add_row(
        "conversation", Text(f"{' · '.join(filter(None, state))}{said}" if session else "none goes on")
    )
    out.add_row("waiting", Text(f"{len(kept.waiting)} messages"))
    if kept.memory.handoff_until_ms and kept.memory.handoff_reason:
        until = shown_time(kept.memory.handoff_until_ms, timezone)
        out.add_row("people answer until", Text(f"{until} ({kept.memory.handoff_reason})"))
    out.add_row("health facts", _consent(kept.memory, timezone))
    for fact in kept.memory.facts:
        out.add_row("remembered", Text(f"{fact.key}: {fact.value} ({shown_time(fact.at_ms, timezone)})"))
    for booking in kept.bookings:
        shown = f"{booking.date} {booking.time} {booking.service} ({booking.state})"
        out.add_row("appointment", Text(shown))
    last = list(reversed(kept.turns[-LAST_TURNS:]))
    title = Text(f"the last {len(last)} of {len(kept.turns)} turns", style="bold")
    return Group(out, Text(), title, TurnsTable(last, timezone))


def _consent(known: CustomerMemory, timezone: str) -> Text:
    if known.consent is None:
        return Text("not remembered: the customer has not been asked, or has not answered")
    word = "may be remembered: agreed" if known.consent else "not remembered: declined"
    return Text(f"{word} {shown_time(known.consent_ms, timezone)}" if known.consent_ms else word)


def _in_words(done: Forgotten) -> str:
    parts = [f"texts of {done.turns} turns", f"{done.dropped} waiting messages"]
    parts += ["the memory"] if done.had_memory else []
    parts += ["the conversation"] if done.had_session else []
    parts += [f"{done.bookings} bookings"] if done.bookings else []
    return f"erased: {', '.join(parts)}"
