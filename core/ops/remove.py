"""`fairlane clinics remove`: a clinic that is no customer of ours any more."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from core.domain.clinic import secret_name
from core.ops.session import Session, run
from core.usecases.operate.remove_clinic import Removal, RemoveClinic

_KEPT = "kept until they expire: what was spent, its turns, what is remembered of its customers"


def remove(
    org: Annotated[str, typer.Argument(metavar="ORG", help="The clinic's org_id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Take a clinic away: its settings, its LINE channel, its own model and budget, its secret.

    Within a minute LINE's webhooks for its bot are answered with 404, and
    messages that still wait are not answered. Safe to repeat.

    Books and turns are kept for the accounts, and what is remembered of its
    customers until it expires: `fairlane customers forget` erases a customer.
    Take the clinic out of the clinics file too, or it comes back with the next
    `apply`.
    """

    def removing(here: Session) -> RemoveClinic:
        return RemoveClinic(here.documents, here.secrets, here.clock, here.operator())

    async def look(here: Session) -> Removal:
        return await removing(here).plan(org)

    async def take_away(here: Session) -> None:
        await removing(here)(removal)

    removal = run(look, with_secrets=True)
    if not removal.nothing:
        if not yes:
            typer.confirm(f"Remove {', '.join(_parts(removal))}?", abort=True, err=True)
        run(take_away, with_secrets=True)
    if as_json:
        typer.echo(json.dumps(removal_json(removal)))
    elif removal.nothing:
        typer.echo(f"no clinic {org}: there is nothing to remove; `fairlane clinics list` shows clinics")
    else:
        typer.echo(f"removed: {', '.join(_parts(removal))}\n{_KEPT}")


def removal_json(removal: Removal) -> dict[str, Any]:
    return {"org_id": removal.org_id, "removed": list(_parts(removal))}


def _parts(removal: Removal) -> list[str]:
    documents = [f"{document.key.collection}/{document.key.id}" for document in removal.documents]
    return documents + [f"secret {secret_name(removal.org_id)}"] * removal.has_secret
