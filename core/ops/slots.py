"""`fairlane slots`: who is at the provider, who waits, what the provider allows; overriding the limits."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from core.adapters.redis_slots_operator import RedisSlotsOperator, SlotsView
from core.adapters.system_clock import SystemClock
from core.bootstrap import shared
from core.domain.clinic import ORG_ID
from core.domain.errors import RedisUnavailableError
from core.domain.settings import MAX_SLOTS, Settings
from core.ops.terminal import stdout
from core.usecases.operate.bring_forward import BringForward

app = typer.Typer(help="Slots at the LLM provider: live view and limits.", no_args_is_help=False)

T = TypeVar("T")
BAR_WIDTH = 20
REFRESH_S = 0.5


def run(command: Callable[[RedisSlotsOperator], Awaitable[T]]) -> T:
    """Run `command` against the Redis of REDIS_URL. What fairlane raises goes on to core.ops.cli."""

    async def opened() -> T:
        redis = shared.redis(Settings.read(os.environ, ("REDIS_URL",)))
        try:
            return await command(RedisSlotsOperator(redis))
        finally:
            await redis.aclose()

    return asyncio.run(opened())


@app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Limit, held and waiting by clinic, oldest wait, circuit, cooldown, rates."""
    if context.invoked_subcommand is not None:
        return
    if watch:
        run(lambda slots: _watch(slots, as_json=as_json))
        return
    view = run(lambda slots: slots.snapshot())
    if as_json:
        typer.echo(json.dumps(view_json(view), ensure_ascii=False, indent=2))
    else:
        stdout().print(view_table(view))


async def _watch(slots: RedisSlotsOperator, *, as_json: bool) -> None:
    """With --json one line a look, for pipes."""
    looks = _looks(slots)
    view, trouble = await anext(looks)
    if as_json:
        typer.echo(json.dumps(view_json(view), ensure_ascii=False))
        async for view, trouble in looks:
            if trouble:
                typer.echo(trouble, err=True)
            else:
                typer.echo(json.dumps(view_json(view), ensure_ascii=False))
    with Live(view_table(view), auto_refresh=False) as live:
        async for view, trouble in looks:
            table = view_table(view)
            live.update(Group(Text(trouble, style="red"), table) if trouble else table, refresh=True)


async def _looks(slots: RedisSlotsOperator) -> AsyncIterator[tuple[SlotsView, str]]:
    """The newest view, and why there is no newer one. Only the first look may fail: who watches through an
    outage wants to see its end."""
    view = await slots.snapshot()
    yield view, ""
    while True:
        await asyncio.sleep(REFRESH_S)
        trouble = ""
        try:
            view = await slots.snapshot()
        except RedisUnavailableError as exc:
            trouble = f"Redis does not answer: {exc}"
        yield view, trouble


@app.command("set")
def set_limit(
    everywhere: Annotated[
        int | None,
        typer.Option(
            "--global",
            min=0,
            max=MAX_SLOTS,
            metavar="N",
            help="Calls at the provider at once; 0: as configured again.",
        ),
    ] = None,
    org: Annotated[
        tuple[str, int] | None,
        typer.Option("--org", metavar="ORG N", help="Of these, for one clinic; 0: as configured again."),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="As configured again, for all.")] = False,
) -> None:
    """Override the limits for all instances, from their next operation on; no deployment is needed."""
    if everywhere is None and org is None and not reset:
        raise typer.BadParameter("say what to set: --global N, --org ORG N, or --reset")
    if org is not None and not (re.fullmatch(ORG_ID, org[0]) and 0 <= org[1] <= MAX_SLOTS):
        raise typer.BadParameter(
            f"expected a clinic's org_id and 0 to {MAX_SLOTS}, such as bkk-smile 8", param_hint="--org"
        )

    async def change(slots: RedisSlotsOperator) -> SlotsView:
        if reset:
            await slots.reset_limits()
        if everywhere is not None:
            await slots.set_limit(everywhere or None)
        if org is not None:
            await slots.set_limit(org[1] or None, org_id=org[0])
        return await slots.snapshot()

    view = run(change)
    overrides = ", ".join(f"{name} {cap}" for name, cap in sorted(view.overrides.items()))
    typer.echo(
        f"limit {view.limit} (configured {view.configured_limit}), clinics: {overrides or 'as configured'}"
    )
    for name, cap in sorted(view.overrides.items()):
        if cap > view.limit:
            typer.echo(f"{name} {cap} is more than the limit: it gets {view.limit} at most")


