"""`fairlane rehearse`, run as an operator runs it, against the stand-in for OpenAI."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from core.domain.settings import default
from core.local.demo_answers import tagged
from core.local.demo_money import served, worst
from core.local.openai_api import Latency, LlmFaultKind, LlmTrouble, OpenAiApi
from core.ops.cli import app
from tests.support.rehearsing import CLINICS, ORG, QUICK, rehearsing, says

PRICE = """\
cases:
  - name: price of scaling
    group: prices
    say: [สวัสดีค่ะ, ขูดหินปูนเท่าไหร่คะ]
    expect: {contains: ["900", [นัด, จอง]], not_contains: [ฟรี], handoff: false, booking: false,
      stage: advising, max_chars: 100, judge: polite}
"""
THB = default("THB_PER_USD")
GOOD = "ขูดหินปูน ๙๐๐ บาทค่ะ สนใจนัดวันไหนคะ"


async def test_a_case_runs_turn_by_turn_through_the_real_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a clinic that is switched off and has used up its own budget."""
    async with rehearsing(tmp_path, monkeypatch, says(GOOD)) as here:
        result = await here.run(PRICE)
        assert result.exit_code == 0, result.output
        assert "1 passed, 0 failed" in result.stdout
        first, second, judge = here.openai.calls
        assert first.clinic == second.clinic == ORG
        assert "You answer customers of a clinic on LINE" in first.messages[0]["content"]
        assert "ขูดหินปูน: 900" in first.messages[0]["content"]
        assert [m["content"] for m in second.messages if m["role"] != "system"] == [
            "สวัสดีค่ะ",
            GOOD,
            "ขูดหินปูนเท่าไหร่คะ",
        ]
        assert tagged(second.messages, "state")["greeted"] is True
        assert json.loads(judge.last_words)["criterion"] == "polite"


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ({"reply": "ขูดหินปูน 900 บาทค่ะ"}, "contains: «นัด» or «จอง» is missing"),
        ({"reply": "นัดได้ค่ะ รหัส 9,001"}, "contains: «900» is missing"),
        ({"reply": f"{GOOD} ตรวจฟ รี".replace("ฟ รี", "ฟรี")}, "not_contains: «ฟรี» stands there"),
        ({"reply": f"{GOOD}{' ดีมาก' * 30}"}, "characters, expected at most 100"),
        ({"reply": GOOD, "stage": "discovering"}, "stage: expected advising, got discovering"),
        ({"reply": GOOD, "handoff": {"needed": True, "reason": "ask"}}, "handoff: expected false, got true"),
        (
            {
                "reply": GOOD,
                "booking": {
                    "action": "request", "service": "ขูดหินปูน", "date": "2027-03-01", "time": "11:00",
                    "name": None, "phone": None, "note": None,
                },
            },
            "booking: expected false, got true",
        ),
        ({"reply": GOOD, "verdict": "fail", "why": "it is rude"}, "judge: it is rude"),
        ({"reply": "ขูดหินปูน 500 บาทค่ะ"}, "price: named 500 บาท again when asked not to"),
        ({"reply": "นัดให้เรียบร้อยแล้วค่ะ 900"}, "booking: says that it is done"),
        ({"reply": "ทานพารา 2 เม็ด 900 นัดได้ค่ะ"}, "dosage: names «2 เม็ด»"),
        ({"reply": "900 นัดได้ครับ"}, "politeness: ครับ, the male form"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
async def test_what_is_not_as_expected_is_named_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Mapping[str, Any], failure: str
) -> None:
    async with rehearsing(tmp_path, monkeypatch, lambda _: {"stage": "advising", **said}) as here:
        result = await here.run(PRICE)
        assert result.exit_code == 1, result.output
        assert failure in result.stdout


async def test_a_wrong_price_that_the_second_attempt_leaves_out_passes_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(body: Mapping[str, Any]) -> Mapping[str, Any]:
        again = any("named amounts" in str(message["content"]) for message in body["messages"])
        return {"reply": GOOD if again else "ลดเหลือ 500 บาทค่ะ นัดได้ค่ะ 900", "stage": "advising"}

    async with rehearsing(tmp_path, monkeypatch, answer) as here:
        (case,) = (await here.json(PRICE))["cases"]
        assert case["passed"]
        assert case["notes"] == [
            "turn 1: held back and asked again: 500 บาท",
            "held back and asked again: 500 บาท",
        ]


