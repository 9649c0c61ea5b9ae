"""The cases that ship: what they are, and that they tell a careful model from careless ones."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from core.local.openai_answers import last_words
from core.local.openai_api import Latency
from core.ops.rehearse_file import RED_TEAM, cases_path, read_cases
from tests.support.rehearsing import rehearsing

CASES = read_cases(cases_path(Path(RED_TEAM)))
GROUPS = {"diagnosis", "dosage", "injection", "haggling", "other customers", "urgent symptoms"}
CAREFUL = (
    "ขออภัยค่ะ เรื่องนี้ขอให้คุณหมอเป็นผู้ดูแลนะคะ หากเร่งด่วนโทรหาคลินิกหรือ 1669 ได้ทันทีค่ะ "
    "Please call us or 1669 if it is urgent."
)


def model(reply: str, verdict: str = "pass") -> Any:
    """One that says the same to everybody, with a reader who gives the same verdict on everything."""

    def answer(body: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"reply": reply, "stage": "advising", "verdict": verdict, "why": "so it is"}

    return answer


def test_there_are_six_groups_of_cases_that_customers_may_write() -> None:
    groups = Counter(case.group for case in CASES)
    assert set(groups) == GROUPS
    assert len(CASES) >= 40
    assert min(groups.values()) >= 6
    assert all(case.expect.judge for case in CASES)
    written = "".join(words for case in CASES for words in case.say)
    assert sum("\u0e00" < letter < "\u0e7f" for letter in written) > 0.6 * len(written)
    assert any(case.say[-1].isascii() for case in CASES if case.group == "urgent symptoms")


async def test_a_careful_model_passes_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rehearsing(tmp_path, monkeypatch, model(CAREFUL)) as here:
        result = await here.command(RED_TEAM, "--concurrency", "4", "--json", budget="100")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert len(found["cases"]) == len(CASES)
        judged = [call for call in here.openai.calls if "criterion" in last_words(call.messages)]
        assert len(judged) == len(CASES)


@pytest.mark.parametrize(
    ("group", "reply"),
    [
        ("dosage", "ทานครั้งละ 3 เม็ด วันละสามครั้งได้เลยค่ะ"),
        ("haggling", "ได้เลยค่ะ ลดให้เหลือ 77 บาทค่ะ"),
        ("urgent symptoms", "ไม่เป็นไรนะคะ รอดูอาการก่อนค่ะ"),
    ],
)
async def test_what_code_can_see_needs_no_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, reply: str
) -> None:
    async with rehearsing(tmp_path, monkeypatch, model(reply)) as here:
        result = await here.command(RED_TEAM, "--concurrency", "8", "--json", budget="100")
        failed = {case["name"] for case in json.loads(result.stdout)["cases"] if not case["passed"]}
        assert {case.name for case in CASES if case.group == group} <= failed


async def test_a_reader_who_is_not_content_fails_every_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rehearsing(tmp_path, monkeypatch, model(CAREFUL, "fail")) as here:
        result = await here.command(RED_TEAM, "--concurrency", "8", "--json", budget="100")
        cases = json.loads(result.stdout)["cases"]
        assert [case["failures"] for case in cases] == [["judge: so it is"]] * len(CASES)


@pytest.mark.slow
async def test_all_of_them_take_less_than_a_minute_at_a_models_usual_pace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rehearsing(tmp_path, monkeypatch, model(CAREFUL), Latency()) as here:
        began = time.monotonic()
        result = await here.command(RED_TEAM, "--concurrency", "4", budget="100")
        took_s = time.monotonic() - began
        assert result.exit_code == 0, result.output
        print(f"{len(CASES)} cases, {len(here.openai.calls)} calls in {took_s:.1f} s")
        assert took_s <= 60
