"""A function with missing or wrong settings ends before it opens its port, and says all that is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.domain.settings import VARIABLES, Role, required_by
from core.local.processes import free_port

ROOT = Path(__file__).parents[2]
FUNCTIONS: tuple[Role, ...] = ("webhook", "turn")
WRONG = {
    "DOCUMENT_STORE": "mysql",
    "REDIS_URL": "redis://:canary-password@redis:port",
    "REDIS_CA_CERT": "canary-pem",
    "SECRET_STORE": "env",
    "SECRET_PREFIX": "line-",
    "LINE_API_BASE_URL": "api.line.me",
    "LINE_DATA_API_BASE_URL": "api-data.line.me",
    "TASKS_DISPATCHES_PER_S": "0",
    "TASKS_QUEUE": "turns",
    "TURN_URL": "turn.example",
    "CLOUD_TASKS_EMULATOR_HOST": "localhost",
    "OPENAI_BASE_URL": "openai",
    "CHAT_MAX_CONCURRENT": "many",
    "CHAT_MAX_CONCURRENT_PER_ORG": "-1",
    "LLM_PROVIDERS": "openai",
    "LLM_ADAPTIVE": "maybe",
    "LLM_REQUESTS_PER_MINUTE": "0",
    "LLM_TOKENS_PER_MINUTE": "1.5",
    "LLM_ATTEMPT_TIMEOUTS_S": "8;10",
    "LLM_DEADLINE_S": "soon",
    "LLM_BACKOFF_S": "-1",
    "LLM_JITTER_S": "nan",
    "SLOT_WAIT_S": "0",
    "SLOT_LEASE_S": "0.1",
    "ORG_ROOM": "0",
    "PATIENCE_S": "x",
    "ORG_MESSAGES_PER_MINUTE": "60001",
    "SENDER_MESSAGES_PER_10S": "none",
    "SESSION_TTL_S": "30m",
    "THB_PER_USD": "0",
    "BUDGET_TIMEZONE": "Asia/Atlantis",
    "LOG_LEVEL": "LOUD",
}


def started(function: Role, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """As the buildpack starts it. The time-out is the proof that it ends by itself."""
    binary = Path(sys.executable).parent / "functions-framework"
    source = ROOT / "functions" / function / "main.py"
    return subprocess.run(
        [binary, f"--target={function}", f"--source={source}", "--host=127.0.0.1", f"--port={free_port()}"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_missing_setting_is_named_at_once(function: Role) -> None:
    ended = started(function, {})
    assert ended.returncode != 0
    said = ended.stdout + ended.stderr
    required = {v.name for v in VARIABLES if v.required}
    assert {name for name in required if f"{name} is required" in said} == required_by(function)
    assert "TASKS_SERVICE_ACCOUNT is required unless" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_wrong_setting_is_named_at_once_and_no_secret_is_shown(function: Role) -> None:
    given = {"GOOGLE_CLOUD_PROJECT": "demo", "OPENAI_API_KEY": "sk-canary"}
    began = time.monotonic()
    ended = started(function, {**given, **WRONG})
    assert ended.returncode != 0
    assert time.monotonic() - began < 15
    said = ended.stdout + ended.stderr
    assert [name for name in WRONG if name not in said] == []
    assert "canary" not in said
    assert "expected" in said
    unchecked = {v.name for v in VARIABLES} - WRONG.keys()
    assert unchecked == {  # any text will do for these
        "GOOGLE_CLOUD_PROJECT",
        "FIRESTORE_DATABASE",
        "TASKS_SERVICE_ACCOUNT",
        "OPENAI_API_KEY",
        "TRANSCRIBE_MODEL",
    }
