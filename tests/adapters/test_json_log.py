from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from core.adapters import json_log
from core.ports import log


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("fairlane")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_an_event_is_one_line_in_cloud_loggings_names(capsys: pytest.CaptureFixture[str]) -> None:
    json_log.install("INFO", "clinics-prod")
    with log.bound(trace="a" * 32, org="bkk-smile"):
        log.info("turn.done", ms=12.5, model="gpt-6-luna", note="สวัสดี\nค่ะ")
    [line] = lines(capsys)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "severity": "INFO",
        "message": "turn.done",
        "logging.googleapis.com/trace": f"projects/clinics-prod/traces/{'a' * 32}",
        "logging.googleapis.com/labels": {"org": "bkk-smile"},
        "org": "bkk-smile",
        "ms": 12.5,
        "model": "gpt-6-luna",
        "note": "สวัสดี\nค่ะ",
    }


def test_an_exception_brings_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    json_log.install("INFO", "p")
    try:
        int("boom")
    except ValueError as exc:
        log.error("turn.failed", exc=exc)
    [line] = lines(capsys)
    assert line["severity"] == "ERROR"
    assert "ValueError: invalid literal" in line["stack_trace"]


def test_the_level_counts_for_ours_and_warnings_for_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    json_log.install("INFO", "p")
    json_log.install("INFO", "p")
    log.debug("turn.prompt", text="a customer's words")
    logging.getLogger("httpx2").info("request")
    logging.getLogger("httpx2").warning("slow")
    assert [(line["message"], line["logger"]) for line in lines(capsys)] == [("slow", "httpx2")]


def test_what_json_cannot_say_is_said_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    json_log.install("DEBUG", "p")
    log.debug("x", what={1, 2}, severity="mine")
    [line] = lines(capsys)
    assert (line["what"], line["severity"]) == ("{1, 2}", "DEBUG")


def test_a_field_may_be_called_event(capsys: pytest.CaptureFixture[str]) -> None:
    json_log.install("INFO", "p")
    log.info("turn.duplicate", event="01HEVENT")
    [line] = lines(capsys)
    assert (line["message"], line["event"]) == ("turn.duplicate", "01HEVENT")