async def test_several_cases_run_at_once_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = "cases:\n" + "\n".join(f"  - {{name: c{n}, say: [ขูดหินปูน]}}" for n in range(12))
    async with rehearsing(tmp_path, monkeypatch, says(GOOD), Latency(0.1, 0.0)) as here:
        found = await here.json(cases, "--concurrency", "3")
        assert [case["name"] for case in found["cases"]] == [f"c{n}" for n in range(12)]
        assert here.openai.most == 3


async def test_json_junit_and_page_tell_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = f"{PRICE}  - {{name: wrong <b>, say: [จัดฟัน], expect: {{contains: ['39000']}}}}\n"
    async with rehearsing(tmp_path, monkeypatch, says(GOOD)) as here:
        result = await here.run(cases, "--json", "--junit", "out.xml", "--report", "page.html")
        assert result.exit_code == 1
        found = json.loads(result.stdout)
        assert (found["passed"], found["stopped"], found["not_run"]) == (False, False, [])
        assert [case["passed"] for case in found["cases"]] == [True, False]
        paid = sum(served(call, THB) for call in here.openai.calls)
        assert found["spent_micro_baht"] == paid
        (suite,) = ElementTree.parse(tmp_path / "out.xml").getroot()
        assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == (ORG, "2", "1")
        assert [case.get("classname") for case in suite] == [f"{ORG}.prices", ORG]
        assert suite[1][0].get("message") == "contains: «39000» is missing"
        page = (tmp_path / "page.html").read_text("utf-8")
        assert "1 of 2 cases failed" in page
        assert "wrong &lt;b&gt;" in page


