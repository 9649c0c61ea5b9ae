"""The demo's five clinics: what stands in the clinics file that is applied, and what their customers ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BANGKOK, CHIANG_MAI, PHUKET, KHON_KAEN, HAT_YAI = (
    "bkk-smile",
    "cnx-dental",
    "phuket-clinic",
    "kkc-smile",
    "hdy-dental",
)
HANDOFF_KEYWORD = "เจ้าหน้าที่"

# One worst case is about 0.6 baht, a call's real cost 0.03 to 0.08; see demo_money.py for what is checked.
CROSSING_BUDGET, DOWNGRADE_AT = "0.97", "0.8"
ONE_CALL_BUDGET = "0.67"

_PERSONA = """\
{name} ตอบอย่างเป็นกันเอง สุภาพ และสั้น เปิดทุกวัน 10.00–20.00 น. มีที่จอดรถ
ขูดหินปูน 900 บาท · อุดฟันเริ่มต้น 800 บาท · ถอนฟันเริ่มต้น 900 บาท · ฟอกสีฟัน 4,500 บาท
จัดฟันเริ่มต้น 39,000 บาท ผ่อนได้ · รากฟันเทียมเริ่มต้น 45,000 บาท"""

WISDOM_TOOTH, WRONG_PRICE, LISTED_PRICE = "ผ่าฟันคุด", "2,000 บาท", "3,500 บาท"


@dataclass(frozen=True, slots=True)
class Role:
    """A clinic of the cast. `settings` go over its entry in the clinics file."""

    org_id: str
    name: str
    settings: Mapping[str, Any]

    @property
    def entry(self) -> dict[str, Any]:
        return {"persona": _PERSONA.format(name=self.name), **self.settings}


CAST = (
    Role(BANGKOK, "บางกอกสไมล์", {"budget": {"daily_budget_baht": 300}}),
    Role(
        CHIANG_MAI,
        "เชียงใหม่เดนทัล",
        {
            "budget": {"daily_budget_baht": 300},
            "handoff": {"keywords": [HANDOFF_KEYWORD], "hours": 12},
            "prices": [{"item": WISDOM_TOOTH, "baht": 3500}],
        },
    ),
    Role(PHUKET, "ภูเก็ตคลินิก", {"budget": {"daily_budget_baht": 300}}),
    Role(
        KHON_KAEN,
        "ขอนแก่นสไมล์",
        {
            "budget": {
                "daily_budget_baht": CROSSING_BUDGET,
                "model_downgrade_enabled": True,
                "downgrade_threshold": DOWNGRADE_AT,
                "fallback_model": "gpt-6-luna",
            }
        },
    ),
    Role(
        HAT_YAI,
        "หาดใหญ่เดนทัล",
        {"budget": {"daily_budget_baht": ONE_CALL_BUDGET, "model_downgrade_enabled": False}},
    ),
)

# Org, customer, words.
QUESTIONS = (
    (BANGKOK, "มะลิ", "สวัสดีค่ะ อยากขูดหินปูน ราคาเท่าไหร่คะ"),
    (BANGKOK, "ก้อง", "จัดฟันผ่อนได้ไหมครับ"),
    (CHIANG_MAI, "ฟ้า", "ฟอกสีฟันใช้เวลานานไหมคะ"),
    (CHIANG_MAI, "ต้น", "อุดฟันซี่ละกี่บาทครับ"),
    (PHUKET, "ดาว", "รากฟันเทียมเริ่มต้นเท่าไหร่คะ"),
    (PHUKET, "เอก", "วันอาทิตย์เปิดกี่โมงครับ"),
    (KHON_KAEN, "นุ่น", "ถอนฟันคุดราคาเท่าไหร่คะ"),
    (HAT_YAI, "แพร", "ขูดหินปูนราคาเท่าไหร่คะ"),
)
CROSSING = (
    "ถ้าถอนสองซี่ราคาเท่าไหร่คะ",
    "เจ็บไหมคะ",
    "มีที่จอดรถไหมคะ",
    "นัดวันเสาร์ได้ไหมคะ",
)
STOPPED = ("พรุ่งนี้ว่างกี่โมงคะ", "ยังอยู่ไหมคะ")
BUBBLES = ("สวัสดีครับ", "พอดีว่า", "ปวดฟันมาก", "ซี่ในสุด", "วันนี้เลยครับ", "อุดฟันได้ไหม")
STICKER_SAYS = "ขอบคุณมากนะคะ"
SPOKEN, SPOKEN_S = "ฟอกสีฟันเท่าไหร่คะ", 3.6
ABOUT_PICTURE = "อันนี้เป็นอะไรคะ"
TWO_PRICES = ("รากฟันเทียมราคาเท่าไหร่คะ", "จัดฟันราคาเท่าไหร่คะ")
THIS_ONE = "เอาอันนี้ค่ะ"
APPOINTMENT = "ขอจองขูดหินปูนพรุ่งนี้ 14:00 ค่ะ"
ALLERGY = "ลืมบอกไป แพ้ยาเพนิซิลลินค่ะ"
CONVERSATION = (
    "สวัสดีค่ะ ชื่อพลอยค่ะ",
    "สนใจฟอกสีฟันค่ะ",
    ALLERGY,
    "ราคาเท่าไหร่คะ",
    "ตกลงนัดวันศุกร์บ่ายสองค่ะ",
)
COMES_BACK = "กลับมาแล้วค่ะ อยากอุดฟันด้วย"
