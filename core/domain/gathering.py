"""Does a message stand by itself, or is another likely to follow it?

People write as they speak: a greeting, what it is about, and then the question, each in a bubble of its
own. A statement that is taken for unfinished costs its customer `gather_s`, a fragment that is taken for a
question costs a call and gets a reply to half of it. So only what plainly asks or answers stands by itself.
"""

from __future__ import annotations

import re
import unicodedata

from core.domain.event import EventKind, InboundEvent
from core.domain.event_kinds import rules_of
from core.domain.thai_text import normalized


def gather_ms(event: InboundEvent, gather_s: float) -> int | None:
    """For how long another message is waited for after this one; None if it neither ends a wait nor begins
    one: it is no message."""
    if rules_of(event.kind).everywhere:
        return None
    return 0 if stands_by_itself(event) else round(gather_s * 1000)


def stands_by_itself(event: InboundEvent) -> bool:
    """A question, a number, an answer, a tap on a button. A greeting, the announcement of a question, a
    statement and whatever has no words look unfinished."""
    return event.kind == EventKind.POSTBACK or (event.kind == EventKind.TEXT and _is_complete(event.text))


def _is_complete(text: str) -> bool:
    said = _plain(text)
    if "?" in said:
        return True
    if _NUMBER.search(_LAUGHTER.sub(" ", said)):
        return True
    said = " ".join(_PREAMBLE.sub(" ", said).split())
    if _ANSWER.fullmatch(_PARTICLES.sub("", said).strip()):
        return True
    said = _NO_QUESTION.sub(" ", said)
    return any(pattern.search(said) for pattern in (_ASKS, _ASKS_AT_END, _REQUEST, _ENGLISH))


def _plain(text: str) -> str:
    """Without emoji."""
    said = normalized(text)
    return " ".join("".join(c for c in said if unicodedata.category(c) not in {"So", "Sk"}).split())


_NUMBER = re.compile(r"\d")  # Thai digits, too
_LAUGHTER = re.compile(r"(?<!\d)[5๕]{3,}\+*(?!\d)")  # 555 is read "ha ha ha"

_PARTICLE = r"(?:นะ)?(?:คะ|ค่ะ|ค๊ะ|ค้ะ|คร้า+บ*|ครับ+|คับ+|คร่า|ค่า+|ค้า+|ฮะ|จ้า+|จ้ะ|จ๊ะ|จ๋า|ผม)"
_PARTICLES = re.compile(rf"(?:\s*(?:{_PARTICLE}|นะ|เลย|แล้ว|[.!,~ๆ]))+$")

# What only announces that something will be said. "May I ask?" is no question to be answered yet.
_ASK = r"(?:สอบ)?ถาม(?:หน่อย|นิด(?:นึง|หนึ่ง)?|ข้อมูล|รายละเอียด|เพิ่มเติม)*"
_MAY_I = r"(?:ได้)?(?:ไหม|มั้ย|มั๊ย|ไม๊|ป่าว|เปล่า|ปะ|ป่ะ)?"
_PREAMBLE = re.compile(
    rf"(?:สวัสดี(?:ตอน(?:เช้า|บ่าย|เย็น))?|หวัดดี|ดีจ้า|ฮัลโหล|ฮาโหล|(?:แอดมิน|คุณ|คุณหมอ|หมอ|พี่|น้อง)(?:{_PARTICLE}|$)"
    rf"|ขอบคุณ(?:มาก)*|ขอบใจ|(?:รบกวน|ขอ|อยาก(?:จะ)?|ขออนุญาต|มี(?:เรื่อง|คำถาม)(?:จะ|อยาก)?)+{_ASK}{_MAY_I}"
    rf"|มีคำถาม|{_ASK}{_MAY_I}(?:{_PARTICLE})|(?:มีใคร|แอดมิน)?(?:ยัง)?อยู่(?:ไหม|มั้ย|ป่าว|เปล่า)"
    r"|good (?:morning|afternoon|evening)|\b(?:hello|hi|hey|thank you|thanks|thx)\b"
    r"|(?:can|may|could) i ask(?: you)?(?: something| a question)?|i have (?:a|some|one) questions?)"
    rf"(?:\s*{_PARTICLE})*"
)