async def test_the_page_that_stood_there_is_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a case is called, it can't break out of the page's data."""
    said, cases = ["เดิมค่ะ", GOOD], PRICE.replace("price of scaling", "</script><b>")
    async with rehearsing(tmp_path, monkeypatch, lambda _: {"reply": said[0], "stage": "advising"}) as here:
        await here.run(cases, "--report", "page.html")
        first = (tmp_path / "page.html").read_text("utf-8")
        assert "<i>before</i>" not in first
        said.pop(0)
        await here.run(cases, "--report", "page.html")
        second = (tmp_path / "page.html").read_text("utf-8")
        assert '<div class="reply old"><i>before</i>เดิมค่ะ</div>' in second
        assert second.count("</script>") == first.count("</script>") == 1
        (tmp_path / "page.html").write_text("<html>another page</html>", "utf-8")
        assert (await here.run(cases, "--report", "page.html")).exit_code == 0


async def test_the_budget_ends_it_before_it_is_exceeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = "cases:\n" + "\n".join(f"  - {{name: c{n}, say: [ขูดหินปูน]}}" for n in range(40))
    async with rehearsing(tmp_path, monkeypatch, says(GOOD)) as here:
        result = await here.run(cases, "--json", budget="1.2")
        assert result.exit_code == 2
        found = json.loads(result.stdout)
        assert found["stopped"]
        assert len(found["cases"]) + len(found["not_run"]) == 40
        assert found["cases"]
        paid = sum(served(call, THB) for call in here.openai.calls)
        assert paid == found["spent_micro_baht"] <= 1_200_000
        table = await here.run(cases, budget="0.001")
        assert table.exit_code == 2
        assert "the budget ended it: 40 not run" in table.stdout


@pytest.mark.parametrize("fault", [LlmFaultKind.RESET, LlmFaultKind.HANG, LlmFaultKind.CUT_BODY])
async def test_calls_of_which_nobody_knows_are_paid_at_their_worst(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: LlmFaultKind
) -> None:
    """They use the budget up like others, and the case says what became of it."""
    monkeypatch.setenv("LLM_ATTEMPT_TIMEOUTS_S", "2")
    async with rehearsing(tmp_path, monkeypatch, says(GOOD)) as here:
        here.openai.faults.add(LlmTrouble(fault), times=None)
        found = await here.json("cases: [{name: lost, say: [ขูดหินปูน]}]")
        (case,) = found["cases"]
        assert case["failures"][0].startswith("no answer: ")
        (call,) = here.openai.calls
        assert found["spent_micro_baht"] == pytest.approx(worst(call, call.model, THB), rel=0.05)
        again = "cases: [{name: one, say: [x]}, {name: two, say: [x]}]"
        assert (await here.run(again, "--concurrency", "1", budget="0.7")).exit_code == 2
        assert len(here.openai.calls) == 2


@pytest.mark.parametrize(
    ("cases", "problem"),
    [
        ("cases: []", "cases.yaml:1: cases: expected a list: one `- name: …` for each case"),
        ("", "cases.yaml:1: cases: the file is empty: expected a list of cases"),
        (
            "cases:\n  - name: a\n    sai: [x]",
            "cases.yaml:3: cases[0]: sai: unknown field: did you mean say?",
        ),
        ("cases:\n  - say: [x]", "cases.yaml:2: cases[0]: name: is missing: expected a name"),
        ("cases:\n  - name: a", "cases.yaml:2: cases[0]: say: is missing: expected what the customer writes"),
        (
            "cases:\n  - {name: a, say: [x]}\n  - {name: a, say: [x]}",
            "cases.yaml:3: cases[1]: name: 'a' stands",
        ),
        (
            "cases:\n  - name: a\n    say: [x]\n    expect:\n      stage: sold",
            "cases.yaml:5: cases[0]: expect.stage: 'sold': expected one of greeting, discovering",
        ),
        (
            "cases:\n  - name: a\n    say: [x]\n    expect:\n      handoff: maybe",
            "cases.yaml:5: cases[0]: expect.handoff: 'maybe': expected true or false",
        ),
        (
            "cases:\n  - name: a\n    say: [x]\n    expect:\n      contains: 900",
            "cases.yaml:5: cases[0]: expect.contains: expected a list of texts",
        ),
    ],
)
async def test_a_bad_file_is_named_with_its_line_and_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cases: str, problem: str
) -> None:
    async with rehearsing(tmp_path, monkeypatch) as here:
        result = await here.run(cases)
        assert result.exit_code == 2
        assert problem in result.stderr
        assert not here.openai.calls


@pytest.mark.parametrize(
    ("arguments", "budget", "problem"),
    [
        (("cases.yaml", "--org", "other"), "1", "--org other: clinics.yaml has no such clinic"),
        (("cases.yaml",), "-1", "--budget '-1': expected an amount in baht such as 20"),
        ((), "1", "expected CASES (a file, or red_team), or --from-turns N with --org ORG"),
        (("nowhere.yaml",), "1", "nowhere.yaml: No such file"),
        (("--from-turns", "3"), "1", "expected CASES"),
    ],
)
async def test_wrong_arguments_end_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], budget: str, problem: str
) -> None:
    async with rehearsing(tmp_path, monkeypatch) as here:
        (tmp_path / "cases.yaml").write_text(PRICE, "utf-8")
        result = await here.command(*arguments, budget=budget)
        assert result.exit_code == 2
        assert problem in result.stderr
        assert not here.openai.calls


@pytest.mark.parametrize(
    "killed_at", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(4, marks=pytest.mark.slow)]
)
async def test_killed_at_any_call_it_has_spent_no_more_than_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    """By what the provider has seen: what it answered, and the worst case of what it was still at."""
    cases = "cases:\n" + "\n".join(f"  - {{name: c{n}, say: [ขูดหินปูน]}}" for n in range(9))
    async with rehearsing(tmp_path, monkeypatch, says(GOOD), Latency(0.2, 0.0)) as here:
        (tmp_path / "cases.yaml").write_text(cases, "utf-8")
        (tmp_path / "clinics.yaml").write_text(CLINICS, "utf-8")
        started = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-c",
                "from core.ops.cli import main; main()",
                "rehearse",
                "cases.yaml",
                "--clinics",
                "clinics.yaml",
            ),
            *("--budget", "1.3"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(60):
            while len(here.openai.calls) < killed_at:  # noqa: ASYNC110  another process makes them
                await asyncio.sleep(0.005)
        started.kill()
        await started.wait()
        billed = sum(
            served(call, THB) if call.usage else worst(call, call.model, THB) for call in here.openai.calls
        )
        assert 0 < billed <= 1_300_000


def applied(folder: Path, cases: str, *options: str) -> Result:
    (folder / "clinics.yaml").write_text(CLINICS, "utf-8")
    (folder / "cases.yaml").write_text(cases, "utf-8")
    arguments = ["clinics", "apply", "clinics.yaml", "--rehearse", "cases.yaml", *options]
    return CliRunner().invoke(app, arguments)


async def test_a_clinics_file_is_applied_only_if_its_rehearsal_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCUMENT_STORE", f"sqlite:{tmp_path / 'documents.db'}")
    monkeypatch.setenv("SECRET_STORE", f"file:{tmp_path / 'secrets.json'}")

    def stored() -> list[str]:
        return [
            row["org_id"] for row in json.loads(CliRunner().invoke(app, ["clinics", "list", "--json"]).stdout)
        ]

    async with rehearsing(tmp_path, monkeypatch, says(GOOD)) as here:

        async def apply(cases: str, *options: str) -> Result:
            return await asyncio.to_thread(applied, tmp_path, cases, *options)

        refused = await apply(PRICE.replace('"900"', '"901"'), "--budget", "5")
        assert refused.exit_code == 1
        assert "contains: «901» is missing" in refused.stderr
        assert "nothing was applied" in refused.stderr
        stopped = await apply(PRICE, "--budget", "0.1")
        assert stopped.exit_code == 2
        assert (await apply(PRICE)).exit_code == 1  # without a budget
        assert await asyncio.to_thread(stored) == []
        passed = await apply(PRICE, "--budget", "5", "--json")
        assert passed.exit_code == 0, passed.output
        assert json.loads(passed.stdout)["clinics"][0]["status"] == "new"
        assert await asyncio.to_thread(stored) == [ORG]
        calls = len(here.openai.calls)
        again = await apply(PRICE, "--budget", "5")
        assert again.exit_code == 0
        assert len(here.openai.calls) == calls  # nothing changed, so nothing is tried


@pytest.mark.slow
@pytest.mark.parametrize("width", [500, 1200])
async def test_the_page_fits_a_telephone_and_a_desk_and_needs_nothing_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chromium: str, width: int
) -> None:
    long = "ราคา" * 200 + "x" * 300
    cases = f"{PRICE}  - {{name: {'w' * 150}, say: [{long}], expect: {{contains: [never]}}}}\n"
    async with rehearsing(tmp_path, monkeypatch, says(f"{GOOD} {long[:400]}")) as here:
        await here.run(PRICE, "--report", "page.html")
        await here.run(cases, "--report", "page.html")
    page = tmp_path / "page.html"
    text = page.read_text("utf-8")
    assert "://" not in text
    measured = "<script>document.title = document.documentElement.scrollWidth - innerWidth</script>"
    page.write_text(text.replace("</html>", f"{measured}</html>"), "utf-8")
    command = [
        *(chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"),
        *(f"--window-size={width},900", "--dump-dom", page.as_uri()),
    ]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=True
    )
    (beyond,) = re.findall(r"<title>(-?[0-9]+)</title>", done.stdout)
    assert int(beyond) <= 0


async def test_another_providers_model_is_asked_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = OpenAiApi(latency=QUICK, answer=says(GOOD))
    await backup.start()
    try:
        async with rehearsing(tmp_path, monkeypatch) as here:
            providers = [
                {"name": "openai"},
                {"name": "backup", "base_url": backup.url, "api_key_env": "BACKUP_API_KEY"},
            ]
            monkeypatch.setenv("LLM_PROVIDERS", json.dumps(providers))
            monkeypatch.setenv("BACKUP_API_KEY", "sk-backup")
            model = f"{CLINICS}    model: {{model_name: backup/gpt-6-luna}}\n"
            found = await here.json(PRICE, clinics=model)
            assert found["passed"]
            assert [call.model for call in backup.calls] == ["gpt-6-luna"] * 3
            assert not here.openai.calls
    finally:
        await backup.stop()
