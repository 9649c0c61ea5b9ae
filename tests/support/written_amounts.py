"""Replies with amounts of money, as no table lists them: every spelling, at every place of a reply."""

from __future__ import annotations

from random import Random

UNITS = ("", "สิบ", "ร้อย", "พัน", "หมื่น", "แสน")
WORDS = ("", "หนึ่ง", "สอง", "สาม", "สี่", "ห้า", "หก", "เจ็ด", "แปด", "เก้า")
THAI = str.maketrans("0123456789", "๐๑๒๓๔๕๖๗๘๙")


def in_words(value: int) -> str:
    said = ""
    digits = str(value)
    for place, digit in enumerate(map(int, digits)):
        unit = len(digits) - place - 1
        word = {(1, 1): "", (1, 2): "ยี่"}.get((unit, digit), WORDS[digit])
        if unit == 0 and digit == 1 and value > 10:
            word = "เอ็ด"
        said += f"{word}{UNITS[unit]}" if digit else ""
    return said


def spelled(draw: Random, value: int) -> str:
    """`value` as somebody may write it, so that every reader takes it for money."""
    blank = draw.choice(["", " "])
    if draw.random() < 0.25:
        if value % 100 == 0 and value >= 1000 and draw.random() < 0.5:
            return f"{value / 1000:g}{blank}{draw.choice(['k', 'K', 'พัน', 'พันบาท'])}"
        return f"{in_words(value)}{blank}บาท"
    digits = draw.choice([f"{value}", f"{value:,}", f"{value:,}.00", f"{value:,}".replace(",", " ")])
    digits = draw.choice([digits, digits.translate(THAI)])
    blank = draw.choice(["", " ", "\u00a0", "  ", "\u200b"])
    mark = draw.choice(["บาท", "บ.", "฿", "THB", "baht", "บาทถ้วน"])
    is_before = mark in {"฿", "THB"} and draw.random() < 0.5
    return f"{mark}{blank}{digits}" if is_before else f"{digits}{blank}{mark}"


BEFORE = (
    *("", "ขูดหินปูน ", "ราคา", "ราคา ", "ค่าบริการ", "เริ่มต้น ", "สวัสดีค่ะ ", "ลด 10% ", "ปี 2569 ", "• ", "(", "\n"),
    *("เปิด 10.00–20.00 น. ", "โทร 1669 ค่ะ ", "ขูดหินปูน 900 บาทค่ะ ", "วันที่ 31 ธ.ค. ", "ใช้เวลา 30 นาที "),
)
AFTER = (
    *("", "ค่ะ", " ค่ะ", "/ซี่", " ต่อครั้ง", " (รวมยา)", " 2 ครั้ง", " เปิด 10.00 น.", " ลด 10%", "!", ")"),
    *(" ถึง 31 ธ.ค. 2569", "\nโทร 02-123-4567", " ใช้เวลา 30 นาที", " ออเดอร์ 12345", " ยา 500 มก."),
)


def mutated(draw: Random, value: int) -> str:
    return f"{draw.choice(BEFORE)}{spelled(draw, value)}{draw.choice(AFTER)}"
