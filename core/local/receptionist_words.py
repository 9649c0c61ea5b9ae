"""What the stand-in model understands, and how it says things."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

PATTERNS: Final[Mapping[str, re.Pattern[str]]] = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in {
        "people": r"(?:คุย|ติดต่อ|สอบถาม)กับ(?:คน|เจ้าหน้าที่|แอดมิน|พนักงาน|หมอ)"
        r"|ขอสาย|โทรกลับ|ร้องเรียน|ไม่พอใจ|(?:talk|speak) to",
        "who": r"บอท|เป็นคน(?:จริง)?(?:ไหม|หรือ|รึ|มั้ย)|\bAI\b|เอไอ|หุ่นยนต์"
        r"|คุณคือใคร|ใครตอบ|\bbot\b|are you (?:a )?(?:human|person|real|robot)",
        "medical": r"กินยา(?:อะไร|กี่)|ยาอะไร|กี่เม็ด|เป็นโรคอะไร|อันตรายไหม|what medicine|diagnos",
        "price": r"ราคา|เท่าไ[หร]|กี่บาท|ค่าใช้จ่าย|how much|price|cost",
        "hours": r"เปิด|ปิดกี่|กี่โมง|วันไหนบ้าง|หยุดวัน|opening|open|close",
        "pain": r"เจ็บ|hurt|pain",
        "duration": r"นาน(?:ไหม|มั้ย|เท่า|แค่)|ใช้เวลา|กี่นาที|กี่ชั่วโมง|how long",
        "booking": r"นัด|จอง|ตกลง(?:ค่ะ|ครับ|นัด|$)|คิวว่าง|ว่างไหม|\bbook|appointment",
        "change": r"เลื่อน|เปลี่ยน(?:วัน|เวลา|นัด)|reschedul|change my",
        "cancel": r"ยกเลิก|cancel",
        "thanks": r"ขอบคุณ|ขอบใจ|thank",
        "question": r"ไหม|มั้ย|หรือ(?:เปล่า|ยัง|ไม่)|รึเปล่า|อะไร|ยังไง|อย่างไร|ที่ไหน|เมื่อไ|ทำไม|กี่|คะ$|\?",
    }.items()
}

TEXTS: Final[Mapping[str, Mapping[str, str]]] = {
    "th": {
        "hello": "สวัสดีค่ะ หนูเป็นตัวจำลองของผู้ช่วยคลินิกนะคะ",
        "hello_known": "สวัสดีค่ะคุณ{name} ยินดีที่กลับมานะคะ (ตัวจำลองของผู้ช่วยตอบค่ะ)",
        "who": "ไม่ใช่คนค่ะ หนูเป็นตัวจำลองสำหรับทดลองระบบ ตอบตามกฎง่าย ๆ จากข้อมูลของคลินิกนะคะ",
        "picture": "ได้รับรูปแล้วค่ะ ตัวจำลองดูรูปจริงไม่ได้ และการดูอาการขอให้คุณหมอตรวจที่คลินิกนะคะ",
        "urgent": "อาการแบบนี้ควรรีบโทรหาคลินิกทันที หรือโทร 1669 ในกรณีฉุกเฉินนะคะ",
        "people": "รับทราบค่ะ ขอส่งต่อให้เจ้าหน้าที่ของคลินิกดูแลต่อในแชตนี้นะคะ",
        "people_reason": "ลูกค้าขอคุยกับเจ้าหน้าที่",
        "medical": "เรื่องอาการและยา ขอให้คุณหมอเป็นผู้ประเมินนะคะ สะดวกให้นัดคุณหมอให้ไหมคะ",
        "allergy": "รับทราบเรื่องแพ้{value}ค่ะ จะแจ้งคุณหมอไว้ให้นะคะ",
        "noted": "จดไว้ให้แล้วค่ะ มีอะไรให้ช่วยอีกไหมคะ",
        "line": "{line}ค่ะ",
        "list": "ราคาของทางคลินิกค่ะ: {items} สนใจบริการไหนคะ",
        "price": "{item} {price}ค่ะ สนใจนัดวันไหนคะ",
        "hours": "เวลาทำการ: {hours} ค่ะ",
        "open": " ตอนนี้คลินิกเปิดอยู่ค่ะ",
        "closed": " ตอนนี้คลินิกปิดอยู่ค่ะ",
        "pain": "ความรู้สึกของแต่ละคนไม่เหมือนกันค่ะ คุณหมอจะดูแลให้สบายที่สุด ถ้ากังวลแจ้งคุณหมอก่อนเริ่มได้เลยนะคะ",
        "ask_service": "ได้ค่ะ สนใจนัดทำบริการไหนคะ",
        "ask_day": "ได้ค่ะ นัด{item} สะดวกวันไหนคะ",
        "ask_time": "นัด{item} สะดวกกี่โมงคะ ขอชื่อและเบอร์โทรไว้ด้วยนะคะ",
        "booked": "รับคำขอนัด{item} {when} ไว้แล้วค่ะ คลินิกจะยืนยันให้ในแชตนี้นะคะ",
        "cancelled": "รับคำขอยกเลิกนัด{item}แล้วค่ะ แจ้งคลินิกให้นะคะ",
        "nothing_booked": "ตอนนี้ไม่มีนัดในแชตนี้ค่ะ",
        "missing": "เรื่องนี้หนูไม่มีข้อมูลของคลินิกค่ะ ขอให้เจ้าหน้าที่ยืนยันให้นะคะ",
        "welcome": "ยินดีค่ะ มีอะไรสอบถามเพิ่มได้เสมอนะคะ",
        "help": "สนใจบริการไหน หรืออยากนัดวันไหน บอกได้เลยนะคะ",
        "tap_book": "นัดเลยค่ะ",
        "tap_tomorrow": "พรุ่งนี้",
        "tap_saturday": "วันเสาร์",
    },
    "en": {
        "hello": "Hello! I am a stand-in for the clinic's assistant, no real AI.",
        "hello_known": "Hello {name}, good to see you again (a stand-in for the assistant answers).",
        "who": "I am no person: a stand-in to try the system with, answering by simple rules.",
        "picture": "I have your picture. A stand-in cannot look at it, and only the doctor can judge it.",
        "urgent": "Please call the clinic at once, or 1669 in an emergency.",
        "people": "Of course, the clinic's staff will go on with you here in this chat.",
        "people_reason": "the customer asks for a person",
        "medical": "Symptoms and medicines are for the doctor to judge. Shall I arrange an appointment?",
        "allergy": "I have noted the allergy to {value} for the doctor.",
        "noted": "Noted. Is there anything else?",
        "line": "{line}",
        "list": "Our prices: {items}. What are you interested in?",
        "price": "{item}: {price}. Which day would suit you?",
        "hours": "Opening hours: {hours}.",
        "open": " The clinic is open now.",
        "closed": " The clinic is closed now.",
        "pain": "It differs from person to person; the doctor will make it as comfortable as possible.",
        "ask_service": "Gladly. Which service is it for?",
        "ask_day": "Gladly, {item}. Which day suits you?",
        "ask_time": "{item}: at what time? May I have your name and telephone number, too?",
        "booked": "I have taken your wish for {item} {when}; the clinic will confirm it here.",
        "cancelled": "I have passed on that {item} is to be cancelled.",
        "nothing_booked": "There is no appointment in this chat.",
        "missing": "The clinic has not told me that; the staff will confirm it.",
        "welcome": "You are welcome!",
        "help": "Tell me which service you are interested in, or which day you would like to come.",
        "tap_book": "Book it",
        "tap_tomorrow": "tomorrow",
        "tap_saturday": "Saturday",
    },
}
