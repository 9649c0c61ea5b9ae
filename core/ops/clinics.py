"""`fairlane clinics`: apply a file, list, show; connect and remove are modules of their own."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from core.domain.clinic import Clinic, secret_name
from core.ops.clinic_history import history, rollback, show_diff
from core.ops.clinic_marks import announced
from core.ops.clinics_file import EXAMPLE, Rules, read_clinics_file
from core.ops.mode import mode
from core.ops.model_use import list_models, move_model
from core.ops.remove import remove
from core.ops.session import Session, run
from core.ops.terminal import stdout
from core.usecases.clinics.documents import DEFAULT, budget_document, model_document, org_document
from core.usecases.clinics.price_list import PriceList
from core.usecases.operate.apply_clinics import ApplyClinics, Plan, TakenError
from core.usecases.operate.clinic_changes import Change
from core.usecases.operate.clinic_state import FieldChange
from core.usecases.operate.stored_clinics import NoSuchClinicError, StoredClinics, read_stored

app = typer.Typer(
    help="The clinics: apply a file, list, show, versions, mode, connect with LINE, remove.",
    no_args_is_help=True,
)

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
SHOWN_CHARACTERS = 40

_HELP = f"""
Make the stores agree with a clinics file. All of it is checked before anything is written; then only
differences are written, each clinic at once. Applying again changes nothing. Clinics that are not in the
file stay as they are.

With --rehearse CASES --budget BAHT, what is new or changed is first tried on the cases (`fairlane rehearse
--help`), and written only if all of them pass: else it ends with 1, or with 2 if the budget ended it.

A clinic without `model` or `budget` follows the defaults, and so does each field that it leaves out.

\b
An example:
\b
{escape(EXAMPLE)}"""


@app.command("apply", help=_HELP, short_help="Make the stores agree with a clinics file.")
def apply_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML, or JSON.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, write nothing.")] = False,
    rehearse: Annotated[
        Path | None, typer.Option(metavar="CASES", help="Only if these pass; a file, or red_team.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="BAHT", help="The most that --rehearse may spend.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    trial = import_module("core.ops.rehearse_first").trial_of(rehearse, budget) if rehearse else None

    async def apply(here: Session) -> tuple[Plan, tuple[str, ...]]:
        prices = await PriceList(here.documents, here.clock).current()
        rules = Rules(
            prices, here.clock.now_ms(), here.settings.chat_max_concurrent, here.settings.named_providers
        )
        clinics = read_clinics_file(file, rules)
        applying = ApplyClinics(here.documents, here.secrets, here.clock, here.operator())
        try:
            plan = await applying.plan(clinics.wanted)
        except TakenError as exc:
            raise clinics.refused(exc) from exc
        clinics.check_output(plan.as_read, prices)
        clinics.check_rate(plan.as_read, here.settings.llm_tokens_per_minute, here.clock.now_ms())
        if trial is not None:
            changed = _changed(plan)
            await trial(here, [clinic for clinic in plan.as_read if clinic.org_id in changed])
        if not dry_run:
            with _progress() as progress:
                task = progress.add_task("clinics", total=len(plan.changes))
                await applying.apply(plan, lambda _: progress.advance(task))
            late = await announced(here, _changed(plan))
            if late and any(field.field == "mode" for change in plan.changes for field in change.fields):
                return plan, (*clinics.warnings, late)
        return plan, clinics.warnings

    plan, warnings = run(apply, with_secrets=True, needs=("OPENAI_API_KEY",) if trial else ())
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        typer.echo(json.dumps(plan_json(plan, warnings, dry_run=dry_run), ensure_ascii=False, indent=2))
    else:
        _print_plan(plan, dry_run=dry_run)


def _changed(plan: Plan) -> list[str]:
    """Whom instances are to read anew; with other defaults, everybody."""
    changed = {change.org_id for change in plan.changes if change.version is not None}
    followers = {clinic.org_id for clinic in plan.as_read} if DEFAULT in changed else set()
    return sorted((changed | followers) - {DEFAULT})


def _progress() -> Progress:
    """Shown on a terminal while it lasts, and nowhere else."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not Console().is_terminal)


def plan_json(plan: Plan, warnings: tuple[str, ...], *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "clinics": [
            {
                "org_id": change.org_id,
                "status": change.status,
                "version": change.version,
                "changes": [{"field": c.field, "old": c.old, "new": c.new} for c in change.fields],
            }
            for change in plan.changes
        ],
        "left_alone": list(plan.left_alone),
        "warnings": list(warnings),
    }


def _print_plan(plan: Plan, *, dry_run: bool) -> None:
    counts = {"new": 0, "changed": 0, "unchanged": 0}
    styles = {"new": "green", "changed": "yellow"}
    console = Console(highlight=False, soft_wrap=True)
    for change in plan.changes:
        counts[change.status] += 1
        if change.status in styles:
            line = Text(f"{change.status:<9} ", style=styles[change.status])
            console.print(line.append(_title(change), style="default"))
        for field in change.fields if change.status == "changed" else ():
            console.print(Text(f"          {_in_words(field)}"))
    if plan.left_alone:
        names = ", ".join(plan.left_alone[:10]) + (" …" if len(plan.left_alone) > 10 else "")
        console.print(Text(f"not in the file and left alone: {len(plan.left_alone)} ({names})"))
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    console.print(f"{summary}{'; dry run: nothing was written' if dry_run else ''}")


