"""`fairlane doctor`: what is wrong with a deployment, and how to mend it."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from core.ops.doctor_checks import examine_deployment
from core.usecases.operate.examine import Finding, Verdict

_SIGNS = {Verdict.OK: ("✓", "green"), Verdict.ATTENTION: ("!", "yellow"), Verdict.BROKEN: ("✗", "red")}


def doctor(
    webhook_url: Annotated[
        str | None, typer.Option("--webhook-url", metavar="URL", help="Also: does the webhook answer?")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Look at everything a deployment needs and say how to mend what is wrong. Nothing is left changed.

    It uses the functions' settings from the environment; what is not set here is not checked. `!` works or
    could not be looked at, `✗` is broken. Ends with 1 if something is broken.

    \b
    Examples:
      fairlane doctor
      fairlane doctor --webhook-url https://fairlane-webhook-123456.asia-southeast1.run.app
    """
    found = asyncio.run(examine_deployment(os.environ, webhook_url))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in found], ensure_ascii=False, indent=2))
    else:
        _print(found)
    if any(finding.verdict is Verdict.BROKEN for finding in found):
        raise typer.Exit(1)


def _print(found: list[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(finding.check) for finding in found)
    for finding in found:
        sign, style = _SIGNS[finding.verdict]
        line = Text(f"{sign} ", style=style).append(f"{finding.check:<{width}}  ", style="dim")
        line.append(finding.detail, style="default")
        if finding.remedy:
            line.append(f" → {finding.remedy}", style="bold")
        console.print(line)
    counts = [(sum(f.verdict is verdict for f in found), verdict.value) for verdict in Verdict]
    console.print(", ".join(f"{count} {name}" for count, name in counts if count))
