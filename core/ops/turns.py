"""`fairlane turns`: the journal of turns, and answering again what failed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from core.domain.errors import InvalidInputError
from core.domain.turn import DELIVERY_UNKNOWN, TurnRecord, TurnState
from core.ops.session import TASKS, Session, run
from core.ops.terminal import stdout
from core.ops.turn_view import Effects, TurnsTable, turn_json, turn_page
from core.usecases.operate.replay_turn import Outcome, Replay, ReplayTurn
from core.usecases.operate.stored_clinics import find_clinic
from core.usecases.operate.turn_prompt import StablePart, stable_part
from core.usecases.operate.turn_report import find_turn, list_turns, notices_of

app = typer.Typer(help="The journal of turns: list, show, replay.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="For programs: Unix ms and micro-baht.")]
Since = Annotated[str, typer.Option(help="How far back: 90s, 30m, 1h, 7d. The journal keeps 30 days.")]
Org = Annotated[str | None, typer.Option(help="One clinic's org_id; all of them if left out.")]
Reason = Annotated[
    str | None, typer.Option(help="How `failure` begins: patience, budget, undeliverable, llm, …")
]
_UNPROVEN = (
    "not what the model was told, byte for byte: the release that answered had other house rules, or the "
    "clinic was edited past the commands"
)
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@app.command("list")
def list_command(
    state: Annotated[TurnState | None, typer.Option(help="Only turns in this state.")] = None,
    org: Org = None,
    since: Since = "1h",
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Turns begun lately, newest first: state, why one failed or was ignored, model, cost. No words."""

    async def read(here: Session) -> tuple[list[TurnRecord], str]:
        return await _turns(here, since, org, reason, state, limit), here.settings.budget_timezone

    turns, timezone = run(read)
    if as_json:
        typer.echo(json.dumps([turn_json(turn) for turn in turns], ensure_ascii=False, indent=2))
    elif turns:
        stdout().print(TurnsTable(turns, timezone))
    else:
        typer.echo(f"no such turn in the last {since}")


