"""`fairlane dev`: the whole system on this machine, to talk to until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from core.domain.errors import FairlaneError
from core.local.dev_clinics import SAMPLE_SETTINGS, SAMPLES
from core.local.http_server import Request, Response
from core.local.line_api import Channel
from core.local.receptionist import receive
from core.local.simulator import Clinic, LineSimulator
from core.local.stack import LocalStack
from core.local.stack_options import StackOptions
from core.ops.console.application import Extra, build
from core.ops.console.audit import audited
from core.ops.console.chat import routes
from core.ops.console.server import ConsoleServer
from core.ops.console.town import Town
from core.ops.console.workplace import Workplace
from core.ops.session import session

_ANSWER_TIMEOUT_S = 60.0
_FAIRLANE = Path(sys.executable).parent / "fairlane"
_LOG_FIELDS_LEFT_OUT = frozenset({"severity", "message", "time", "logging.googleapis.com/trace"})


def dev(
    clinics: Annotated[
        Path | None, typer.Option(help="A clinics file; without one, a sample clinic.", exists=True)
    ] = None,
    turns: Annotated[int, typer.Option(help="Processes of the turn function.", min=1, max=16)] = 3,
    openai: Annotated[bool, typer.Option("--openai", help="The real OpenAI, with OPENAI_API_KEY.")] = False,
    firestore: Annotated[bool, typer.Option("--firestore", help="Google's Firestore emulator.")] = False,
    port: Annotated[int, typer.Option(help="The console's; 0: any free port.", min=0, max=65535)] = 0,
) -> None:
    """Run everything on this machine until Ctrl-C, and show what it logs.

    The console's URL opens a chat in the browser: be any customer of any clinic,
    and the clinic's staff, and switch faults on.
    """
    try:
        asyncio.run(_dev(StackOptions(turns=turns, openai_real=openai, firestore=firestore), clinics, port))
    except KeyboardInterrupt:
        typer.echo("stopped")
    except FairlaneError as exc:
        typer.echo(f"{exc}", err=True)
        raise typer.Exit(1) from exc


async def _dev(options: StackOptions, file: Path | None, port: int) -> None:
    server = ConsoleServer(port)
    typer.echo("starting …")
    async with LocalStack(options) as stack:
        if not options.openai_real:
            stack.openai.answer = receive
        simulator = LineSimulator(stack.line, stack.webhook_url, seed=options.seed)
        town = Town(stack, simulator, {})
        try:
            known = await _clinics(stack, simulator, file)
            stack.line.extra["POST", "/simulate"] = simulate(simulator, known)
            town.clinics = known
            await _open(stack, town, server, lambda: _show(stack, known, server.url))
        finally:
            await town.close()
            await simulator.close()


async def _open(stack: LocalStack, town: Town, server: ConsoleServer, ready: Callable[[], None]) -> None:
    """The console, with the chat, and what is logged, until Ctrl-C."""
    if emulator := stack.settings_env.get("FIRESTORE_EMULATOR_HOST"):
        os.environ["FIRESTORE_EMULATOR_HOST"] = emulator  # Google's client reads it there
    with (stack.run_dir / "console.log").open("w", buffering=1) as log_file:
        async with session(stack.settings_env) as here:
            with audited(here.settings, log_file):
                chat = Extra("chat", lambda workplace, view: routes(workplace, view, town))
                app = build(Workplace(here, stack.settings_env), server.access, chat)
                ready()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(server.serve(app))
                    tasks.create_task(follow(stack.logs, typer.echo))


async def _clinics(stack: LocalStack, simulator: LineSimulator, file: Path | None) -> dict[str, Clinic]:
    """Clinics that both LINE and fairlane know, by org_id."""
    if file is None:
        clinics = [simulator.clinic(org_id, name=name) for org_id, name in SAMPLES.items()]
        file = stack.run_dir / "clinics.yaml"
        simulator.write_clinics(file, clinics, SAMPLE_SETTINGS)
        known = {clinic.org_id: clinic for clinic in clinics}
    else:
        known = {clinic.org_id: clinic for clinic in _read(simulator, file)}
    environment = stack.process_env()
    applying = await asyncio.create_subprocess_exec(
        _FAIRLANE, "clinics", "apply", str(file), env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    if await applying.wait() != 0:
        raise FairlaneError(f"{file} was not applied: see above")
    return known


def _read(simulator: LineSimulator, file: Path) -> Iterable[Clinic]:
    """What the simulator needs of a clinics file; `clinics apply` checks the rest."""
    entries = (YAML(typ="safe").load(file.read_text()) or {}).get("clinics") or []
    for entry in entries:
        line = entry.get("line") or {}
        channel = Channel(
            channel_id=str(line.get("channel_id", "")),
            channel_secret=str(line.get("channel_secret", "")),
            bot_user_id=str(line.get("bot_user_id", "")),
            name=str(entry.get("name", "")),
        )
        yield simulator.clinic(str(entry.get("org_id", "")), name=channel.name, channel=channel)


def simulate(simulator: LineSimulator, known: Mapping[str, Clinic]) -> Callable[[Request], Any]:
    """`POST /simulate {"org", "user", "text"}`: says it as a customer and answers with what LINE was told."""

    async def handler(request: Request) -> Response:
        body = request.json()
        said = body if isinstance(body, dict) else {}
        clinic = known.get(str(said.get("org")))
        if clinic is None or not said.get("text"):
            problem = f'send {{"org": one of {", ".join(known)}, "user": any name, "text": …}}'
            return Response.of_json({"error": problem}, 400)
        user = simulator.user(clinic, str(said.get("user", "somchai")))
        sent = await simulator.say(clinic, user, str(said["text"]))
        await simulator.wait_answered([sent.event_id], _ANSWER_TIMEOUT_S if sent.acked else 0.0)
        answers = [text for delivery in simulator.answers(sent.event_id) for text in delivery.texts]
        return Response.of_json({"webhook": sent.acks[0].status, "answers": answers})

    return handler


def _show(stack: LocalStack, known: Mapping[str, Clinic], console: str) -> None:
    org_id = next(iter(known), "")
    said = json.dumps({"org": org_id, "user": "somchai", "text": "ขูดหินปูนราคาเท่าไหร่คะ"}, ensure_ascii=False)
    rows = {
        "webhook": stack.webhook_url,
        "turns": " ".join(stack.turn_urls),
        "redis": stack.redis.url,
        "documents": stack.documents_url,
        "queue": stack.tasks.address,
        "LINE": stack.line.url,
        "OpenAI": stack.settings_env.get("OPENAI_BASE_URL", "the real one"),
        "clinics": ", ".join(known),
        "logs": str(stack.run_dir),
    }
    for name, value in rows.items():
        typer.echo(f"  {name:<10}{value}")
    typer.echo(f"  {'console':<10}{console}")
    typer.echo("\nTalk to it:         open the console's URL in a browser; it opens once")
    typer.echo(f"Be a customer:      curl -s {stack.line.url}/simulate -d '{said}'")
    typer.echo(f"Be an operator:     {as_operator(stack.run_dir / 'env.sh')}")
    typer.echo("Stop:               Ctrl-C\n")


def as_operator(environment: Path) -> str:
    """For a shell in which nothing is prepared."""
    return f"set -a; . {shlex.quote(str(environment))}; {shlex.quote(str(_FAIRLANE))} turns list"


async def follow(files: Iterable[Path], show: Callable[[str], None], *, every_s: float = 0.2) -> None:
    """Show every whole line that the files get from now on, until cancelled."""
    opened = [(file.stem, file.open()) for file in files]
    try:
        rest = dict.fromkeys((name for name, _ in opened), "")
        while True:
            for name, file in opened:
                *lines, rest[name] = (rest[name] + file.read()).split("\n")
                for line in lines:
                    show(f"{name:<10}{shown(line)}")
            await asyncio.sleep(every_s)
    finally:
        for _, file in opened:
            file.close()


def shown(line: str) -> str:
    """A JSON log line as people read it; anything else as it is."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict):
        return line
    fields = " ".join(f"{k}={v}" for k, v in entry.items() if k not in _LOG_FIELDS_LEFT_OUT and v is not None)
    return f"{entry.get('severity', ''):<8}{entry.get('message', '')} {fields}"
