"""Where a command prints: as wide as the terminal; in pipes and files, as wide as what is printed."""

from __future__ import annotations

import os

from rich.console import Console

NARROWEST = 80
"""Tables are made to fit into this; a terminal that is narrower wraps their lines, and nothing is cut off."""
_UNLIMITED = 10_000


def stdout(*, highlight: bool = True) -> Console:
    """COLUMNS counts wherever it is set."""
    console = Console(highlight=highlight)
    limited = console.is_terminal or "COLUMNS" in os.environ
    console.width = max(NARROWEST, console.width) if limited else _UNLIMITED
    return console
