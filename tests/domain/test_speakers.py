"""A group's conversation as each of its members' prompts may show it."""

from __future__ import annotations

import pytest

from core.domain.session import Exchange, Session
from core.domain.speakers import as_heard_by, label, tells_of_health

A, B = "U-a", "U-b"


def spoken(*exchanges: Exchange) -> Session:
    session = Session()
    for exchange in exchanges:
        session = session.with_exchange(exchange)
    return session


GROUP = spoken(
    Exchange("t1", 1, "ขูดหินปูนเท่าไหร่", "900 บาทค่ะ", A),
    Exchange("t2", 2, "แพ้เพนิซิลลินค่ะ", "รับทราบค่ะ", A, is_personal=True),
    Exchange("t3", 3, "ถ้าสองคนล่ะ", "1,800 บาทค่ะ", B),
)


def test_each_has_a_letter_that_stays_and_no_user_id_is_shown() -> None:
    assert [label(GROUP, user_id) for user_id in (A, B, "U-new", None)] == ["A", "B", "C", ""]
    later = Session.decode(GROUP.encode()).with_exchange(Exchange("t4", 4, "x", "y", "U-new"))
    assert [label(later, user_id) for user_id in (A, B, "U-new")] == ["A", "B", "C"]
    many = Session(speakers=tuple(f"U{n}" for n in range(60)))
    assert len({label(many, f"U{n}") for n in range(60)}) == 60
    shown = str(as_heard_by(GROUP, B).exchanges[0].customer_text)
    assert shown == "[A]\nขูดหินปูนเท่าไหร่"


def test_what_is_one_members_own_is_in_nobody_elses_prompt() -> None:
    assert [e.turn_id for e in as_heard_by(GROUP, A).exchanges] == ["t1", "t2", "t3"]
    assert [e.turn_id for e in as_heard_by(GROUP, B).exchanges] == ["t1", "t3"]
    assert [e.turn_id for e in as_heard_by(GROUP, None).exchanges] == ["t1", "t3"]


def test_one_members_wishes_are_not_anothers() -> None:
    session = GROUP.with_turn(
        "t5", at_ms=5, customer_text="อยากฟอกสีฟัน", reply="ค่ะ", updates={"service": "whitening"}, speaker=A
    )
    assert as_heard_by(session, A).service == "whitening"
    assert as_heard_by(session, B).service is None


@pytest.mark.parametrize(
    "text",
    ["เเพ้ยาเพนิซิลลินค่ะ", "แพ้\u200bกุ้ง", "เป็นเบาหวานค่ะ", "กำลังตั้งครรภ์", "I am allergic to latex", "กินยาความดันอยู่"],
)
def test_what_tells_of_health_is_known_by_its_words(text: str) -> None:
    assert tells_of_health(text)


@pytest.mark.parametrize("text", ["ขูดหินปูนราคาเท่าไหร่คะ", "ใช้เวลานานไหม ยากไหม", "วันเสาร์ว่างไหม"])
def test_ordinary_questions_do_not_tell_of_health(text: str) -> None:
    assert not tells_of_health(text)
