"""`fairlane demo` for people: plain lines of 100 columns, Thai as it is, and a truthful status."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from core.local.demo_play import Scene
from core.local.demo_report import ClinicFigures, Line, Report
from core.ops import demo
from core.ops.cli import app

WORDS = "สวัสดีค่ะ อยากขูดหินปูน ราคาเท่าไหร่คะ"
REPLY = "โควต้าตอนนี้เต็มแล้วค่ะ ขออภัยในความไม่สะดวกนะคะ รบกวนติดต่อคลินิกโดยตรง หรือทักมาใหม่พรุ่งนี้ค่ะ"


def found(*broken: str) -> Report:
    """A demo in which one customer was answered, another kept waiting on purpose, a third refused."""
    who = (900, "one", "คลินิกหนึ่ง", "มะลิ")
    lines = [
        Line(*who, WORDS, "answered", REPLY, "reply", "turn-0", "gpt-6.1-terra", 1234),
        Line(*who, "ยังอยู่ไหมคะ", "silent"),
        Line(*who, "ใครไม่รู้", "refused", how="HTTP 401"),
    ]
    figures = [
        ClinicFigures("one", "คลินิกหนึ่ง", 2, 1, 1, 0, 1, 1234, 1234, 70_884),
        ClinicFigures("", "all", 2, 1, 1, 0, 1, 1234, 1234, 70_884),
    ]
    scenes = [Scene("A sticker", "broken" if broken else "held", "a line of the clinic's", list(broken))]
    spend = [{"org_id": "one", "spent_micro_baht": 70_884}]
    return Report(scenes, lines, figures, spend, "the table\n", 70_884, 0, True, 23.4)


def play(monkeypatch: pytest.MonkeyPatch, report: Report, *arguments: str) -> Any:
    async def perform(_: Any, *, watch: Any, on_ready: Any, coloured: bool) -> Report:
        on_ready(2.0)
        for scene in report.scenes:
            watch(Scene(scene.title, "running"))
            watch(scene)
        return report

    monkeypatch.setattr(demo, "perform", perform)
    return CliRunner().invoke(app, ["demo", *arguments])


def test_the_scene_is_readable_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = play(monkeypatch, found())
    assert shown.exit_code == 0, shown.output
    assert "\x1b" not in shown.output
    assert max(map(cell_len, shown.output.splitlines())) <= 100
    assert "✓ A sticker" in shown.output
    assert WORDS in shown.output
    assert "reply turn-0 gpt-6.1-terra 1.2 s" in shown.output
    assert "✗ 401" in shown.output
    assert "no answer, on purpose" in shown.output
    assert shown.output.count("฿0.070884") == 3  # served, together, booked
    assert "every promise held" in shown.output


def test_a_broken_promise_is_named_and_ends_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = play(monkeypatch, found("answered 2 times"))
    assert shown.exit_code == 1
    assert "✗ A sticker" in shown.stdout
    assert "not every promise held" in shown.stdout
    assert "broken: A sticker: answered 2 times" in shown.stderr


def test_json_holds_nothing_but_json(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = play(monkeypatch, found("answered 2 times"), "--json")
    assert shown.exit_code == 1
    assert shown.stdout.startswith('{\n  "ok": false')
    assert shown.stdout.endswith("}\n")
