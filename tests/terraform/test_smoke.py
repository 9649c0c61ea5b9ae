"""The smoke check accepts a webhook that behaves, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SMOKE = Path(__file__).parents[2] / "terraform" / "smoke.py"
DESTINATION = "U8e742f61d673b39c7fff3cecb7536ef0"
SECRET = "8c570fa6dd201bb328f1c1eac23a96d8"


class Webhook(BaseHTTPRequestHandler):
    """Verifies as the webhook function does; `trusting` ones accept any signature."""

    trusting = False

    def do_GET(self) -> None:
        self._answer(200)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "destination" not in json.loads(body):
            return self._answer(400)
        digest = hmac.digest(SECRET.encode(), body, hashlib.sha256)
        good = self.headers["X-Line-Signature"] == base64.b64encode(digest).decode()
        return self._answer(200 if good or self.trusting else 401)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


class TrustingWebhook(Webhook):
    trusting = True


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), request.param) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _run(url: str, *args: str) -> subprocess.CompletedProcess[str]:
    hasty = "import runpy, time; time.sleep = lambda _: None"
    program = f"{hasty}; runpy.run_path({str(SMOKE)!r}, run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", program, url, *args],
        input=json.dumps({"channel_id": "1", "channel_secret": SECRET}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("url", [Webhook], indirect=True)
def test_a_webhook_that_knows_the_clinic_passes(url: str) -> None:
    done = _run(url, "--destination", DESTINATION)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("ok  ") == 4
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("url", [Webhook], indirect=True)
def test_without_a_clinic_no_secret_is_needed(url: str) -> None:
    assert _run(url).returncode == 0


@pytest.mark.parametrize("url", [TrustingWebhook], indirect=True)
def test_a_webhook_that_accepts_any_signature_fails(url: str) -> None:
    done = _run(url, "--destination", DESTINATION)
    assert done.returncode == 1
    assert "FAIL an empty webhook, signed wrongly: 200, expected 401" in done.stdout


def test_a_webhook_that_does_not_answer_fails() -> None:
    assert _run("http://127.0.0.1:9").returncode == 1
