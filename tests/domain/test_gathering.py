"""What stands by itself, and what looks as if another were to follow."""

from __future__ import annotations

import pytest

from core.domain.event import EventKind, InboundEvent
from core.domain.gathering import gather_ms, stands_by_itself


def an_event(kind: EventKind, text: str = "") -> InboundEvent:
    return InboundEvent("E1", "any", "U1", kind, 1, 1, text=text)


STANDS = {
    "questions without a question mark": """
        ราคาเท่าไหร่คะ|ราคาเท่าไร|ราคาเท่าไหร่|ทเาไหร่คะ|ฟอกสีฟันได้ไหม|ได้มั้ยคะ|ว่างมั๊ย|มีโปรไม๊คะ|ได้ไมคะ|ทำฟันเจ็บหรือเปล่า
        ทำฟันเจ็บรึป่าวครับ|พรุ่งนี้ได้ป่าว|ผ่อนได้เปล่า|ได้ปะ|มีที่จอดรถป่ะ|ต้องทำยังไงบ้างคะ|ทำไงดีครับ|เปิดกี่โมง|ใช้เวลากี่ชั่วโมงคะ
        มีอะไรบ้าง|คลินิกอยู่ที่ไหนคะ|อยู่ตรงไหน|สาขาไหนใกล้ BTS บ้างคะ|หมอเข้าเมื่อไหร่คะ|เสร็จเมื่อไรครับ|ว่างวันไหนบ้าง|ทำไมแพงจัง
        ใครเป็นหมอคะ|เสร็จหรือยังคะ|ถึงคิวรึยัง|ว่างยังคะ|ต้องจองก่อนหรอคะ|จริงเหรอ|แล้วจัดฟันล่ะคะ|สรุปนัดวันไหน|อันนี้เป็นอะไรคะ
        อันนี้คือใช้ได้เลยใช่ไหม|ฟันผุต้องถอนไหม|ราคา?|ราคา？|อุดฟันได้ไหม""",
    "a question after its own preamble": """
        สวัสดีค่ะ ราคาเท่าไหร่คะ|สวัสดีค่ะ สอบถามหน่อยค่ะ ฟอกฟันราคาเท่าไหร่|ขอสอบถามหน่อยค่ะว่าคลินิกเปิดกี่โมง
        ร้อยไหมราคาเท่าไหร่|ร้อยไหมเจ็บไหมคะ|ตัดไหมวันไหนคะ|555 แพงไหม""",
    "numbers, telephones, dates, times": """
        0812345678|081-234-5678|โทร ๐๘๑๒๓๔๕๖๗๘|วันที่ 5 ธันวาคม|14.30 น.|บ่าย 2 ค่ะ|1|5""",
    "answers to what was asked": """
        ใช่ค่ะ|ไม่ใช่ครับ|ได้ค่ะ|ไม่ค่ะ|ไม่ได้ครับ|มีค่ะ|ตกลงค่ะ|โอเคครับ|ok|Yes|no|เอาอันนี้ค่ะ|ไม่สะดวกค่ะ|ยืนยันค่ะ|ไม่เคยค่ะ""",
    "requests": """
        ขอราคาฟอกสีฟันหน่อยค่ะ|ขอเบอร์หน่อยครับ|ขอที่อยู่คลินิกค่ะ|ขอโลเคชั่นหน่อย|โทรกลับหน่อยค่ะ""",
    "English": """
        how much is whitening|How much|do you open on sunday|can i book for tomorrow|price?
        please call me back|Hi, what time do you close""",
}
LOOKS_UNFINISHED = {
    "greetings": """
        สวัสดีค่ะ|สวัสดีคะ|สวัสดีครับ|หวัดดีจ้า|ดีค่ะ|hello|Hi|hi there|Good morning|สวัสดีค่ะแอดมิน|แอดมินคะ|คุณหมอคะ|พี่คะ
        แอดมินอยู่ไหมคะ|มีใครอยู่ไหมคะ""",
    "announcements of a question": """
        สอบถามค่ะ|สอบถามหน่อยค่ะ|สอบถามหน่อยได้ไหมคะ|ขอสอบถามหน่อยค่ะ|ขอถามได้มั้ยคะ|อยากสอบถามค่ะ|มีเรื่องจะถามค่ะ
        รบกวนสอบถามนะคะ|i have a question|can i ask something""",
    "fragments and statements": """
        พอดีว่า|คือว่า|คือ|ปวดฟันมาก|ซี่ในสุด|วันนี้เลยครับ|อยากจัดฟัน|สนใจฟอกสีฟันค่ะ|เรื่องฟอกฟันค่ะ|ชื่อพลอยค่ะ|จะไปกับแฟนค่ะ
        คือเมื่อวานไปหาหมอมา|ฟันคุด|แล้วก็|เพิ่งถอนฟันมา|เดี๋ยวส่งรูปให้นะคะ|รอแป๊บนะคะ|my tooth hurts""",
    "what only looks like a question": """
        สนใจร้อยไหมค่ะ|ซื้อไหมขัดฟันไป|ตัดไหมแล้วค่ะ|ไม่เป็นไรค่ะ|อะไรก็ได้ค่ะ|วันไหนก็ได้ค่ะ|ไหนๆก็มาแล้ว""",
    "thanks, laughter, emoji, nothing": """
        ขอบคุณค่ะ|ขอบคุณนะคะ|ขอบคุณคะ|thanks|ค่ะ|ครับ|คะ|555|55555+|🙏🙏| """,
}


def examples(table: dict[str, str]) -> list[str]:
    return [
        text.strip() for texts in table.values() for text in texts.strip("\n ").replace("\n", "|").split("|")
    ]


@pytest.mark.parametrize("text", examples(STANDS))
def test_a_question_a_number_an_answer_stands_by_itself(text: str) -> None:
    assert stands_by_itself(an_event(EventKind.TEXT, text))


@pytest.mark.parametrize("text", examples(LOOKS_UNFINISHED))
def test_a_greeting_or_a_fragment_looks_unfinished(text: str) -> None:
    assert not stands_by_itself(an_event(EventKind.TEXT, text))


@pytest.mark.parametrize(
    "written", ["ราคา\u200bเท่าไหร่", "ทํา\u0e44มแพงจัง", "เเพงไหม", "ราคาเท่าไหร่ 😅", "PRICE？"]
)
def test_it_is_read_as_it_looks(written: str) -> None:
    assert stands_by_itself(an_event(EventKind.TEXT, written))


@pytest.mark.parametrize("kind", EventKind)
def test_of_what_is_no_text_only_a_tap_stands_by_itself(kind: EventKind) -> None:
    no_message = {EventKind.EDIT, EventKind.UNSEND, EventKind.UNFOLLOW, EventKind.LEAVE}
    taps_and_words = {EventKind.POSTBACK, EventKind.TEXT}
    expected = None if kind in no_message else 0 if kind in taps_and_words else 1500
    assert gather_ms(an_event(kind, "ราคาเท่าไหร่"), 1.5) == expected
