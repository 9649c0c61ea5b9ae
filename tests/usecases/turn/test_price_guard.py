"""What a customer reads when the model names a price that the clinic has not stated: real sockets."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from core.domain.clinic import BudgetPolicy, Clinic
from core.domain.clinic_prices import ListedPrice
from core.domain.moment import Moment
from core.domain.texts import text, unstated_rule
from core.local.openai_api import LlmFaultKind as Kind
from core.local.openai_api import LlmTrouble
from core.ports.documents import Where
from tests.support.fault_scene import FaultScene, Row, Verdict
from tests.support.turn_scene import said, serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNSURE = text(Clinic("any", "Any", "", ""), "price_unsure")
SCALING = ListedPrice("ขูดหินปูน", Decimal(900), Decimal(900))
RIGHT, WRONG = "ขูดหินปูน 900 บาทค่ะ", "ขูดหินปูน 800 บาทค่ะ"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("guard")) as scene:
        yield scene


@pytest.fixture(autouse=True)
def usual_answers(scene: FaultScene) -> Iterator[None]:
    yield
    scene.stack.openai.answer = None


async def priced(scene: FaultScene, name: str, *prices: ListedPrice, **settings: Any) -> Row:
    row = await scene.row(name)
    return replace(row, clinic=await scene.clinic(prices=prices or (SCALING,), **settings))


async def asked(scene: FaultScene, row: Row, *replies: dict[str, Any], words: str = "") -> Verdict:
    """The model gives these answers, one a call, the last one again and again."""
    given = iter(replies)
    last = replies[-1]
    scene.stack.openai.answer = lambda _: next(given, last)
    async with serving(scene):
        await scene.say(row, text=words)
        return await scene.verdict(row)


async def questions(scene: FaultScene, row: Row) -> list[dict[str, Any]]:
    found = await scene.documents.query("questions", [Where("org_id", "==", row.clinic.org_id)])
    return [dict(document.data) for document in found]


async def test_stated_price_reaches_the_customer_at_the_first_attempt(scene: FaultScene) -> None:
    row = await priced(scene, "stated")
    verdict = await asked(scene, row, {"reply": RIGHT})
    assert (verdict.clean, verdict.calls, said(scene, row.sent[0])) == (True, 1, [RIGHT])
    assert (verdict.turns[0]["guard"], await questions(scene, row)) == ({}, [])


async def test_wrong_price_is_asked_for_once_more_by_name_and_the_second_answer_is_sent(
    scene: FaultScene,
) -> None:
    row = await priced(scene, "wrong")
    verdict = await asked(scene, row, {"reply": WRONG}, {"reply": RIGHT})
    assert said(scene, row.sent[0]) == [RIGHT]
    assert (verdict.lost, verdict.twice, verdict.books, verdict.calls) == (0, 0, "", 2)
    first, second = scene.calls(row)
    rule = {"role": "system", "content": unstated_rule().replace("{amounts}", "800 บาท")}
    assert second.messages == [*first.messages[:-1], rule, first.messages[-1]]
    (turn,) = verdict.turns
    assert (turn["state"], turn["attempts"]) == ("delivered", 2)
    assert turn["guard"] == {"amounts": ["800 บาท"], "outcome": "recovered"}
    assert first.usage
    assert second.usage
    assert turn["usage"]["input"] == first.usage.prompt + second.usage.prompt, "both are in the books"
    assert await questions(scene, row) == [], "a recovered attempt is no question"


@pytest.mark.parametrize(
    ("second", "calls"),
    [({"reply": WRONG}, 2), ({"reply": "จัดฟัน 20,000 บาทค่ะ"}, 2), ({"reply": "  "}, 2)],
    ids=["again", "another", "unusable"],
)
async def test_price_that_stays_wrong_never_reaches_the_customer(
    scene: FaultScene, second: dict[str, Any], calls: int
) -> None:
    row = await priced(scene, f"stays{len(second['reply'])}{second['reply'].strip()[:1]}")
    verdict = await asked(
        scene, row, {"reply": WRONG, "quick_replies": ["800 บาท"]}, second, words="ขูดเท่าไหร่คะ"
    )
    assert said(scene, row.sent[0]) == [UNSURE]
    assert (verdict.lost, verdict.twice, verdict.books, verdict.calls) == (0, 0, "", calls)
    (turn,) = verdict.turns
    assert (turn["state"], turn["guard"]["outcome"], turn["quick_replies"]) == ("delivered", "unsure", [])
    (question,) = await questions(scene, row)
    (asking,) = question["asked"].values()
    assert (question["count"], asking["turn_id"]) == (1, turn["id"])
    assert "ขูดเท่าไหร่คะ" in asking["question"]


async def test_second_attempt_that_fails_leaves_the_customer_with_the_truth(scene: FaultScene) -> None:
    row = await priced(scene, "declined")
    scene.stack.openai.faults.add(LlmTrouble(Kind.REFUSAL), after=1, times=None)
    verdict = await asked(scene, row, {"reply": WRONG})
    assert (said(scene, row.sent[0]), verdict.calls, verdict.books) == ([UNSURE], 2, "")


async def test_second_attempt_needs_room_in_the_budget_like_any_other(scene: FaultScene) -> None:
    (before,) = (await asked(scene, await priced(scene, "worst"), {"reply": RIGHT})).turns
    for_one = Decimal(before["worst_micro_baht"]) / 1_000_000 * Decimal("1.05")
    daily = BudgetPolicy(round(for_one, 6), downgrade_threshold=Decimal(1), fallback_model=None)
    row = await priced(scene, "room", budget=daily)
    verdict = await asked(scene, row, {"reply": WRONG})
    assert (said(scene, row.sent[0]), verdict.calls, verdict.books) == ([UNSURE], 1, "")


async def test_quick_replies_are_guarded(scene: FaultScene) -> None:
    row = await priced(scene, "taps")
    first = {"reply": "สนใจไหมคะ", "quick_replies": ["แบบ 700 บาท"]}
    verdict = await asked(scene, row, first, {"reply": "สนใจไหมคะ", "quick_replies": ["แบบ 900 บาท"]})
    assert (verdict.calls, verdict.turns[0]["quick_replies"]) == (2, ["แบบ 900 บาท"])


async def test_customers_offer_does_not_become_a_price(scene: FaultScene) -> None:
    row = await priced(scene, "haggle")
    await asked(scene, row, {"reply": "ได้ค่ะ ลดเหลือ 500 บาทค่ะ"}, words="ลดเหลือ 500 ได้ไหม")
    assert said(scene, row.sent[0]) == [UNSURE]


async def test_price_holds_on_the_clinics_day_alone(scene: FaultScene) -> None:
    now_ms = round(time.time() * 1000)
    today = Moment(now_ms).local.date()
    ending = ListedPrice("ฟอกสีฟัน", Decimal(3900), Decimal(3900), None, today)
    coming = ListedPrice("ฟอกสีฟัน", Decimal(5900), Decimal(5900), today + timedelta(days=1))
    row = await priced(scene, "today", ending, coming)
    verdict = await asked(scene, row, {"reply": "ฟอกสีฟัน 5,900 บาทค่ะ"}, {"reply": "ฟอกสีฟัน 3,900 บาทค่ะ"})
    assert (said(scene, row.sent[0]), verdict.calls) == (["ฟอกสีฟัน 3,900 บาทค่ะ"], 2)


async def test_clinic_without_prices_is_not_guarded(scene: FaultScene) -> None:
    row = await scene.row("unguarded")
    verdict = await asked(scene, row, {"reply": WRONG})
    assert (said(scene, row.sent[0]), verdict.calls) == ([WRONG], 1)


async def test_what_is_missing_is_counted_once_a_turn_and_by_meaning(scene: FaultScene) -> None:
    row = await priced(scene, "missing")
    for asking in ("มีที่จอดรถไหมคะ", "คลินิกมีที่จอดรถมั้ย", "รับบัตรเครดิตไหม"):
        missing = {"topic": "บริการ", "question": asking}
        verdict = await asked(scene, row, {"reply": "ขอให้เจ้าหน้าที่ยืนยันนะคะ", "missing": missing})
    assert sorted(question["count"] for question in await questions(scene, row)) == [1, 2]
    assert all(turn["question_id"] for turn in verdict.turns)
