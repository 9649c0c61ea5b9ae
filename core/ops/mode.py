"""`fairlane clinics mode`: when a clinic's bot answers."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from core.domain.clinic import Mode
from core.ops.clinic_marks import announced
from core.ops.session import Session, run
from core.usecases.operate.change_clinic import ChangeClinic
from core.usecases.operate.clinic_mode import mode_named, switch_mode


def mode(
    org: Annotated[str, typer.Argument(metavar="ORG", help="The clinic's org_id.")],
    wanted: Annotated[str, typer.Argument(metavar="MODE", help="live, after_hours or off.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Switch when the bot answers: always (live), only while the clinic is closed (after_hours), never (off).

    Turns begin to follow it within 2 s where this command reaches Redis
    (REDIS_URL), and within 60 s in any case. Safe to repeat.

    While the bot is off it says one thing: whoever writes that something is
    urgent is told the emergency number, once an hour. The clinics file leaves
    the mode as it is, unless it names one.
    """
    to = mode_named(wanted)

    async def switch(here: Session) -> tuple[Mode, str]:
        change = ChangeClinic(here.documents, here.clock, here.operator())
        before = await switch_mode(change, org, to)
        return before, await announced(here, [org])

    before, late = run(switch)
    if late:
        typer.echo(f"warning: {late}", err=True)
    if as_json:
        found = {"org_id": org, "mode": to.value, "before": before.value, "at_once": not late}
        typer.echo(json.dumps(found))
    else:
        typer.echo(f"{org}: {to}" + ("" if before is to else f" (was {before})"))
