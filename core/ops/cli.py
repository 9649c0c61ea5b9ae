"""The `fairlane` command. A sub-command's module is imported when it runs, so that `--help` is at once there.

A module of core.ops has a typer app named `app`, or one function with the command's name.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from core.domain.errors import FairlaneError, RedisUnavailableError

# Name (and module of core.ops) and what `fairlane --help` says of it.
COMMANDS = {
    "demo": "Watch customers of five clinics being answered, on this machine.",
    "dev": "The whole system on this machine, to play with.",
    "peak": "The peak hour of hundreds of clinics, on this machine, with faults.",
    "capacity": "What a number of clinics needs: slots, instances, Redis, Firestore, money.",
    "clinics": "The clinics: apply a file, list, show, versions, mode, connect with LINE, remove.",
    "rehearse": "Try a clinics file on cases, or on a clinic's own last questions, before customers have it.",
    "spend": "What clinics spent, by day and model.",
    "statement": "A clinic's month: every charge, every booking, and that they are the books'.",
    "insights": "What came of conversations: funnel, baht a booking, waiting times, open questions.",
    "budgets": "A clinic's daily budget and what happens as it is used up.",
    "turns": "The journal of turns: list, show, replay.",
    "slots": "Slots at the LLM provider: live view and limits.",
    "customers": "What is kept of a customer: show, export, forget, withdraw consent.",
    "desk": "The chat in which a clinic's staff get notices: code, show, disconnect.",
    "conversations": "Conversations handed over to people: list, pause, resume.",
    "bookings": "Appointments: list, show, confirm, decline, cancel, export as a calendar.",
    "questions": "What clinics' words do not answer: list, answer, dismiss.",
    "console": "All of it as pages in the browser, on this machine.",
    "doctor": "Check a deployment and say how to mend it.",
}


class _Later(TyperCommand):
    """Stands for a sub-command in lists; the command itself is loaded when it is called."""

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        module = import_module(f"core.ops.{self.name}")
        app = getattr(module, "app", None)
        if app is None:
            app = typer.Typer()
            app.command(self.name)(getattr(module, str(self.name)))
        app._add_completion = False  # noqa: SLF001  only get_command reads it: it is for the root alone
        return get_command(app).make_context(info_name, args, parent=parent, **extra)


class _Commands(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, help_line in COMMANDS.items():
            if find_spec(f"core.ops.{name}"):
                self.add_command(_Later(name, help=help_line))

    def invoke(self, ctx: Any) -> Any:
        """What fairlane raises on purpose has a message that says what to do: no traceback, status 1. So has
        a file that can't be read or written."""
        arguments = [*ctx._protected_args, *ctx.args]  # noqa: SLF001  the one place where a group has them all
        try:
            return super().invoke(ctx)
        except (FairlaneError, OSError) as exc:
            message = _file_problem(exc, arguments) if isinstance(exc, OSError) else str(exc)
            if not message:
                raise
            if isinstance(exc, RedisUnavailableError):
                message += f": {import_module('core.ops.session').NO_REDIS}"
            typer.echo(f"error: {message}", err=True)
            raise typer.Exit(1) from exc


# What writing to standard output ends with; such an error names no file.
_OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


def _file_problem(exc: OSError, arguments: Sequence[str]) -> str:
    """In words, with the option that named the file; "" if it is about no file of the operator's."""
    if exc.filename is not None:
        path = str(exc.filename)
        words = [word for argument in arguments for word in argument.split("=", 1)]
        option = next((o for o, value in pairwise(words) if value == path and o.startswith("-")), "")
        return f"{option} {path}: {exc.strerror}".lstrip()
    if exc.errno in _OUTPUT_ERRORS:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  what is still buffered has nowhere to go
        return f"standard output: {exc.strerror}"
    return ""


app = typer.Typer(
    name="fairlane",
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fairlane {version('fairlane')}")
        raise typer.Exit


@app.callback()
def fairlane(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and exit.")
    ] = False,
) -> None:
    """Answers clinics' customers on LINE with an LLM, within every limit, budget and patience."""


def main() -> None:
    """The console script. Ends with 0, 1 (it failed), 2 (wrong usage) or 130 (Ctrl-C)."""
    app()
