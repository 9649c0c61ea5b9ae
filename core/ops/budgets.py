"""`fairlane budgets`: a clinic's daily budget, and what happens as it is used up."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer
from rich.table import Table

from core.domain.money import format_baht, to_micro_baht
from core.ops.clinic_marks import announced
from core.ops.session import Session, run
from core.ops.terminal import stdout
from core.usecases.clinics.documents import DEFAULT
from core.usecases.operate.budget_policies import Changes, Found, change_policy, find_policy

app = typer.Typer(help="A clinic's daily budget and what happens as it is used up.", no_args_is_help=True)

Org = Annotated[str, typer.Argument(metavar="ORG", help="A clinic's org_id, or `default`.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("set")
def set_budget(
    org: Org,
    daily: Annotated[str | None, typer.Option(help="Baht a day, such as 300 or 300.50.")] = None,
    hard_stop: Annotated[
        bool | None, typer.Option("--hard-stop/--no-hard-stop", help="Stop when it is used up, or go on.")
    ] = None,
    downgrade: Annotated[
        bool | None, typer.Option("--downgrade/--no-downgrade", help="Fall back to the cheaper model.")
    ] = None,
    threshold: Annotated[
        str | None, typer.Option(help="Share of the budget from which on the fallback answers, such as 0.8.")
    ] = None,
    fallback: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The cheaper model, or `none`.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change what is named and leave the rest. All instances see it within 60 s, and within 2 s where this
    command reaches Redis (REDIS_URL)."""
    changes = Changes(
        daily_budget_baht=None if daily is None else _decimal("--daily", daily),
        hard_stop_enabled=hard_stop,
        model_downgrade_enabled=downgrade,
        downgrade_threshold=None if threshold is None else _decimal("--threshold", threshold),
        fallback_model=fallback,
    )

    async def change(here: Session) -> Found:
        found = await change_policy(here.documents, here.clock, here.operator(), org, changes)
        if org != DEFAULT:
            await announced(here, [org])
        return found

    _print(run(change), as_json)


@app.command("show")
def show_budget(org: Org, as_json: AsJson = False) -> None:
    """What holds for a clinic, and whether it is its own or the default."""

    async def find(here: Session) -> Found:
        return await find_policy(here.documents, org)

    _print(run(find), as_json)


def _decimal(option: str, text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise typer.BadParameter(f"expected a number such as 0.8 or 300.50, got {text!r}", param_hint=option)
    return number


def _print(found: Found, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(policy_json(found), ensure_ascii=False, indent=2))
    else:
        stdout().print(policy_table(found))


def policy_json(found: Found) -> dict[str, Any]:
    policy = found.policy
    return {
        "org_id": found.org_id,
        "daily_budget_baht": str(policy.daily_budget_baht),
        "daily_budget_micro_baht": to_micro_baht(policy.daily_budget_baht),
        "hard_stop_enabled": policy.hard_stop_enabled,
        "model_downgrade_enabled": policy.model_downgrade_enabled,
        "downgrade_threshold": str(policy.downgrade_threshold),
        "fallback_model": policy.fallback_model,
        "own": list(found.own),
    }


def policy_table(found: Found) -> Table:
    policy = found.policy
    out = Table(box=None, show_header=False, pad_edge=False)
    out.add_row("clinic", found.org_id)
    source = "its own" if "daily_budget_baht" in found.own else "the default"
    out.add_row("budget a day", f"{format_baht(to_micro_baht(policy.daily_budget_baht))} ({source})")
    cheaper = policy.fallback_model or "nothing to fall back to"
    share = f"from {policy.downgrade_threshold:.0%} on: {cheaper}"
    out.add_row("downgrade", share if policy.model_downgrade_enabled else "off")
    out.add_row("when used up", "stop" if policy.hard_stop_enabled else "go on, flagged")
    return out
