"""`fairlane questions`: what customers asked and a clinic's own words do not answer."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from core.domain.clinic_prices import ApprovedAnswer
from core.domain.errors import InvalidInputError
from core.domain.questions import Question
from core.domain.visible import is_damaged, looks_empty
from core.ops.clinic_marks import announced
from core.ops.clinics_file_prices import ANSWER_CHARACTERS
from core.ops.session import Session, run
from core.ops.terminal import stdout
from core.ops.turn_view import shown_time
from core.usecases.operate.change_clinic import ChangeClinic
from core.usecases.operate.questions import Questions
from core.usecases.operate.stored_clinics import find_clinic

app = typer.Typer(help="What clinics' words do not answer: list, answer, dismiss.", no_args_is_help=True)

T = TypeVar("T")
Org = Annotated[str, typer.Argument(metavar="ORG", help="A clinic's org_id.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The question's id, as `questions list` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_questions(
    org: Org,
    everything: Annotated[bool, typer.Option("--all", help="Those that were closed, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """What is open, the most asked first. A question that was answered and is asked again is open again."""

    async def read(questions: Questions, here: Session) -> tuple[list[Question], str]:
        return await questions.of_clinic(org), here.settings.budget_timezone

    found, timezone = _run(org, read)
    shown = [question for question in found if everything or question.is_open]
    if as_json:
        typer.echo(json.dumps([question_json(question) for question in shown], ensure_ascii=False, indent=2))
    elif shown:
        stdout(highlight=False).print(_table(shown, timezone))
    else:
        typer.echo("no open questions")


@app.command("answer")
def answer(
    org: Org,
    question: Id,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="As customers may read it.")],
    as_json: AsJson = False,
) -> None:
    """Approve an answer: from now on the assistant gives it. Put it into the clinics file, too: the next
    `clinics apply` makes the clinic's answers those of the file."""
    wanted = text.strip()
    if looks_empty(wanted) or is_damaged(wanted) or len(wanted) > ANSWER_CHARACTERS:
        raise InvalidInputError(f"TEXT: expected text that customers can see, of at most {ANSWER_CHARACTERS}")

    async def approve(questions: Questions, here: Session) -> tuple[ApprovedAnswer, str]:
        change = ChangeClinic(here.documents, here.clock, here.operator())
        given = await questions.answer(change, org, question, wanted)
        return given, await announced(here, [org])

    given, late = _run(org, approve)
    if late:
        typer.echo(f"warning: {late}", err=True)
    if as_json:
        typer.echo(json.dumps({"id": question, "q": given.question, "a": given.answer}, ensure_ascii=False))
    else:
        typer.echo(f"approved: {given.question} → {given.answer}")


@app.command("dismiss")
def dismiss(org: Org, question: Id, as_json: AsJson = False) -> None:
    """List it no more, however often it is asked."""
    dismissed = _run(org, lambda questions, _: questions.dismiss(org, question))
    typer.echo(json.dumps(question_json(dismissed), ensure_ascii=False) if as_json else "dismissed")


def _run(org: str, command: Callable[[Questions, Session], Awaitable[T]]) -> T:
    async def opened(here: Session) -> T:
        await find_clinic(here.documents, org)
        return await command(Questions(here.documents, here.clock), here)

    return run(opened)


def question_json(question: Question) -> dict[str, Any]:
    """Times in Unix ms."""
    latest = question.latest
    return {
        "id": question.id,
        "topic": latest.topic if latest else "",
        "question": latest.question if latest else "",
        "count": question.count,
        "last_ms": question.last_ms,
        "state": "open" if question.is_open else question.closed,
        "turns": [asked.turn_id for asked in question.asked.values()],
    }


def _table(questions: list[Question], timezone: str) -> Table:
    out = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "topic", "question", "last asked", "state"):
        out.add_column(name)
    out.add_column("times", justify="right")
    for question in questions:
        row = question_json(question)
        out.add_row(
            row["id"],
            Text(row["topic"]),
            Text(row["question"]),
            shown_time(question.last_ms, timezone),
            row["state"],
            str(question.count),
        )
    return out
