"""`fairlane clinics history`, `diff`, `rollback`: what a clinic was, and taking a change back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from core.ops.clinic_marks import announced
from core.ops.session import Session, run
from core.ops.terminal import stdout
from core.ops.turn_view import shown_time
from core.usecases.operate.change_clinic import Changed
from core.usecases.operate.clinic_diff import FieldDiff, as_lines, diff
from core.usecases.operate.clinic_versions import ClinicVersion, find_version, versions_of
from core.usecases.operate.rollback_clinic import RollbackClinic
from core.usecases.operate.stored_clinics import find_clinic

Org = Annotated[str, typer.Argument(metavar="ORG", help="A clinic's org_id, or `default`.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: Unix ms.")]
_SHOWN_FIELDS = 4
_LINE_STYLES = {"-": "red", "+": "green"}


def history(org: Org, as_json: AsJson = False) -> None:
    """Each change of a clinic, the newest first: when, by whom, by which command, what.

    A change past the commands, in the console, shows as `found as stored` with
    the next one. Versions of a clinic that was removed are kept.
    """

    async def read(here: Session) -> tuple[list[ClinicVersion], str]:
        versions = await versions_of(here.documents, org)
        if not versions:
            await find_clinic(here.documents, org)
        return versions, here.settings.budget_timezone

    versions, timezone = run(read)
    if as_json:
        typer.echo(json.dumps([version_json(v) for v in versions], ensure_ascii=False, indent=2))
    elif versions:
        stdout(highlight=False).print(_table(versions, timezone))
    else:
        typer.echo(f"{org} has not been changed since there are versions: its next change is one")


def version_json(version: ClinicVersion) -> dict[str, Any]:
    author = version.author
    return {
        "org_id": version.org_id,
        "version": version.n,
        "at_ms": author.at_ms,
        "by": author.by,
        "what": author.what,
        "fields": list(version.fields),
    }


def _table(versions: Sequence[ClinicVersion], timezone: str) -> Table:
    out = Table(box=None, pad_edge=False, header_style="bold")
    out.add_column("version", justify="right")
    for name in ("when", "by", "command", "changed"):
        out.add_column(name)
    for version in versions:
        fields = ", ".join(version.fields[:_SHOWN_FIELDS]) + " …" * (len(version.fields) > _SHOWN_FIELDS)
        author = version.author
        when = shown_time(author.at_ms, timezone)
        out.add_row(str(version.n), when, Text(author.by or "unknown"), Text(author.what), Text(fields))
    return out


def show_diff(
    org: Org,
    a: Annotated[int, typer.Argument(metavar="A", help="A version, as `clinics history` numbers them.")],
    b: Annotated[int, typer.Argument(metavar="B", help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """What differs from version A to version B, by field and by line."""

    async def read(here: Session) -> tuple[ClinicVersion, ClinicVersion]:
        return await find_version(here.documents, org, a), await find_version(here.documents, org, b)

    before, after = run(read)
    found = diff(before.state, after.state)
    if as_json:
        shown = {"org_id": org, "a": a, "b": b, "fields": [diff_json(each) for each in found]}
        typer.echo(json.dumps(shown, ensure_ascii=False, indent=2))
    elif found:
        stdout(highlight=False).print(diff_view(found))
    else:
        typer.echo("no difference")


def rollback(
    org: Org,
    n: Annotated[int, typer.Argument(metavar="N", help="The version to bring back.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring version N of a clinic back, as a new version: taken back as easily.

    The LINE channel stays as it is. Turns follow within 2 s where this command
    reaches Redis (REDIS_URL), and within 60 s in any case. Put it into the
    clinics file, too: the next `clinics apply` makes the clinic what the file says.
    """

    async def bring_back(here: Session) -> tuple[Changed, str]:
        changed = await RollbackClinic(here.documents, here.clock, here.operator())(org, n, dry_run=dry_run)
        return changed, "" if dry_run else await announced(here, [org])

    changed, late = run(bring_back)
    if late:
        typer.echo(f"warning: {late}", err=True)
    found = diff(changed.before, changed.after)
    if as_json:
        shown = {
            "org_id": org,
            "rolled_back_to": n,
            "version": changed.version,
            "dry_run": dry_run,
            "fields": [diff_json(each) for each in found],
        }
        typer.echo(json.dumps(shown, ensure_ascii=False, indent=2))
        return
    if found:
        stdout(highlight=False).print(diff_view(found))
    typer.echo(_outcome(changed, n, dry_run=dry_run))


def _outcome(changed: Changed, n: int, *, dry_run: bool) -> str:
    if changed.after == changed.before:
        return f"{changed.org_id} is what it was in version {n}: nothing to do"
    if dry_run:
        return "dry run: nothing was written"
    return f"{changed.org_id}: version {changed.version}, as version {n}"


def diff_json(field: FieldDiff) -> dict[str, Any]:
    change = field.change
    lines = [{"sign": line.sign, "line": line.number, "text": line.text} for line in field.lines]
    return {"field": change.field, "old": change.old, "new": change.new, "lines": lines}


def diff_view(fields: Sequence[FieldDiff]) -> Group:
    out: list[Text] = []
    for field in fields:
        name = Text(field.change.field, style="bold")
        if field.is_one_line:
            old, new = (as_lines(value) for value in (field.change.old, field.change.new))
            name.append(f": {' '.join(old) or 'none'} → {' '.join(new) or 'none'}", style="not bold")
            out.append(name)
            continue
        width = max(len(str(line.number)) for line in field.lines) if field.lines else 0
        out.append(name)
        out += [
            Text(f"  {line.sign} {line.number:>{width}}  {line.text}", style=_LINE_STYLES[line.sign])
            for line in field.lines
        ]
    return Group(*out)