@app.command("show")
def show(
    turn_id: Annotated[str, typer.Argument(metavar="ID", help="As in `fairlane turns list`.")],
    texts: Annotated[
        bool, typer.Option("--texts", help="Also what was said: a customer's words are private.")
    ] = False,
    prompt: Annotated[
        bool,
        typer.Option("--prompt", help="Instead, what the model was told by the clinic's version of then."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """One turn: when it was received, enqueued, begun, answered and delivered; how, why, and for how much;
    and what became of what it caused besides, such as a notice to staff.

    What the customer and the clinic said is shown with --texts only: it is private.

    --prompt rebuilds the beginning of the prompt, the same in all turns of a
    clinic's day (house rules, persona, prices, answers), and compares it with
    the journal's digest. Of what is the customer's, only the digest is kept.
    """

    async def read(here: Session) -> tuple[TurnRecord, Effects, str, StablePart | None]:
        turn = await find_turn(here.documents, turn_id)
        caused = Effects(turn.effects, await notices_of(here.documents, turn))
        told = await stable_part(here.documents, turn) if prompt else None
        return turn, caused, here.settings.budget_timezone, told

    turn, effects, timezone, told = run(read)
    if told and not told.is_proven:
        typer.echo(f"warning: {_UNPROVEN}", err=True)
    if as_json:
        shown = {**turn_json(turn, texts=texts), "effects": effects.as_json(texts=texts)}
        if told:
            shown["stable_prompt"] = {"text": told.text, "version": told.version, "proven": told.is_proven}
        typer.echo(json.dumps(shown, ensure_ascii=False, indent=2))
    elif told:
        typer.echo(told.text, nl=sys.stdout.isatty())
    else:
        stdout(highlight=False).print(turn_page(turn, timezone, texts=texts))
        if turn.effects:
            stdout(highlight=False).print(effects)


@app.command("replay")
def replay(
    turn_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="As in `fairlane turns list`.")
    ] = None,
    all_failed: Annotated[
        bool, typer.Option("--all-failed", help="All failed turns of --since, instead of IDs.")
    ] = False,
    since: Since = "1h",
    org: Org = None,
    reason: Reason = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Answer turns again that failed or have not ended for ten minutes; safe to repeat.

    A reply that LINE refused is pushed as it was stored, without another call of
    the model. Other failed turns are answered anew, also by push. Turns that were
    answered are left alone. Where people have taken a conversation over, the bot
    stays silent.

    A reply that may have arrived (undeliverable: unknown) is pushed only if its turn
    is named, or all such with --reason "undeliverable: unknown".

    Ends with 1 if a turn is unknown or its texts were erased.
    """
    if all_failed == bool(turn_ids):
        raise typer.BadParameter("name turns by ID, or give --all-failed")

    async def replay_all(here: Session) -> list[Replay]:
        ids = list(turn_ids or [])
        if all_failed:
            failed = await _turns(here, since, org, reason, TurnState.FAILED)
            decided = reason == DELIVERY_UNKNOWN
            # The customer who waits longest comes first.
            ids = [t.id for t in reversed(failed) if decided or t.failure != DELIVERY_UNKNOWN]
        replaying = ReplayTurn(here.documents, here.tasks(), here.clock)
        with _progress() as progress:
            return [
                await replaying(turn_id, dry_run=dry_run)
                for turn_id in progress.track(ids, description="turns")
            ]

    replays = run(replay_all, needs=TASKS)
    if as_json:
        typer.echo(json.dumps(replays_json(replays, dry_run=dry_run), ensure_ascii=False, indent=2))
    else:
        _print(replays, dry_run=dry_run)
    if any(replay.refused for replay in replays):
        raise typer.Exit(1)


async def _turns(
    here: Session,
    since: str,
    org: str | None,
    reason: str | None,
    state: TurnState | None,
    limit: int | None = None,
) -> list[TurnRecord]:
    """Newest first. Raises InvalidInputError for a clinic that has no turns and does not exist either."""
    since_ms = here.clock.now_ms() - duration_ms("--since", since)
    turns = await list_turns(
        here.documents, since_ms=since_ms, state=state, org_id=org, failure=reason, limit=limit
    )
    if org is not None and not turns:
        await find_clinic(here.documents, org)
    return turns


def _progress() -> Progress:
    """Shown on a terminal while it lasts, and nowhere else."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not Console().is_terminal)


def replays_json(replays: Sequence[Replay], *, dry_run: bool) -> dict[str, Any]:
    counts = {outcome.value: 0 for outcome in Outcome}
    for replay in replays:
        counts[replay.outcome.value] += 1
    return {"dry_run": dry_run, "turns": [asdict(replay) for replay in replays], "counts": counts}


def _print(replays: Sequence[Replay], *, dry_run: bool) -> None:
    for replay in replays:
        typer.echo(f"{replay.turn_id}: {_in_words(replay)}")
    begun = sum(replay.outcome in {Outcome.FINISHING, Outcome.NEW_TURN} for replay in replays)
    end = "; dry run: nothing was enqueued" if dry_run else ""
    typer.echo(f"{begun} of {len(replays)} turns to be answered now{end}")


def _in_words(replay: Replay) -> str:
    other = f" by {replay.by}" if replay.by != replay.turn_id else ""
    return {
        Outcome.FINISHING: f"enqueued as {replay.event_id}: the turn goes on where it was",
        Outcome.NEW_TURN: f"enqueued as {replay.event_id}: a new turn",
        Outcome.UNDER_WAY: f"under way{other}: look again in ten minutes",
        Outcome.ANSWERED: f"was answered{other}: nothing is sent",
        Outcome.IGNORED: "nobody was to answer it (`fairlane turns show` says why): nothing is sent",
        Outcome.FORGOTTEN: "its texts were erased: there is nothing left to answer",
        Outcome.UNKNOWN: "not in the journal; `fairlane turns list` shows turns",
    }[replay.outcome]


def duration_ms(option: str, text: str) -> int:
    """Of 90s, 30m, 1h or 7d. Raises InvalidInputError."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if not found:
        raise InvalidInputError(f"{option} {text!r}: expected a number and s, m, h or d, such as 1h")
    return int(found[1]) * _UNITS_MS[found[2]]
