"""The `fairlane` command. A sub-command's module is imported when it runs, so that `--help` is at once there.

A module of core.ops has a typer app named `app`, or one function with the command's name.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from core.domain.errors import FairlaneError

# Name (and module of core.ops) and what `fairlane --help` says of it.
COMMANDS = {
    "demo": "Watch customers of five clinics being answered, on this machine.",
    "dev": "The whole system on this machine, to play with.",
    "peak": "The peak hour of hundreds of clinics, on this machine, with faults.",
    "capacity": "What a number of clinics needs: slots, instances, Redis, Firestore, money.",
    "clinics": "The clinics: apply a file, list, show, connect with LINE, remove.",
    "spend": "What clinics spent, by day and model.",
    "budgets": "A clinic's daily budget and what happens as it is used up.",
    "turns": "The journal of turns: list, show, replay.",
    "slots": "Slots at the LLM provider: live view and limits.",
    "customers": "What is kept of a customer: show, export, forget.",
    "conversations": "Conversations handed over to people: list, pause, resume.",
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
        """What fairlane raises on purpose has a message that says what to do: no traceback, status 1."""
        try:
            return super().invoke(ctx)
        except FairlaneError as exc:
            typer.echo(f"error: {exc}", err=True)
            raise typer.Exit(1) from exc


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
