"""`fairlane slots`: who is at the provider, who waits, what the provider allows; overriding the limits."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
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
from core.bootstrap.turn import slot_options
from core.domain.clinic import ORG_ID
from core.domain.errors import RedisUnavailableError
from core.domain.settings import MAX_SLOTS, Settings
from core.ops.terminal import stdout
from core.usecases.operate.bring_forward import BringForward

app = typer.Typer(help="Slots at the LLM provider: live view and limits.", no_args_is_help=False)

T = TypeVar("T")
BAR_WIDTH = 20
_WHY = {
    "ceiling": "all",
    "operator": "set by an operator",
    "refused": "the provider refused more",
    "latency": "calls took longer with more",
}
Provider = Annotated[
    str | None, typer.Option("--provider", metavar="NAME", help="Of LLM_PROVIDERS; else the first one.")
]
REFRESH_S = 0.5


Operators = Mapping[str, RedisSlotsOperator]
"""By provider, the first one first."""
Views = Mapping[str, SlotsView]


def run(command: Callable[[Operators], Awaitable[T]]) -> T:
    """Run `command` against the Redis of REDIS_URL. What fairlane raises goes on to core.ops.cli."""

    async def opened() -> T:
        settings = Settings.read(os.environ, ("REDIS_URL",))
        redis = shared.redis(settings)
        try:
            return await command(
                {
                    each.name: RedisSlotsOperator(redis, slot_options(settings, each))
                    for each in settings.providers.all
                }
            )
        finally:
            await redis.aclose()

    return asyncio.run(opened())


def _of(slots: Operators, provider: str | None) -> RedisSlotsOperator:
    """The first one's if none is named."""
    name = provider or next(iter(slots))
    if name not in slots:
        raise typer.BadParameter(f"expected one of {', '.join(slots)}", param_hint="--provider")
    return slots[name]


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
    views = run(_views)
    if as_json:
        typer.echo(json.dumps(views_json(views), ensure_ascii=False, indent=2))
    else:
        stdout().print(views_table(views))


async def _views(slots: Operators) -> Views:
    return {name: await each.snapshot() for name, each in slots.items()}


async def _watch(slots: Operators, *, as_json: bool) -> None:
    """With --json one line a look, for pipes."""
    looks = _looks(slots)
    views, trouble = await anext(looks)
    if as_json:
        typer.echo(json.dumps(views_json(views), ensure_ascii=False))
        async for views, trouble in looks:
            if trouble:
                typer.echo(trouble, err=True)
            else:
                typer.echo(json.dumps(views_json(views), ensure_ascii=False))
    with Live(views_table(views), auto_refresh=False) as live:
        async for views, trouble in looks:
            table = views_table(views)
            live.update(Group(Text(trouble, style="red"), table) if trouble else table, refresh=True)


async def _looks(slots: Operators) -> AsyncIterator[tuple[Views, str]]:
    """The newest view, and why there is no newer one. Only the first look may fail: who watches through an
    outage wants to see its end."""
    views = await _views(slots)
    yield views, ""
    while True:
        await asyncio.sleep(REFRESH_S)
        trouble = ""
        try:
            views = await _views(slots)
        except RedisUnavailableError as exc:
            trouble = f"Redis does not answer: {exc}"
        yield views, trouble


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
    provider: Provider = None,
) -> None:
    """Override the limits for all instances, from their next operation on; no deployment is needed."""
    if everywhere is None and org is None and not reset:
        raise typer.BadParameter("say what to set: --global N, --org ORG N, or --reset")
    if org is not None and not (re.fullmatch(ORG_ID, org[0]) and 0 <= org[1] <= MAX_SLOTS):
        raise typer.BadParameter(
            f"expected a clinic's org_id and 0 to {MAX_SLOTS}, such as bkk-smile 8", param_hint="--org"
        )

    async def change(all_slots: Operators) -> SlotsView:
        slots = _of(all_slots, provider)
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
def close_circuit(provider: Provider = None) -> None:
    """Let calls through again, before the circuit's or a cooldown's own time is over.

    Goes on until what waits on the queue for that time has been brought forward, as
    fast as the slots allow; after Ctrl-C the rest comes at its own time.
    """
    was_open = run(lambda slots: _of(slots, provider).close_circuit())
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


def views_json(views: Views) -> dict[str, Any]:
    """The first provider's whole view, and what matters of each."""
    first = next(iter(views.values()))
    return {**asdict(first), **_sums(first), "providers": {n: _limits(view) for n, view in views.items()}}


def _sums(view: SlotsView) -> dict[str, int]:
    return {"used": view.used, "waiting": view.waiting, "oldest_wait_ms": view.oldest_wait_ms}


def _limits(view: SlotsView) -> dict[str, Any]:
    names = ("circuit", "circuit_reason", "circuit_open_ms", "cooldown_ms", "requests", "tokens")
    return {
        "limit": view.limit,
        "ceiling": view.ceiling,
        "reason": view.limit_reason,
        **_sums(view),
        **{name: getattr(view, name) for name in (*names, "attempts", "failures")},
    }


def views_table(views: Views) -> RenderableType:
    if len(views) == 1:
        return view_table(*views.values())
    parts: list[RenderableType] = []
    for name, view in views.items():
        parts += [Text(), Text(name, style="bold underline"), view_table(view)]
    return Group(*parts[1:])


def view_table(view: SlotsView) -> RenderableType:
    """For people: one line on the provider, then a line a clinic."""
    head = Text.assemble(
        (f"{view.used} of {view.limit} slots", "bold"),
        "" if view.ceiling == view.configured_limit else f" (configured {view.configured_limit})",
        "" if view.limit == view.ceiling else f" (of {view.ceiling}: {_WHY[view.limit_reason]})",
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