def _title(change: Change) -> str:
    return "defaults" if change.org_id == DEFAULT else change.org_id


def _in_words(change: FieldChange) -> str:
    if change.field == "line.channel_secret":
        return f"{change.field}: stored anew"
    nothing = "the default" if change.field.startswith(("model.", "budget.")) else "none"
    return f"{change.field}: {_short(change.old, nothing)} → {_short(change.new, nothing)}"


def _short(value: Any, nothing: str = "none") -> str:
    """A value in one line. Of a long text, how long it is: its beginning may be the same as before."""
    if value is None or value == "":
        return nothing
    text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS and "\n" not in text else f"{len(text)} characters"


@app.command("list")
def list_clinics(
    models: Annotated[
        bool, typer.Option("--models", help="Which models are used, by whom, until when.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """All clinics with the model, budget and limits that hold for them. `*`: from the defaults."""
    if models:
        list_models(as_json=as_json)
        return

    async def read(here: Session) -> StoredClinics:
        return await read_stored(here.documents)

    stored = run(read)
    clinics = [stored.clinic(org_id) for org_id in sorted(stored.orgs)]
    if as_json:
        rows = [clinic_json(stored, clinic) for clinic in clinics]
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    elif clinics:
        stdout().print(_table(stored, clinics))
    else:
        typer.echo("no clinics yet: `fairlane clinics apply FILE` adds them (--help shows an example)")


@app.command("show")
def show_clinic(
    org: Annotated[str, typer.Argument(metavar="ORG", help="The clinic's org_id.")],
    as_json: AsJson = False,
) -> None:
    """One clinic: all that holds for it, and whether its secret is stored."""

    async def read(here: Session) -> tuple[StoredClinics, bool]:
        stored = await read_stored(here.documents)
        if org not in stored.orgs:
            raise NoSuchClinicError(org)
        return stored, await here.secrets.get(secret_name(org)) is not None

    stored, has_secret = run(read, with_secrets=True)
    data = {**clinic_json(stored, stored.clinic(org)), "secret_stored": has_secret}
    if as_json:
        typer.echo(json.dumps(data, ensure_ascii=False, indent=2))
        return
    out = Table(box=None, show_header=False, pad_edge=False)
    out.add_column(style="dim")
    out.add_column()
    for name, value in data.items():
        if isinstance(value, dict):
            shown = "\n".join(f"{key}: {_short(inner)}" for key, inner in value.items())
        elif isinstance(value, list):
            shown = _in_lines(value) or ("none: all from the defaults" if name == "own" else "none")
        else:
            shown = str(value).strip() or "none"
        out.add_row(name, Text(shown))
    stdout(highlight=False).print(out)


def _in_lines(values: list[Any]) -> str:
    """Names on one line; a price or an approved answer on a line of its own."""
    if not any(isinstance(value, dict) for value in values):
        return ", ".join(values)
    return "\n".join(" · ".join(str(part) for part in value.values() if part) for value in values)


def clinic_json(stored: StoredClinics, clinic: Clinic) -> dict[str, Any]:
    """What holds; `own` names what of model and budget the clinic has set for itself."""
    return {
        "org_id": clinic.org_id,
        "version": clinic.version,
        **org_document(clinic),
        "model": model_document(clinic.model),
        "budget": budget_document(clinic.budget),
        "own": _own(stored, clinic.org_id),
    }


def _own(stored: StoredClinics, org_id: str) -> list[str]:
    parts = {"model": stored.models, "budget": stored.budgets}
    return [f"{part}.{name}" for part, of in parts.items() if org_id in of for name in of[org_id].data]


def _table(stored: StoredClinics, clinics: list[Clinic]) -> Table:
    out = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("clinic", "name", "model", "fallback"):
        out.add_column(name)
    for name in ("baht a day", "at once", "a minute"):
        out.add_column(name, justify="right")
    for clinic in clinics:
        own = _own(stored, clinic.org_id)
        out.add_row(
            clinic.org_id,
            Text(clinic.name),
            clinic.model.model_name + ("" if "model.model_name" in own else "*"),
            clinic.budget.fallback_model or "none",
            f"{clinic.budget.daily_budget_baht}{'' if 'budget.daily_budget_baht' in own else '*'}",
            str(clinic.limits.max_concurrent or "*"),
            str(clinic.limits.messages_per_minute or "*"),
        )
    return out


app.command("remove")(remove)
app.command("mode")(mode)
app.command("history")(history)
app.command("diff")(show_diff)
app.command("rollback")(rollback)
app.command("move-model")(move_model)
if find_spec("core.ops.connect"):
    app.command("connect")(import_module("core.ops.connect").connect)
