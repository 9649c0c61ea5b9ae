"""`fairlane dev`: what it shows and how one talks to it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest

from core.local.http_server import HttpServer, Request, Response
from core.local.line_api import LineApi, LineCall
from core.local.simulator import LineSimulator
from core.ops.dev import as_operator, follow, shown, simulate


def test_json_log_line_is_shown_as_event_and_fields() -> None:
    entry = {"severity": "INFO", "message": "turn.done", "time": "t", "org": "one", "turn": None, "ms": 12}
    assert shown(json.dumps(entry)) == "INFO    turn.done org=one ms=12"
    assert shown("Traceback") == "Traceback"


async def test_log_files_are_followed_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "turn-0.log"
    file.touch()
    lines: list[str] = []
    following = asyncio.ensure_future(follow([file], lines.append, every_s=0.01))
    with file.open("a") as log:
        for part in ("one\ntw", "o\n"):
            log.write(part)
            log.flush()
            await asyncio.sleep(0.05)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    assert lines == ["turn-0    one", "turn-0    two"]


def test_what_is_shown_to_operators_works_in_a_shell_without_the_environment(tmp_path: Path) -> None:
    settings = tmp_path / "env.sh"
    settings.write_text(f"DOCUMENT_STORE=sqlite:{tmp_path / 'documents.db'}\n")
    shell = {"PATH": os.defpath, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    done = subprocess.run(
        ["sh", "-c", as_operator(settings)],
        env=shell,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (0, "no such turn in the last 1h\n"), done.stderr


async def test_customer_is_simulated_over_http() -> None:
    line = LineApi()

    async def webhook(request: Request) -> Response:
        event = request.json()["events"][0]
        state = next(iter(line.state.channels.values()))
        messages = [{"type": "text", "text": f"«{event['message']['text']}» ค่ะ"}]
        chat = event["source"]["userId"]
        line.state.accept(
            state, chat, LineCall.REPLY, messages, event["timestamp"], reply_token=event["replyToken"]
        )
        return Response(200)

    server = HttpServer(webhook)
    await server.start()
    simulator = LineSimulator(line, server.url)
    handler = simulate(simulator, {"one": simulator.clinic("one")})
    asked = Request("POST", "/simulate", "", {}, b'{"org":"one","text":"hi"}')
    assert (await handler(asked)).body.decode() == '{"webhook":200,"answers":["«hi» ค่ะ"]}'
    unknown = Request("POST", "/simulate", "", {}, b'{"org":"two","text":"hi"}')
    assert (await handler(unknown)).status == 400
    await simulator.close()
    await server.stop()
