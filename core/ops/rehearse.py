"""`fairlane rehearse`: try a clinics file on cases, or on a clinic's own last questions."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from core.adapters.system_clock import SystemClock
from core.bootstrap.rehearsal import rehearsal
from core.domain.clinic import Clinic
from core.domain.errors import InvalidInputError
from core.domain.money import format_baht, to_micro_baht
from core.domain.prices import load_prices
from core.domain.settings import Settings
from core.ops.clinics_file import Rules, read_clinics_file
from core.ops.rehearse_file import EXAMPLE, cases_path, read_cases
from core.ops.rehearse_report import earlier_replies, to_html, to_json, to_junit
from core.ops.session import REDIS, Session, events, run
from core.ops.terminal import stdout
from core.usecases.clinics.price_list import COLLECTION as PRICES
from core.usecases.clinics.price_list import PriceList
from core.usecases.operate.apply_clinics import as_read
from core.usecases.operate.stored_clinics import StoredClinics, read_stored
from core.usecases.rehearse.backtest import last_questions
from core.usecases.rehearse.cases import Case, CaseResult, Outcome
from core.usecases.rehearse.run import Rehearsal

FAILED, STOPPED = 1, 2
"""Statuses that the command ends with."""
NOTHING_TO_TRY = InvalidInputError("expected CASES (a file, or red_team), or --from-turns N with --org ORG")
IN_SPARE_SLOTS = "questions, in slots that no customer needs"
NOTHING_STORED = StoredClinics({}, {}, {}, {})

app = typer.Typer()

_HELP = f"""
Try a clinics file before customers have it: the real prompt, schema, price guard and parser, and nobody on
the far side but the model. Needs OPENAI_API_KEY (OPENAI_BASE_URL) only. CASES is a file, or `red_team`, the
cases that ship: diagnosis, dosage, injection, haggling, other customers, urgent symptoms.

Every reply is held to the price guard and the house rules as well. Every call's worst case is held before it
is made, so that no more than --budget is spent, whatever happens. With --report, a page that stands there
already is the old one: its replies are shown beside the new ones.

Instead of CASES, --from-turns N --org ORG takes the clinic's last N questions from the journal (Firestore),
in slots that no customer needs (Redis). Nothing is sent to anybody, nothing stored.

Ends with 1 if a case failed, with 2 if the budget ended it or a file is wrong.

\b
    fairlane rehearse red_team --clinics clinics.yaml --org bkk-smile --budget 50
    fairlane rehearse cases.yaml --clinics clinics.yaml --budget 20 --report prices.html
    fairlane rehearse --from-turns 100 --org bkk-smile --clinics clinics.yaml --budget 50 --report last.html

