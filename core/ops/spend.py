"""`fairlane spend`: what clinics spent, and the arithmetic of one charge."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.table import Table

from core.domain.budget import budget_day
from core.domain.errors import InvalidInputError
from core.domain.money import format_baht
from core.ops.session import Session, run
from core.ops.spend_table import shown_day, table
from core.ops.terminal import stdout
from core.usecases.clinics.price_list import PriceList
from core.usecases.operate.spend_report import Explanation, SpendRow, explain, parse_day, spend_rows

app = typer.Typer(help="What clinics spent, by day and model.", no_args_is_help=False)


@app.callback(invoke_without_command=True)
def report(
    context: typer.Context,
    org: Annotated[str | None, typer.Option(help="One clinic's org_id; all of them if left out.")] = None,
    day: Annotated[str | None, typer.Option(help="YYYY-MM-DD, today or yesterday. Default: today.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="First day of a range.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day of a range. Default: today.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Micro-baht and tokens, for programs.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="One line a clinic and day, for spreadsheets.")
    ] = False,
) -> None:
    """Spend by clinic and day: share of the budget, by model, held, downgraded, stopped, ambiguous."""
    if context.invoked_subcommand is not None:
        return
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv: one or the other")

    async def read(here: Session) -> list[SpendRow]:
        today = budget_day(here.clock.now_ms(), here.settings.budget_timezone)
        return await spend_rows(here.documents, *_days(today, day, first, last), org_id=org)

    rows = run(read)
    if as_json:
        typer.echo(json.dumps([row.as_json() for row in rows], ensure_ascii=False, indent=2))
    elif as_csv:
        typer.echo(as_lines(rows), nl=False)
    elif rows:
        console = stdout(highlight=False)
        console.print(table(rows, console.width))
    else:
        typer.echo("nothing was spent or reserved on these days")


def _days(today: str, day: str | None, first: str | None, last: str | None) -> tuple[str, str]:
    if day is not None and (first or last):
        raise InvalidInputError("--day and --from/--to: use one or the other")
    if day is not None or not (first or last):
        one = parse_day(day or "today", today)
        return one, one
    end = parse_day(last or "today", today)
    return parse_day(first, today) if first else end, end


@app.command("explain")
def explain_turn(
    turn_id: Annotated[str, typer.Argument(metavar="TURN", help="As in `fairlane turns list`.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """The arithmetic of one turn's charge, from what stands on it."""

    async def read(here: Session) -> Explanation:
        prices = await PriceList(here.documents, here.clock).current()
        return await explain(here.documents, prices, turn_id)

    found = run(read)
    if as_json:
        typer.echo(json.dumps(explanation_json(found), ensure_ascii=False, indent=2))
    else:
        stdout(highlight=False).print(explanation(found))


CSV_COLUMNS = (
    "org_id",
    "day",
    "budget_micro_baht",
    "spent_micro_baht",
    "held_micro_baht",
    "turns",
    "downgraded",
    "stopped",
    "ambiguous",
)
CSV_TOKENS = ("input", "cached", "cache_write", "output")


def as_lines(rows: list[SpendRow]) -> str:
    """CSV. Tokens are summed over models, since nothing else in a line is by model."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*CSV_COLUMNS, *CSV_TOKENS])
    for row in rows:
        data = row.as_json()
        tokens = [sum(counts[kind] for counts in row.books.by_model.values()) for kind in CSV_TOKENS]
        writer.writerow([*(data[column] for column in CSV_COLUMNS), *tokens])
    return text.getvalue()


def explanation(found: Explanation) -> Table:
    """For people: one line a kind of token, down to the cost."""
    turn, money = found.turn, found.turn.money
    out = Table(box=None, show_header=False, pad_edge=False)
    out.add_column(style="dim")
    out.add_column()
    out.add_column(justify="right")
    out.add_row("turn", f"{turn.id}, {turn.org_id}, {turn.state.value}", "")
    flagged = ", beyond the budget (no hard stop)" if money.flagged else ""
    out.add_row("decision", f"{money.decision or 'none'} ({money.reason or 'no call was made'}){flagged}", "")
    if money.model:
        out.add_row("model", f"{money.model} on {shown_day(money.day)}, {turn.attempts} attempts", "")
    if found.price is not None:
        out.add_row("price", f"version {found.price.version}, USD per 1,000,000 tokens", "")
        out.add_row("rate", f"{money.thb_per_usd} baht per USD", "")
    if found.computed is not None:
        for line in found.computed.lines:
            sum_text = f"{line.tokens:,} × {line.usd} × {money.thb_per_usd}"
            out.add_row(line.kind, sum_text, _micro(line.micro_baht))
        tier = f"tier {money.service_tier or 'default'}, × {found.computed.multiplier}"
        out.add_row("by usage", f"{tier}, rounded up once a call", _micro(Decimal(found.by_usage_micro_baht)))
    if money.audio:
        sum_text = f"{money.audio.get('seconds', 0)} s by {money.audio.get('model', '')}"
        out.add_row("listening", sum_text, _micro(Decimal(found.listening_micro_baht)))
    if money.pictures:
        out.add_row("pictures", f"{money.pictures}, among the input", "")
    if money.ambiguous_micro_baht:
        text = "attempts whose outcome is unknown, at their worst case"
        out.add_row("ambiguous", text, _micro(Decimal(money.ambiguous_micro_baht)))
    cost = format_baht(money.cost_micro_baht, decimals=6)
    out.add_row("cost", cost, _micro(Decimal(money.cost_micro_baht)), style="bold")
    if money.held_micro_baht:
        out.add_row("still held", "", _micro(Decimal(money.held_micro_baht)))
    out.add_row("check", "adds up" if found.adds_up else "DOES NOT ADD UP: tell an engineer", "")
    return out


def _micro(amount: Decimal) -> str:
    whole = amount.normalize()
    return f"{whole:,f} µ฿"


def explanation_json(found: Explanation) -> dict[str, Any]:
    money = found.turn.money
    lines = found.computed.lines if found.computed else ()
    return {
        "turn_id": found.turn.id,
        "org_id": found.turn.org_id,
        "day": money.day,
        "state": found.turn.state.value,
        "decision": money.decision,
        "reason": money.reason,
        "flagged": money.flagged,
        "model": money.model,
        "attempts": found.turn.attempts,
        "price": dict(money.price),
        "thb_per_usd": money.thb_per_usd,
        "service_tier": money.service_tier,
        "usage": dict(money.usage),
        "lines": [
            {
                "kind": line.kind,
                "tokens": line.tokens,
                "usd": str(line.usd),
                "micro_baht": str(line.micro_baht),
            }
            for line in lines
        ],
        "by_usage_micro_baht": found.by_usage_micro_baht,
        "pictures": money.pictures,
        "audio": dict(money.audio),
        "ambiguous_micro_baht": money.ambiguous_micro_baht,
        "cost_micro_baht": money.cost_micro_baht,
        "held_micro_baht": money.held_micro_baht,
        "adds_up": found.adds_up,
    }