# An answer to what was asked: nobody begins with it.
_ANSWER = re.compile(
    r"(?:ใช่|ไม่ใช่|ไม่|ไม่มี|มี|ได้|ไม่ได้|เอา|ไม่เอา|ตกลง|โอเค|โอ|ok|okay|okey|yes|yep|yeah|no|nope|ยืนยัน|ยกเลิก"
    r"|สะดวก|ไม่สะดวก|เคย|ไม่เคย|ยังไม่เคย|เอาอันนี้|อันนี้|อันแรก|อันที่สอง|sure|confirm|cancel)"
)

# Words that look like a question and are none: threads, dental floss, "something", "never mind".
_NO_QUESTION = re.compile(
    r"(?:ร้อย|ตัด|เส้น|ก้าง|ผ้า|ใส่|ละลาย)ไหม|ไหม(?:ขัด|ละลาย|พรม|ก้าง|น้ำ|เย็บ)|ไม่เป็นไร|ไม่(?:ได้)?มีอะไร"
    r"|อะไรก็ได้|ยังไงก็ได้|ที่ไหนก็ได้|เมื่อไหร่ก็ได้|วันไหนก็ได้|ไหน\s?ๆ|ยังไงก็(?:ตาม)?|(?:ว่า|สงสัย)ยังไงดี"
)

_ASKS = re.compile(
    r"ไหม|มั้ย|มั๊ย|ไม๊|ม้าย|มัยค|(?:หรือ|รึ|รื)(?:เปล่า|ป่าว|ไม่|ยัง)|ได้(?:ป่าว|เปล่า|ป่ะ|ปะ|ปล่าว)|เท่าไ|ทเาไ|เท่าใด"
    r"|ไหร่|กี่|อะไร|อัลไล|ยังไง|ยังงัย|ยังงัย|ไงค|อย่างไร|ที่ไหน|ตรงไหน|ทางไหน|แบบไหน|อันไหน|วันไหน|ตอนไหน|ตัวไหน"
    r"|ช่วงไหน|เมื่อใด|เวลาใด|ใคร|ทำไม|ทามไม|เพราะอะไร|ใช่(?:ไหม|มั้ย|ป่าว|ปะ)|แบบใด|สาขาไหน|หมอคนไหน|คนไหน"
)
_END = rf"(?:\s*(?:{_PARTICLE}|บ้าง|อ่ะ|อะ|เอ่ย|ดี|[.!,~ๆ]))*$"
_ASKS_AT_END = re.compile(
    rf"(?:ป่าว|เปล่า|ป่ะ|ปะ|ไหน|หรอ|เหรอ|หรือ|รึ|ไง|งัย|(?<!ว่า)ไร|ได้ไม|มีไม|(?<!อยู่)(?:เสร็จ|ว่าง|เปิด|ถึง)ยัง|บ้าง){_END}"
    # ค่ะ states and คะ asks; many write คะ for ค่ะ, but after นะ it asks nothing.
    r"|[^\s](?<!นะ)(?<!ล่ะ)คะ[\s.!~]*$|(?:ล่ะ|ละ)(?:คะ|ครับ|คับ|ฮะ)[\s.!~]*$"
)

# "Give me the price" asks without a question word; "I want a price" does not say of what.
_REQUEST = re.compile(
    r"(?:ขอ|ส่ง|บอก|แจ้ง|ดู|เช็[คก])(?:ทราบ|ดู)?(?:ราคา|เบอร์|ที่อยู่|แผนที่|โลเคชั่?น|พิกัด|โปร|รายละเอียด|คิวว่าง|ตารางหมอ|เวลาเปิด|ไลน์|ใบเสร็จ)"
    r"|โทร(?:กลับ|หา)(?:หน่อย|ด้วย|ที)|ช่วย\S+(?:หน่อย|ด้วย|ที)(?:\s|ค่ะ|คะ|ครับ|คับ|นะ|$)"
)
_ENGLISH = re.compile(
    r"(?:^|[.!,]\s*)(?:what|how|when|where|which|who|whose|why|can|could|do|does|did|is|are|will|would|may|should|have"
    r"|has|any)(?:'s)?\s+\w+|\bhow (?:much|many|long|far)\b|\bplease (?:send|call|tell|give|book|cancel)\b"
)
