"""The stand-in model: what a visitor of the chat reads from it, over the prompt that fairlane builds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from core.domain.clinic import Clinic
from core.domain.clinic_prices import ApprovedAnswer, ListedPrice
from core.domain.hours import opening_hours
from core.domain.memory import CustomerMemory, Fact
from core.domain.model_reply import ModelReply, parse_reply
from core.domain.moment import Moment
from core.domain.role_manager import build_prompt
from core.domain.session import Session
from core.local.openai_answers import instance_of
from core.local.receptionist import receive

SATURDAY_MS = round(datetime(2026, 11, 28, 5, 0, tzinfo=UTC).timestamp() * 1000)  # noon in Bangkok
CLINIC = Clinic(
    "one",
    "คลินิกตัวอย่าง",
    "U1",
    "1",
    persona="สุภาพ มีที่จอดรถหน้าคลินิก · ผ่อนได้ 10 เดือน",
    prices=(
        ListedPrice("ขูดหินปูน", Decimal(900), Decimal(900)),
        ListedPrice("ฟอกสีฟัน", Decimal(3900), Decimal(3900), note="โปรปลายปี"),
        ListedPrice("จัดฟัน", Decimal(39000), Decimal(65000)),
    ),
    answers=(ApprovedAnswer("รับบัตรเครดิตไหม", "รับทุกธนาคารค่ะ"),),
    hours=opening_hours({"mon-fri": "10:00-20:00", "sat": "10:00-18:00", "sun": "closed"}),
)


@dataclass
class Talk:
    """A customer's conversation with the stand-in, through fairlane's own prompt and parser."""

    clinic: Clinic = CLINIC
    session: Session = field(default_factory=Session)
    memory: CustomerMemory = field(default_factory=CustomerMemory)
    turn: int = 0

    def says(self, words: str) -> ModelReply:
        prompt = build_prompt(self.clinic, self.session, self.memory, [words], Moment(SATURDAY_MS))
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        whole: dict[str, Any] = {**instance_of(prompt.schema, ""), **receive({"messages": messages})}
        assert whole.keys() == set(prompt.schema["properties"])
        reply = parse_reply(json.dumps(whole, ensure_ascii=False), "stop")
        self.turn += 1
        self.session = self.session.with_turn(
            f"t{self.turn}", at_ms=SATURDAY_MS, customer_text=words, reply=reply.reply, updates=reply.updates
        )
        return reply


ANSWERS = {
    "a listed price": ("ขูดหินปูนเท่าไหร่คะ", "900", ()),
    "a range": ("จัดฟันราคาเท่าไหร่", "39,000-65,000", ()),
    "all prices": ("ราคาเท่าไหร่คะ", "ขูดหินปูน 900", ()),
    "opening hours": ("เปิดกี่โมงคะ", "จันทร์-ศุกร์ 10:00-20:00", ("900",)),
    "whether it hurts": ("ขูดหินปูนเจ็บไหมคะ", "คุณหมอจะดูแล", ("900", "3,900")),
    "an approved answer": ("รับบัตรเครดิตไหมคะ", "รับทุกธนาคารค่ะ", ()),
    "a line of the persona": ("มีที่จอดรถไหมคะ", "มีที่จอดรถหน้าคลินิก", ()),
    "two questions at once": ("ขูดหินปูนเท่าไหร่คะ แล้วเปิดกี่โมงคะ", "900", ()),
    "who it is": ("คุณเป็นคนจริงไหมคะ", "ไม่ใช่คน", ()),
    "an emergency": ("แน่นหน้าอกค่ะ", "1669", ("900",)),
    "in English": ("How much is ขูดหินปูน?", "900", ()),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_what_was_asked_is_answered_from_the_clinics_words(case: str) -> None:
    words, contains, lacks = ANSWERS[case]
    reply = Talk().says(words).reply
    assert contains in reply
    assert not [text for text in lacks if text in reply]


def test_it_greets_once_and_says_that_it_is_a_stand_in() -> None:
    talk = Talk()
    first, second = talk.says("สวัสดีค่ะ"), talk.says("ขูดหินปูนเท่าไหร่คะ")
    assert "สวัสดี" in first.reply
    assert "ตัวจำลอง" in first.reply
    assert "สวัสดี" not in second.reply


def test_an_allergy_is_noted_once_and_not_repeated() -> None:
    talk = Talk()
    told = talk.says("แพ้ยาเพนิซิลลินค่ะ")
    assert [(fact.key, fact.value) for fact in told.facts] == [("allergy", "ยาเพนิซิลลิน")]
    fact = Fact("allergy", "ยาเพนิซิลลิน", "t1", SATURDAY_MS)
    talk.memory = CustomerMemory(facts=(fact,))
    assert "เพนิซิลลิน" not in talk.says("ฟอกสีฟันเท่าไหร่คะ").reply


def test_it_asks_for_day_and_time_and_then_books_once() -> None:
    talk = Talk()
    talk.says("อยากฟอกสีฟันค่ะ")
    assert "วันไหน" in talk.says("ขอนัดค่ะ").reply
    assert "กี่โมง" in talk.says("วันจันทร์ค่ะ").reply
    wish = talk.says("บ่ายสองค่ะ ชื่อพลอยค่ะ 081-234-5678").booking
    assert wish is not None
    assert (wish.action, wish.service, wish.date, wish.time) == ("request", "ฟอกสีฟัน", "2026-11-30", "14:00")
    assert (wish.name, wish.phone) == ("พลอย", "0812345678")
    assert talk.says("ขอบคุณค่ะ").booking is None


DAYS = {
    "พรุ่งนี้ 10:30": ("2026-11-29", "10:30"),
    "วันศุกร์บ่ายสอง": ("2026-12-04", "14:00"),
    "วันที่ 5 สิบโมง": ("2026-12-05", "10:00"),
    "5/12 หนึ่งทุ่ม": ("2026-12-05", "19:00"),
    "2026-12-24 เที่ยง": ("2026-12-24", "12:00"),
    "tomorrow 3 pm": ("2026-11-29", "15:00"),
}


@pytest.mark.parametrize("said", DAYS)
def test_days_and_hours_are_understood_as_people_write_them(said: str) -> None:
    wish = Talk().says(f"นัดขูดหินปูน {said}").booking
    assert wish is not None
    assert (wish.date, wish.time) == DAYS[said]


def test_who_wants_a_person_gets_one_and_what_is_not_stated_is_passed_on() -> None:
    assert Talk().says("ขอคุยกับเจ้าหน้าที่ค่ะ").handoff
    missing = Talk().says("รับทำฟันเด็กไหมคะ").missing
    assert missing is not None
    assert "ฟันเด็ก" in missing.question


def test_a_price_that_is_over_is_not_named() -> None:
    over = ListedPrice("ฟอกสีฟัน", Decimal(3900), Decimal(3900), until=date(2026, 11, 1))
    assert "3,900" not in Talk(replace(CLINIC, prices=(over,))).says("ฟอกสีฟันเท่าไหร่คะ").reply
