"""`fairlane clinics apply --rehearse CASES`: what is new or changed is tried before it is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import typer
from rich.console import Console

from core.bootstrap.rehearsal import rehearsal
from core.domain.clinic import Clinic
from core.domain.errors import InvalidInputError
from core.ops.rehearse import FAILED, STOPPED, baht, show, with_progress
from core.ops.rehearse_file import cases_path, read_cases
from core.ops.session import Session
from core.usecases.clinics.price_list import COLLECTION as PRICES

_CONCURRENCY = 2
Trial = Callable[[Session, Sequence[Clinic]], Awaitable[None]]


def trial_of(cases: Path, budget: str | None) -> Trial:
    """Ends the command with its status if a case fails or the budget ends it. Raises InvalidInputError for a
    wrong file or a missing budget."""
    if budget is None:
        raise InvalidInputError("--rehearse: needs --budget BAHT, the most that it may spend")
    most, wanted = baht(budget), read_cases(cases_path(cases))

    async def trial(here: Session, clinics: Sequence[Clinic]) -> None:
        if not clinics:
            return
        given = await here.documents.query(PRICES)
        async with rehearsal(here.settings, most, given=given) as rehearsed:
            outcome = await with_progress(rehearsed, clinics, wanted, _CONCURRENCY)
        show(outcome, Console(stderr=True, highlight=False, soft_wrap=True))
        if not outcome.passed:
            typer.echo("error: the rehearsal did not pass: nothing was applied", err=True)
            raise typer.Exit(STOPPED if outcome.not_run else FAILED)

    return trial
