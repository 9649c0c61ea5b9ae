"""A rehearsal as an operator runs it, against the stand-in for OpenAI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from core.local.openai_api import Answer, Latency, OpenAiApi
from core.ops.cli import app

ORG = "bkk-smile"
QUICK = Latency(median_s=0.02, sigma=0.0)
CLINICS = f"""\
clinics:
  - org_id: {ORG}
    name: บางกอกสไมล์
    line: {{bot_user_id: U8e742f61d673b39c7fff3cecb7536ef0, channel_id: "1650000001", channel_secret: canary}}
    persona: สุภาพ อบอุ่น โทร 02-123-4567 เปิดทุกวัน 10.00–20.00 น.
    mode: off
    budget: {{daily_budget_baht: 0.01}}
    prices:
      - {{item: ขูดหินปูน, baht: 900}}
      - {{item: จัดฟัน, baht: [39000, 65000]}}
"""


@dataclass
class Rehearsing:
    """`run` gives CASES as text; the report, where one is asked for, is `folder / name`."""

    folder: Path
    openai: OpenAiApi

    async def run(self, cases: str, *options: str, budget: str = "50", clinics: str = CLINICS) -> Result:
        (self.folder / "cases.yaml").write_text(cases, "utf-8")
        return await self.command("cases.yaml", *options, budget=budget, clinics=clinics)

    async def command(self, *arguments: str, budget: str = "50", clinics: str = CLINICS) -> Result:
        (self.folder / "clinics.yaml").write_text(clinics, "utf-8")
        given = ["rehearse", *arguments, "--clinics", "clinics.yaml", "--budget", budget]
        return await asyncio.to_thread(CliRunner().invoke, app, given)

    async def json(
        self, cases: str, *options: str, budget: str = "50", clinics: str = CLINICS
    ) -> dict[str, Any]:
        result = await self.run(cases, "--json", *options, budget=budget, clinics=clinics)
        found: dict[str, Any] = json.loads(result.stdout)
        return found


@asynccontextmanager
async def rehearsing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer | None = None, latency: Latency = QUICK
) -> AsyncIterator[Rehearsing]:
    openai = OpenAiApi(latency=latency, answer=answer)
    await openai.start()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", openai.url)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LLM_BACKOFF_S", "0.01")
    monkeypatch.setenv("LLM_JITTER_S", "0")
    try:
        yield Rehearsing(folder, openai)
    finally:
        await openai.stop()


def says(reply: str, **more: Any) -> Answer:
    """A model that says the same to everybody, and to the judge that all is well."""

    def answer(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return {"reply": reply, "stage": "advising", **more}

    return answer
