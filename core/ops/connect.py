"""`fairlane clinics connect`: LINE's channels pointed at this deployment and tested."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from core.adapters.line_messaging import LineMessagingApi
from core.domain.errors import InvalidInputError
from core.ops.session import Session, run
from core.usecases.operate.connect_clinics import REDELIVERY, ConnectClinics, Connection, Status

# LINE's test waits for the webhook before it answers.
_LINE_TIMEOUT_S = 20.0
_STYLES = {
    Status.CONNECTED: ("✓", "green"),
    Status.DONE_BEFORE: ("✓", "dim"),
    Status.SWITCH_ON: ("!", "yellow"),
    Status.FAILED: ("✗", "red"),
}


def connect(
    orgs: Annotated[list[str] | None, typer.Argument(metavar="ORG…", help="Clinics' org_ids.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every clinic.")] = False,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="The webhook's URL; without it, what Terraform in ./terraform deployed."
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also clinics that are connected already.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Test the webhook URL from LINE's side, set it, and say what a person must still switch on.

    It can be interrupted and run again: clinics that are connected to this URL are skipped. Ends with 1 if a
    clinic failed.

    \b
    Examples:
      fairlane clinics connect bkk-smile
      fairlane clinics connect --all --url https://fairlane-webhook-123456.asia-southeast1.run.app
    """
    if bool(orgs) == everyone:
        raise typer.BadParameter("say which clinics: ORG…, or --all")

    async def work(here: Session) -> list[Connection]:
        target = url or await deployed_url()
        line = LineMessagingApi(here.settings.line_api_base_url, timeout_s=_LINE_TIMEOUT_S)
        connecting = ConnectClinics(here.documents, here.secrets, line, here.clock)
        try:
            with _progress() as bar:
                task = bar.add_task("clinics", total=None)
                return await connecting(
                    target,
                    orgs or None,
                    again=again,
                    progress=lambda done, all_: bar.update(task, completed=done, total=all_),
                )
        finally:
            await line.close()

    done = run(work, with_secrets=True)
    if as_json:
        typer.echo(json.dumps([connection_json(one) for one in done], ensure_ascii=False, indent=2))
    else:
        _print(done)
    if any(one.status is Status.FAILED for one in done):
        raise typer.Exit(1)


async def deployed_url() -> str:
    """Terraform's output. Raises InvalidInputError."""
    if terraform := shutil.which("terraform"):
        asking = await asyncio.create_subprocess_exec(
            *(terraform, "-chdir=terraform", "output", "-raw", "webhook_url"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "TF_IN_AUTOMATION": "1"},
        )
        answer, _ = await asking.communicate()
        if asking.returncode == 0 and answer.startswith(b"https://"):
            return answer.decode().strip()
    raise InvalidInputError(
        "--url is needed here: it is what `terraform -chdir=terraform output -raw webhook_url` prints"
    )


def connection_json(one: Connection) -> dict[str, Any]:
    return {
        "org_id": one.org_id,
        "status": one.status.value,
        "problem": one.problem or None,
        "remedy": one.remedy or None,
        "to_do": list(one.to_do),
        "notes": list(one.notes),
    }


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not Console().is_terminal)


def _print(done: list[Connection]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for one in done:
        sign, style = _STYLES[one.status]
        line = Text(f"{sign} ", style=style).append(f"{one.org_id}: {one.status.value}", style="default")
        console.print(line.append(f": {one.problem}" if one.problem else "", style="default"))
        for hint in (one.remedy, *one.to_do, *one.notes):
            if hint:
                console.print(Text(f"    {hint}"))
    counts = {status: sum(one.status is status for one in done) for status in Status}
    console.print(", ".join(f"{count} {status.value}" for status, count in counts.items() if count))
    if counts[Status.CONNECTED] or counts[Status.SWITCH_ON]:
        console.print(Text(REDELIVERY))
