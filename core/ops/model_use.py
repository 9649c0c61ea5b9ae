"""`fairlane clinics list --models` and `move-model`: who uses which model, until when."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from core.domain.errors import InvalidInputError
from core.ops.clinic_marks import announced
from core.ops.session import Session, run
from core.ops.terminal import stdout
from core.usecases.clinics.documents import DEFAULT
from core.usecases.clinics.price_list import PriceList
from core.usecases.operate.change_clinic import Changed
from core.usecases.operate.examine import names
from core.usecases.operate.model_use import ModelUse, MoveModel, models_in_use, models_of
from core.usecases.operate.stored_clinics import read_stored

_AS = {"model.model_name": "answers", "budget.fallback_model": "fallback", "model.outage_model": "outage"}


def list_models(*, as_json: bool) -> None:
    """Of all clinics."""

    async def read(here: Session) -> list[ModelUse]:
        stored = await read_stored(here.documents)
        prices = await PriceList(here.documents, here.clock).current()
        return models_in_use([stored.clinic(o) for o in sorted(stored.orgs)], prices, here.clock.now_ms())

    uses = run(read)
    if as_json:
        typer.echo(json.dumps([use_json(use) for use in uses], ensure_ascii=False, indent=2))
    else:
        stdout(highlight=False).print(_table(uses))


def use_json(use: ModelUse) -> dict[str, Any]:
    return {
        "model": use.model,
        "ends": use.ends.isoformat() if use.ends else None,
        "priced": use.is_priced,
        "clinics": use.org_ids,
        "as": {field: list(org_ids) for field, org_ids in use.clinics.items()},
    }


def _table(uses: Sequence[ModelUse]) -> Table:
    out = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("model", "until", "as", "used by"):
        out.add_column(name)
    for use in uses:
        until = use.ends.isoformat() if use.ends else "no end announced"
        roles = ", ".join(f"{_AS.get(field, field)} {len(ids)}" for field, ids in use.clinics.items())
        out.add_row(use.model, until if use.is_priced else "no price", roles, Text(names(use.org_ids)))
    return out


def move_model(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The model that is to be used no more.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The one instead.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say who would be moved, write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Move everybody from a model to another: the defaults, and each clinic that names it itself, as its
    answering model or as the fallback. Each gets a version, so that `clinics rollback` takes it back.

    Checked before anything is written. Safe to repeat. Put it into the clinics
    file, too: the next `clinics apply` makes the clinics what the file says.
    """

    async def move(here: Session) -> tuple[list[Changed], list[str], str]:
        if not here.settings.providers.knows(new):
            raise InvalidInputError(f"NEW {new}: LLM_PROVIDERS names no such provider here")
        stored = await read_stored(here.documents)
        users = [o for o in stored.orgs if old in models_of(stored.clinic(o)).values()]
        moved = await MoveModel(here.documents, here.clock, here.operator())(old, new, dry_run=dry_run)
        followers = sorted(set(users) - {each.org_id for each in moved})
        return moved, followers, "" if dry_run or not moved else await announced(here, users)

    moved, followers, late = run(move)
    if late:
        typer.echo(f"warning: {late}", err=True)
    if as_json:
        shown = {
            "old": old,
            "new": new,
            "dry_run": dry_run,
            "moved": [_moved_json(each) for each in moved],
            "by_default": followers,
        }
        typer.echo(json.dumps(shown, ensure_ascii=False, indent=2))
        return
    for each in moved:
        fields = ", ".join(change.field for change in each.fields)
        version = "" if each.version is None else f", version {each.version}"
        is_default = each.org_id == DEFAULT
        who = f"defaults, which {names(followers)} follow" if is_default else each.org_id
        typer.echo(f"{who}: {fields}{version}")
    end = "; dry run: nothing was written" if dry_run else ""
    typer.echo(f"{len(moved)} moved from {old} to {new}{end}" if moved else f"nobody uses {old}")


def _moved_json(moved: Changed) -> dict[str, Any]:
    return {
        "org_id": moved.org_id,
        "fields": [change.field for change in moved.fields],
        "version": moved.version,
    }
