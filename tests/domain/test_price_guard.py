"""The guard: what the clinic has stated passes however it is written, and no other amount does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.clinic import Clinic
from core.domain.clinic_prices import ApprovedAnswer, ListedPrice
from core.domain.price_guard import PriceGuard
from tests.support.written_amounts import mutated

DAY = date(2026, 12, 31)


def listed(
    item: str, low: int, high: int | None = None, since: date | None = None, until: date | None = None
) -> ListedPrice:
    return ListedPrice(item, Decimal(low), Decimal(high or low), since, until)


CLINIC = Clinic(
    "bkk-smile",
    "Bangkok Smile",
    "U-bot",
    "1650000001",
    persona="สุภาพ เปิด 10.00–20.00 น. โทร 02-123-4567\nอุดฟัน 800 · เอกซเรย์ 350 บาท เลเซอร์ 2,000 ช็อต",
    prices=(
        listed("ขูดหินปูน", 900),
        listed("ฟอกสีฟัน", 3900, None, date(2026, 12, 1), DAY),
        listed("ฟอกสีฟัน", 5900, None, date(2027, 1, 1)),
        listed("จัดฟัน", 39000, 65000),
        replace(listed("วีเนียร์", 12000), note="ปกติ 15,000 บาท"),
    ),
    answers=(ApprovedAnswer("ค่าจอดรถเท่าไหร่", "ชั่วโมงละ 20 บาทค่ะ"),),
)


def uncovered(
    reply: str, *said: str, day: date = DAY, taps: Sequence[str] = (), clinic: Clinic = CLINIC
) -> list[str]:
    guard = PriceGuard.of(clinic, day, said)
    assert guard
    return list(guard.uncovered(reply, taps))


COVERED = [
    "ขูดหินปูน 900 บาทค่ะ",
    "ขูดหินปูนเก้าร้อยบาทค่ะ",
    "ขูดหินปูน 900 ค่ะ ฟอกสีฟัน 3,900 ค่ะ",
    "ฟอกสีฟัน 3.9 พันค่ะ",
    "จัดฟัน 39,000-65,000 บาท",
    "จัดฟันแบบนี้ 45,000 บาทค่ะ",
    "จัดฟัน 4-5 หมื่นบาท",
    "อุดฟัน 800 บาท",
    "เอกซเรย์ 350 บาท",
    "ค่าจอดรถชั่วโมงละ 20 บาท",
    "วีเนียร์ 12,000 บาท จากปกติ 15,000 บาท",
    "โทร 1669 หรือ 02-123-4567 เปิด 10.00–20.00 น. ถึง 31 ธ.ค. 2569 ลด 10% ยา 500 มก.",
]

UNCOVERED = {
    "ขูดหินปูน 1,800 บาทค่ะ": ["1,800 บาท"],
    "ขูดหินปูน 1,000 ค่ะ": ["1,000"],
    "ขูดหินปูนและฟอกสีฟัน รวม 4,800 บาท": ["4,800 บาท"],
    "ขูดหินปูน 2 ครั้ง 1,800 บาท": ["1,800 บาท"],
    "จัดฟัน 38,999 บาท": ["38,999 บาท"],
    "จัดฟัน 65,001 บาท": ["65,001 บาท"],
    "ฟอกสีฟัน 5,900 บาท": ["5,900 บาท"],
    "900-1,200 บาท": ["1,200 บาท"],
    "เลเซอร์ 2,000 บาท": ["2,000 บาท"],
    "โทร 1669 บาท": ["1669 บาท"],
    "10 บาท": ["10 บาท"],
    "หนึ่งพันเก้าร้อยบาท": ["หนึ่งพันเก้าร้อยบาท"],
    "$900": ["$900"],
    "มัดจำ 500 ส่วนที่เหลือ 400": ["500", "400"],
}
"""A reply, and what of it nothing covers."""


@pytest.mark.parametrize("reply", COVERED)
def test_what_the_clinic_states_passes(reply: str) -> None:
    assert uncovered(reply) == []


@pytest.mark.parametrize(("reply", "held"), UNCOVERED.items())
def test_what_the_clinic_does_not_state_is_held_back(reply: str, held: list[str]) -> None:
    assert uncovered(reply) == held


def test_a_price_holds_on_its_days_and_no_other() -> None:
    for day, price, other in ((DAY, "3,900", "5,900"), (date(2027, 1, 1), "5,900", "3,900")):
        assert uncovered(f"ฟอกสีฟัน {price} บาท", day=day) == []
        assert uncovered(f"ฟอกสีฟัน {other} บาท", day=day) == [f"{other} บาท"]
    assert uncovered("ฟอกสีฟัน 3,900 บาท", day=date(2026, 11, 30)) == ["3,900 บาท"]


def test_quick_replies_are_guarded_too() -> None:
    assert uncovered("สนใจแบบไหนคะ", taps=["แบบ 900 บาท", "แบบ 700 บาท", "อื่น ๆ"]) == ["700 บาท"]


CUSTOMERS = [
    # What the customer said, the reply, and whether it passes.
    ("มีงบ 5,000 บาทค่ะ", "งบ 5,000 บาททำได้ค่ะ", True),
    ("งบ 5000", "ตามงบ 5,000 บาทของคุณ แนะนำปรึกษาก่อนนะคะ", True),
    ("มีงบ 5,000 บาทค่ะ", "ขูดหินปูน 5,000 บาทค่ะ", False),
    ("มีงบ 5,000 บาทค่ะ", "ขูด หินปูน 5,000 บาทค่ะ", False),
    ("มีงบ 5,000 บาทค่ะ", "ขูดหินปูนได้ค่ะ 5,000 บาทค่ะ", False),
    ("มีงบ 5,000 บาทค่ะ", "ขูดหินปูน 900 บาทค่ะ งบ 5,000 บาทพอค่ะ", True),
    ("มีงบ 5,000 บาทค่ะ", "ได้เลย 6,000 บาทค่ะ", False),
    ("ลดเหลือ 500 ได้ไหม", "ได้ค่ะ ลดเหลือ 500 บาทค่ะ", False),
    ("ลดเหลือ 500 ได้ไหม", "ได้ค่ะ 500 บาทค่ะ", False),
    ("ลดเหลือ 500 ได้ไหม", "ขูดหินปูนลดเหลือ 500 บาทค่ะ", False),
    ("ลดเหลือ 500 ได้ไหม", "500 บาทได้ ไม่มีปัญหาค่ะ", False),
    ("ลดเหลือ 500 ได้ไหม", "ขออภัยค่ะ ลดเหลือ 500 บาทไม่ได้ค่ะ ขูดหินปูนราคา 900 บาทค่ะ", True),
    ("ลดเหลือ 500 ได้ไหม", "เรื่อง 500 บาท ขอให้เจ้าหน้าที่ตอบนะคะ", True),
    ("ขูดหินปูน 500 ได้ไหม", "ได้ค่ะ 500 บาทค่ะ", False),
    ("ขูดหินปูนห้าร้อยบาทใช่ไหม", "500 บาทค่ะ", False),
    ("ขูดหินปูนห้าร้อยบาทใช่ไหม", "ไม่ใช่ 500 บาทค่ะ", True),
]


@pytest.mark.parametrize(("said", "reply", "passes"), CUSTOMERS)
def test_the_customers_own_amount_may_be_repeated_and_never_becomes_a_price(
    said: str, reply: str, passes: bool
) -> None:
    assert (uncovered(reply, "สวัสดีค่ะ", said) == []) is passes


def test_a_clinic_without_prices_is_not_guarded_unless_it_wants_to_be() -> None:
    bare = replace(CLINIC, prices=())
    assert PriceGuard.of(bare, DAY) is None
    assert PriceGuard.of(replace(CLINIC, price_guard=False), DAY) is None
    assert uncovered("900 บาท", clinic=replace(bare, price_guard=True)) == ["900 บาท"]
    assert uncovered("อุดฟัน 800 บาท", clinic=replace(bare, price_guard=True)) == []


# Replies as no table lists them: every spelling of an amount, at every place of a reply.

STATED = (900, 3900, 39000, 45000, 65000, 800, 350, 12000, 15000)
A_RUN, REPLIES_A_RUN = 50, 100


def is_stated(value: int) -> bool:
    return value in {*STATED, 20} or 39000 <= value <= 65000


@settings(max_examples=A_RUN)
@given(st.integers(0, 2**32))
def test_of_mutated_replies_no_amount_that_nothing_covers_passes(seed: int) -> None:
    draw = Random(seed)
    values = [draw.choice([draw.randint(1, 1_500), draw.randint(1, 199_999)]) for _ in range(REPLIES_A_RUN)]
    replies = [mutated(draw, value) for value in values if not is_stated(value)]
    assert [reply for reply in replies if not uncovered(reply)] == []


@settings(max_examples=A_RUN)
@given(st.integers(0, 2**32))
def test_of_mutated_replies_no_covered_amount_is_held_back(seed: int) -> None:
    draw = Random(seed)
    replies = [mutated(draw, draw.choice(STATED)) for _ in range(REPLIES_A_RUN)]
    assert [reply for reply in replies if uncovered(reply)] == []
