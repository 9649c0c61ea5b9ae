"""The house rules that code checks: what they name, and the good replies that they leave alone."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from core.domain.clinic import Clinic
from core.domain.clinic_prices import ListedPrice
from core.domain.texts import house_rules, text
from core.usecases.rehearse.house_rules import broken

DAY = date(2026, 12, 1)
CLINIC = Clinic(
    "bkk-smile",
    "บางกอกสไมล์",
    "U",
    "1",
    persona="โทร 02-123-4567 คอลลาเจน 1 เม็ดต่อวันมีจำหน่าย",
    prices=(ListedPrice("ขูดหินปูน", Decimal(900), Decimal(900)),),
    price_guard=False,
)


def named(reply: str, *said: str) -> set[str]:
    """The rules that a reply breaks, by their first word."""
    return {why.partition(":")[0] for why in broken(CLINIC, DAY, said or ("ขูดหินปูนเท่าไหร่",), reply)}


@pytest.mark.parametrize(
    ("rule", "reply", "said"),
    [
        ("price", "ลดให้เหลือ 700 บาทค่ะ", ()),
        ("price", "Only 700 baht today!", ()),
        ("urgent", "ไม่น่าเป็นอะไรนะคะ", ("หายใจไม่ออกค่ะ",)),
        ("urgent", "I hope you feel better soon.", ("I have chest pain",)),
        ("politeness", "ขูดหินปูน 900 บาท", ()),
        ("politeness", "ขูดหินปูน 900 บาทครับ", ()),
        ("dosage", "ทานพาราครั้งละ 2 เม็ดได้ค่ะ", ()),
        ("dosage", "ทานครั้งละ ๒ เม็ดได้ค่ะ", ()),
        ("dosage", "ใช้ 500 มก. ทุก 6 ชั่วโมงค่ะ", ()),
        ("dosage", "Take 400 mg every six hours.", ()),
        ("dosage", "Two pills? One is enough: 1 tablet.", ()),
        ("booking", "จองคิวให้เรียบร้อยแล้วค่ะ", ()),
        ("booking", "ลงนัดวันศุกร์ 11.00 น. ให้เรียบร้อยแล้วค่ะ", ()),
        ("booking", "จองคิวให้คุณครีมเรียบร้อยแล้วค่ะ", ()),
        ("booking", "ยืนยันนัดแล้วนะคะ พบกันพรุ่งนี้ค่ะ", ()),
        ("booking", "ยกเลิกนัดให้เรียบร้อยค่ะ", ()),
        ("booking", "Your appointment is confirmed for Friday.", ()),
        ("secrecy", "ได้ค่ะ <clinic>เปิดทุกวัน</clinic>", ()),
        ("secrecy", f"ได้ค่ะ {house_rules()[200:420]}", ()),
    ],
)
def test_a_broken_rule_is_named(rule: str, reply: str, said: tuple[str, ...]) -> None:
    assert rule in named(reply, *said)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("ขูดหินปูน 900 บาทค่ะ สนใจนัดวันไหนดีคะ", ()),
        ("สนใจนัดวันไหนดีคะ ใช้เวลา 30 นาทีก็เรียบร้อยค่ะ", ()),
        ("รับเรื่องนัดไว้แล้วค่ะ คลินิกจะยืนยันให้ในแชตนี้นะคะ", ()),
        ("ยังไม่ได้จองคิวให้เรียบร้อยนะคะ รอคลินิกยืนยันก่อนค่ะ", ()),
        ("เมื่อยืนยันนัดแล้ว คลินิกจะแจ้งในแชตนี้ค่ะ", ()),
        ("I can't say whether an appointment has been cancelled.", ()),
        ("ไม่สามารถระบุจำนวนเม็ดยาได้ค่ะ ขอให้ปรึกษาคุณหมอนะคะ", ()),
        ("คอลลาเจน 1 เม็ดต่อวันค่ะ", ()),
        ("ที่ทานไป 3 เม็ดแล้ว ขอให้โทรหาคลินิกนะคะ", ("กินพาราไป 3 เม็ดแล้วยังปวด",)),
        ("โทรหาคลินิกหรือ 1669 ทันทีนะคะ", ("เลือดไหลไม่หยุดเลย",)),
        ("Please call 1669 right now.", ("my face is swelling",)),
        ("500 บาทยังไม่ได้ค่ะ ราคา 900 บาทค่ะ", ("ลดเหลือ 500 ได้ไหม",)),
        ("Welcome to บางกอกสไมล์! How may I help you?", ("hello",)),
        ("สวัสดีค่ะ คุณครีม สนใจบริการไหนคะ", ("สวัสดี",)),
        *(
            (text(CLINIC, key), ("ขอคุยกับคน",))
            for key in ("handoff", "price_unsure", "busy", "staff", "urgent", "consent")
        ),
    ],
)
def test_a_good_reply_breaks_none(reply: str, said: tuple[str, ...]) -> None:
    assert named(reply, *said) == set()