@app.command("close-circuit")
def close_circuit() -> None:
    """Let calls through again, before the circuit's or a cooldown's own time is over.

    Goes on until what waits on the queue for that time has been brought forward, as
    fast as the slots allow; after Ctrl-C the rest comes at its own time.
    """
    was_open = run(lambda slots: slots.close_circuit())
    typer.echo("calls may go through again" if was_open else "the circuit was closed already")
    if was_open:
        forward = asyncio.run(_bring_forward())
        typer.echo(
            "TASKS_QUEUE is not set: what waits on the queue comes at its own time"
            if forward is None
            else f"{forward} waiting turns brought forward"
        )


async def _bring_forward() -> int | None:
    """None if it is not known which queue they wait on."""
    settings = Settings.read(os.environ, ("REDIS_URL",))
    if not settings.tasks_queue:
        return None
    redis, tasks = shared.redis(settings), shared.tasks(settings)
    try:
        bring_forward = BringForward(shared.backlog(settings, redis), tasks, SystemClock())
        with stdout().status("looking for turns that wait") as status:
            return await bring_forward(
                lambda forward, waiting: status.update(f"{forward} brought forward, {waiting} wait")
            )
    finally:
        await tasks.close()
        await redis.aclose()


def view_json(view: SlotsView) -> dict[str, Any]:
    sums = {"used": view.used, "waiting": view.waiting, "oldest_wait_ms": view.oldest_wait_ms}
    return {**asdict(view), **sums}


def view_table(view: SlotsView) -> RenderableType:
    """For people: one line on the provider, then a line a clinic."""
    head = Text.assemble(
        (f"{view.used} of {view.limit} slots", "bold"),
        "" if view.limit == view.configured_limit else f" (configured {view.configured_limit})",
        f", {view.waiting} waiting",
        f", the oldest for {view.oldest_wait_ms / 1000:.1f} s" if view.waiting else "",
    )
    out = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("clinic", "slots"):
        out.add_column(name)
    for name in ("cap", "waiting", "oldest"):
        out.add_column(name, justify="right")
    for org in view.orgs:
        cap = f"{org.cap}*" if org.org_id in view.overrides else str(org.cap)
        oldest = f"{org.oldest_wait_ms / 1000:.1f} s" if org.waiting else ""
        bar = Text("█" * min(BAR_WIDTH, org.held), style="green")
        bar.append(f" {org.held}", style="default")
        out.add_row(org.org_id, bar, cap, str(org.waiting) if org.waiting else "", oldest)
    parts: list[RenderableType] = [head, _provider(view)]
    if view.orgs:
        parts += [Text(), out]
    if view.overrides:
        names = ", ".join(f"{name} {cap}" for name, cap in sorted(view.overrides.items()))
        parts.append(Text(f"* set by an operator: {names}", style="dim"))
    return Group(*parts)


def _provider(view: SlotsView) -> Text:
    styles = {"closed": "green", "half-open": "yellow", "open": "red"}
    line = Text("circuit ").append(view.circuit, style=styles[view.circuit])
    if view.circuit == "open":
        line.append(f" for {view.circuit_open_ms / 1000:.0f} s ({view.circuit_reason})")
    elif view.circuit == "half-open":
        line.append(f" (one call tries the provider; opened by {view.circuit_reason})")
    line.append(f", {view.failures} of the last {view.attempts} calls failed")
    if view.cooldown_ms:
        line.append(f", cooling down for {view.cooldown_ms / 1000:.1f} s", style="yellow")
    if view.requests is not None:
        line.append(f", last minute {view.requests:,} requests, {view.tokens:,} tokens")
    return line