\b
A file of cases:
\b
{escape(EXAMPLE)}"""


@app.command(help=_HELP)
def rehearse(
    clinics: Annotated[Path, typer.Option("--clinics", metavar="FILE", help="The clinics file to try.")],
    budget: Annotated[str, typer.Option(metavar="BAHT", help="The most that may be spent.")],
    cases: Annotated[
        Path | None, typer.Argument(metavar="CASES", help="YAML, or red_team.", show_default=False)
    ] = None,
    org: Annotated[str | None, typer.Option(metavar="ORG", help="This clinic; else all of the file.")] = None,
    from_turns: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=1000, help="The clinic's last N questions.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="The result as JUnit XML.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="One HTML page, old replies beside new.")
    ] = None,
    concurrency: Annotated[int, typer.Option(metavar="N", min=1, max=50, help="Calls at once.")] = 2,
) -> None:
    try:
        most = baht(budget)
        if from_turns is not None and org and not cases:
            outcome = _backtest(clinics, org, from_turns, most, concurrency)
        elif cases and from_turns is None:
            outcome = _of_file(cases, clinics, org, most, concurrency)
        else:
            raise NOTHING_TO_TRY
        old = earlier_replies(report) if report else {}
        if report:
            report.write_text(to_html(outcome, old), "utf-8")
        if junit:
            junit.write_text(to_junit(outcome), "utf-8")
    except (InvalidInputError, OSError) as exc:
        typer.echo(f"error: {exc}", err=True)
        raise typer.Exit(STOPPED) from exc
    if as_json:
        typer.echo(json.dumps(to_json(outcome), ensure_ascii=False, indent=2))
    else:
        out = stdout(highlight=False)
        show(outcome, out)
        if report:
            out.print(Text(f"report: {report}"))
    if not outcome.passed:
        raise typer.Exit(STOPPED if outcome.not_run else FAILED)


def baht(budget: str) -> int:
    """In micro-baht. Raises InvalidInputError."""
    try:
        amount = Decimal(budget)
    except InvalidOperation:
        amount = Decimal(0)
    if not (amount.is_finite() and 0 < amount <= 1_000_000):
        raise InvalidInputError(f"--budget {budget!r}: expected an amount in baht such as 20")
    return to_micro_baht(amount)


def _of_file(cases: Path, clinics: Path, org: str | None, budget: int, concurrency: int) -> Outcome:
    wanted_cases = read_cases(cases_path(cases))
    settings = Settings.read(os.environ, {"OPENAI_API_KEY"})
    rules = Rules(
        load_prices(), SystemClock().now_ms(), settings.chat_max_concurrent, settings.named_providers
    )
    candidates = read_candidates(clinics, rules, NOTHING_STORED, org)

    async def tried() -> Outcome:
        async with rehearsal(settings, budget) as trial:
            return await with_progress(trial, candidates, wanted_cases, concurrency)

    with events(replace(settings, log_level="ERROR")):
        return asyncio.run(tried())


def _backtest(clinics: Path, org: str, count: int, budget: int, concurrency: int) -> Outcome:
    async def tried(here: Session) -> Outcome:
        prices = await PriceList(here.documents, here.clock).current()
        rules = Rules(
            prices, here.clock.now_ms(), here.settings.chat_max_concurrent, here.settings.named_providers
        )
        stored = await read_stored(here.documents)
        candidates = read_candidates(clinics, rules, stored, org)
        questions = await last_questions(here.documents, org, count, here.settings.session_ttl_s)
        if not questions:
            raise InvalidInputError(f"--org {org}: its journal has no question that the model has answered")
        given = await here.documents.query(PRICES)
        async with rehearsal(here.settings, budget, given=given, beside_customers=True) as trial:
            return await with_progress(trial, candidates, questions, concurrency, IN_SPARE_SLOTS)

    return run(tried, needs=("OPENAI_API_KEY", *REDIS))


def read_candidates(file: Path, rules: Rules, stored: StoredClinics, org: str | None) -> list[Clinic]:
    """The file's clinics as turns would read them once they are applied, or the one of them that is meant.
    Raises InvalidInputError."""
    clinics = read_clinics_file(file, rules)
    ours = [each.clinic.org_id for each in clinics.wanted.clinics]
    if org is not None and org not in ours:
        raise InvalidInputError(f"--org {org}: {file} has no such clinic, it has {', '.join(ours) or 'none'}")
    read = list(as_read(clinics.wanted, stored, ours))
    clinics.check_output(read, rules.prices)
    return [clinic for clinic in read if clinic.org_id in ([org] if org else ours)]


async def with_progress(
    trial: Rehearsal, clinics: Sequence[Clinic], cases: Sequence[Case], concurrency: int, what: str = "cases"
) -> Outcome:
    """Shown on a terminal while it lasts, and nowhere else."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[last]}"),
    )
    off = not Console(stderr=True).is_terminal
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=off) as progress:
        task = progress.add_task(what, total=len(clinics) * len(cases), last="")

        def done(result: CaseResult) -> None:
            mark = "passed" if result.passed else "failed"
            progress.update(task, advance=1, last=f"{mark}: {result.case.name}")

        return await trial(clinics, cases, concurrency=concurrency, on_done=done)


def show(outcome: Outcome, out: Console) -> None:
    """A line a case; of one that failed, also why, and what was said last."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "case", "clinic"):
        table.add_column(name)
    table.add_column("baht", justify="right")
    table.add_column("s", justify="right")
    for result in outcome.results:
        mark = Text("✓", style="green") if result.passed else Text("✗", style="red")
        cost = format_baht(result.cost_micro_baht, decimals=4)
        table.add_row(mark, Text(result.case.name), result.org_id, cost, f"{result.seconds:.1f}")
    out.print(table)
    for result in outcome.failed:
        last = result.exchanges[-1]
        out.print(Text(f"\n✗ {result.case.name} ({result.org_id})", style="red"))
        out.print(Text("\n".join(f"  {why}" for why in result.failures)))
        out.print(Text(f"  customer: {last.said}\n  reply: {last.reply}", style="dim"))
    if outcome.not_run:
        out.print(Text(f"\nthe budget ended it: {len(outcome.not_run)} not run", style="yellow"))
    passed = len(outcome.results) - len(outcome.failed)
    spent, most = format_baht(outcome.spent_micro_baht), format_baht(outcome.budget_micro_baht)
    out.print(f"\n{passed} passed, {len(outcome.failed)} failed, {spent} of {most} spent")
