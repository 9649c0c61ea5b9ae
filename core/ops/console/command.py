"""The command that serves the console."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from core.ops.console.application import build
from core.ops.console.audit import audited
from core.ops.console.server import ConsoleServer
from core.ops.console.workplace import Workplace
from core.ops.session import session


def console(
    port: Annotated[int, typer.Option(help="Where it listens; 0: any free port.", min=0, max=65535)] = 0,
) -> None:
    """Serve the console to a browser on this machine, until Ctrl-C.

    It prints a URL that opens the console once; from then on the browser has a
    cookie. It has the rights that you have, as the commands do. Customers' words
    are hidden until they are asked for. Each look and each change is logged on
    standard error, with your name.

    What the environment does not name or does not reach is left out, and the pages
    say so: Redis, for one, from outside the network.
    """
    try:
        asyncio.run(_serve(port))
    except KeyboardInterrupt:
        typer.echo("stopped")


async def _serve(port: int) -> None:
    async with session(os.environ) as here:
        with audited(here.settings):
            server = ConsoleServer(port)
            typer.echo(f"console   {server.url}")
            typer.echo("The URL opens it once. Stop: Ctrl-C")
            await server.serve(build(Workplace(here, os.environ), server.access))
