"""`fairlane clinics mode`: when a clinic's bot answers."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from core.bootstrap import shared
from core.domain.clinic import Mode
from core.domain.errors import RedisUnavailableError
from core.ops.session import Session, run
from core.usecases.operate.clinic_mode import mode_named, switch_mode

_SEEN_LATE = "all instances see it within 60 s, not at once: {}"


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
        before = await switch_mode(here.documents, org, to)
        return before, await _announced(here, org)

    before, late = run(switch)
    if late:
        typer.echo(f"warning: {late}", err=True)
    if as_json:
        found = {"org_id": org, "mode": to.value, "before": before.value, "at_once": not late}
        typer.echo(json.dumps(found))
    else:
        typer.echo(f"{org}: {to}" + ("" if before is to else f" (was {before})"))


async def _announced(here: Session, org: str) -> str:
    """Also if it was so before: whoever repeats the command may do it since Redis was out of reach. Why it is
    not seen at once, "" if it is."""
    if not here.settings.redis_url:
        return _SEEN_LATE.format("REDIS_URL is not set")
    try:
        await shared.clinic_marks(here.redis()).renew(org)
    except RedisUnavailableError as exc:
        return _SEEN_LATE.format(exc)
    return ""
