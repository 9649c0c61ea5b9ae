"""What the demo's stand-in for a model understands: a dental clinic's services, and facts worth remembering.

It reads only what it is sent, as a model does: whether it knows a customer depends on fairlane's prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from core.local.openai_answers import last_words, reply_text

SERVICES = {
    "ขูดหินปูน": "ขูดหินปูน 900 บาทค่ะ ใช้เวลาประมาณ 30 นาที",
    "จัดฟัน": "จัดฟันเริ่มต้น 39,000 บาท ผ่อนชำระรายเดือนได้ค่ะ",
    "ฟอกสีฟัน": "ฟอกสีฟัน 4,500 บาทค่ะ ใช้เวลาประมาณ 1 ชั่วโมง",
    "อุดฟัน": "อุดฟันเริ่มต้นซี่ละ 800 บาทค่ะ",
    "ถอนฟัน": "ถอนฟันเริ่มต้นซี่ละ 900 บาทค่ะ",
    "รากฟันเทียม": "รากฟันเทียมเริ่มต้น 45,000 บาทค่ะ ปรึกษาทันตแพทย์ก่อนได้ฟรี",
}
MISTAKEN, MISTAKE, MENDED = "ผ่าฟันคุด", "ผ่าฟันคุด 2,000 บาทค่ะ", "ผ่าฟันคุด 3,500 บาทค่ะ"
"""What the model has wrong, until it is told so."""
SEEN = "ดูรูปแล้วค่ะ ขอให้ทันตแพทย์ตรวจดูอีกครั้งนะคะ สะดวกนัดวันไหนคะ"
_HOURS = "คลินิกเปิดทุกวัน 10.00–20.00 น. ค่ะ"
_ANYTHING_ELSE = "สนใจบริการไหน สอบถามได้เลยนะคะ"
_BOOKED = "รับเรื่องนัดไว้แล้วค่ะ คลินิกจะยืนยันให้ในแชตนี้นะคะ"
_BOOKING = re.compile("นัด|จอง|ตกลง")
_TOMORROW = re.compile(r"พรุ่งนี้\s*(?P<time>\d{2}:\d{2})")
_PRICE = re.compile("ราคา|เท่าไหร่|กี่บาท")
_OPENING_HOURS = re.compile("เปิด|กี่โมง|ที่จอดรถ")
# Thai has no spaces: the polite particle ends what is stated.
_FACTS = {
    "nickname": re.compile(r"ชื่อ(?:เล่น)?(?P<value>\S+?)(?:นะคะ|ค่ะ|ครับ|\s|$)"),
    "allergy": re.compile(r"แพ้(?P<value>ยา\S+?)(?:นะคะ|ค่ะ|ครับ|\s|$)"),
}


def answer(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """For `OpenAiApi.answer`: reply, service, stage and facts, by the words of the prompt."""
    messages: Sequence[Mapping[str, Any]] = body["messages"]
    words, known, state = last_words(messages), tagged(messages, "memory"), tagged(messages, "state")
    service = next((name for name in SERVICES if name in words), None)
    facts = [
        {"key": key, "value": found["value"], "because": found[0]}
        for key, pattern in _FACTS.items()
        if (found := pattern.search(words))
    ]
    stage = _stage(words, service or state.get("service"))
    known = {**known, **{fact["key"]: fact["value"] for fact in facts}}
    name = f"คุณ{known['nickname']}" if "nickname" in known else ""
    told = [_told(words, service or state.get("service"), stage)]
    if MISTAKEN in words:
        told = [MENDED if any("named amounts" in str(m["content"]) for m in messages) else MISTAKE]
    if "image_url" in str(messages[-1]["content"]):
        told.insert(0, SEEN)
    if "allergy" in known:
        told.append(f"ทางเราทราบแล้วว่าแพ้{known['allergy']}นะคะ")
    reply = reply_text(messages, f"สวัสดีค่ะ{name}", " ".join(told))
    wish = _wish(words, service) if stage == "booking" else None
    return {"reply": reply, "service": service, "stage": stage, "facts": facts, "booking": wish}


def tagged(messages: Sequence[Mapping[str, Any]], tag: str) -> dict[str, Any]:
    """The JSON between `<tag>` and `</tag>` of the prompt's system messages."""
    for message in messages:
        if message["role"] == "system" and (
            found := re.search(rf"<{tag}>(\{{.*?\}})</{tag}>", message["content"])
        ):
            data: dict[str, Any] = json.loads(found[1])
            return data
    return {}


def _stage(words: str, service: str | None) -> str:
    if _BOOKING.search(words):
        return "booking"
    return "advising" if _PRICE.search(words) or service else "discovering"


def _wish(words: str, service: str | None) -> dict[str, Any] | None:
    """An appointment of tomorrow, where the clinic is."""
    if not (service and (said := _TOMORROW.search(words))):
        return None
    day = datetime.now(ZoneInfo("Asia/Bangkok")) + timedelta(days=1)
    wish = {"action": "request", "service": service, "date": f"{day:%Y-%m-%d}", "time": said["time"]}
    return {**wish, "name": None, "phone": None, "note": None}


def _told(words: str, service: str | None, stage: str) -> str:
    if stage == "booking":
        return _BOOKED
    if _OPENING_HOURS.search(words):
        return _HOURS
    return SERVICES.get(service or "", _ANYTHING_ELSE)
