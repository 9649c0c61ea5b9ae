"""What came of a clinic's conversations, as one page in Thai for its owner."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from core.domain.money import format_baht
from core.domain.outcome import WAITS_S
from core.ops.thai_days import thai_day, thai_days
from core.reports.page import page, section, table, verdict
from core.reports.plots import bars, columns
from core.usecases.operate.insights import Insights
from core.usecases.operate.spend_report import days_between

_LABELLED = 7
"""How many days have their label under a column, about: more would overlap."""
_FUNNEL = {
    "conversations": "เริ่มบทสนทนา",
    "advised": "คุยเรื่องบริการและราคา",
    "to_book": "คุยเรื่องวันนัด",
    "bookings": "ขอนัดหมาย",
    "confirmed": "คลินิกยืนยันนัด",
}
_KINDS = {
    "answered": ("ผู้ช่วยตอบเอง", "ตอบจากข้อมูลของคลินิก"),
    "fixed": ("ข้อความสำเร็จรูป", "เช่น ทักทาย สติกเกอร์ ส่งต่อเจ้าหน้าที่"),
    "fallbacks": ("ตอบไม่ได้ ขออภัยลูกค้า", "ระบบขัดข้องหรือคิวยาวเกินไป"),
    "stopped": ("งบของวันหมด", "เพิ่มงบต่อวันได้ หากเกิดขึ้นบ่อย"),
}


def to_html(found: Insights) -> str:
    parts = [
        _tiles(found),
        verdict(_summary(found), kept=None),
        *_sections(found),
        f'<p class="note">{escape(_HOW)}</p>',
    ]
    days = thai_days(found.first_day, found.last_day)
    subtitle = f"{days} · แชต LINE ที่ผู้ช่วยอัตโนมัติดูแล"
    return page(f"สรุปผลแชตของ {found.name or found.org_id}", subtitle, "\n".join(parts), lang="th")


_HOW = (
    "บทสนทนาใหม่นับเมื่อลูกค้าทักมาหลังจากเงียบไป 30 นาที · เวลารอนับจากข้อความแรกที่ยังไม่ได้ตอบจนคำตอบพร้อมส่ง · "
    "ค่าใช้จ่ายคือค่าโมเดลภาษา ไม่รวมค่าข้อความของ LINE · นัดที่ยืนยันนับในวันที่คลินิกกดยืนยัน"
)


def _tiles(found: Insights) -> str:
    waited = found.waited_s(0.5)
    per_booking = found.micro_baht_per_booking
    tiles = {
        "บทสนทนา": f"{found.count('conversations'):,}",
        "ขอนัดหมาย": f"{found.count('bookings'):,}",
        "ยืนยันแล้ว": f"{found.count('confirmed'):,}",
        "ค่าใช้จ่ายต่อนัด": "–" if per_booking is None else format_baht(per_booking),
        "ครึ่งหนึ่งได้คำตอบใน": "–" if waited is None else _seconds(waited),
        "ส่งต่อเจ้าหน้าที่": f"{found.count('handoffs'):,}",
    }
    drawn = "".join(f"<div><dt>{escape(n)}</dt><dd>{escape(value)}</dd></div>" for n, value in tiles.items())
    return f'<dl class="tiles" id="figures">{drawn}</dl>'


def _summary(found: Insights) -> str:
    opened, booked = found.count("conversations"), found.count("bookings")
    if not opened:
        return "ยังไม่มีบทสนทนาในช่วงวันนี้"
    share = f"{booked / opened:.0%}"
    said = (
        f"จาก {opened:,} บทสนทนา มีการขอนัด {booked:,} นัด ({share}) คลินิกยืนยันแล้ว {found.count('confirmed'):,} นัด"
    )
    return f"{said} ใช้ค่าโมเดลไปทั้งหมด {format_baht(found.spent_micro_baht)}"


def _sections(found: Insights) -> Iterator[str]:
    yield section("จากแชตถึงนัดหมาย", bars("funnel", _shares(found)), "แต่ละขั้นเทียบกับจำนวนบทสนทนาทั้งหมด")
    days = days_between(found.first_day, found.last_day)
    by_day = [(_short(day), found.days.get(day, {}).get("conversations", 0)) for day in days]
    if len(days) > 1:
        drawn = columns("days", by_day, "บทสนทนาต่อวัน", labelled=-(-len(days) // _LABELLED))
        yield section("บทสนทนาต่อวัน", drawn)
    hours = found.by_name("hours")
    by_hour = [(str(hour), hours.get(f"{hour:02}", 0)) for hour in range(24)]
    drawn = columns("hours", by_hour, "ข้อความตามชั่วโมง", labelled=3)
    yield section("ลูกค้าทักมาชั่วโมงไหน", drawn, "จำนวนครั้งที่ผู้ช่วยตอบ ตามชั่วโมงของวัน (0–23 น.)")
    yield section("เวลารอคำตอบ", bars("waits", _waits(found)), "สัดส่วนของคำตอบจากผู้ช่วย ตามเวลาที่ลูกค้ารอ")
    if found.asked:
        rows = [(service, float(turns), f"{turns:,}") for service, turns in found.asked]
        yield section("ลูกค้าถามเรื่องอะไร", bars("asked", rows), "จำนวนคำตอบที่เกี่ยวกับบริการนั้น ในแชต 30 วันล่าสุด")
    yield section("คำถามที่ข้อมูลคลินิกยังไม่มีคำตอบ", *_unanswered(found))
    kinds = [(*_KINDS[kind], f"{found.count(kind):,}") for kind in _KINDS]
    yield section(
        "ใครเป็นผู้ตอบ",
        table("kinds", ("แบบ", "หมายความว่า", "ครั้ง"), kinds, numbers=(2,)),
        f"ทั้งหมด {found.count('turns'):,} ครั้ง · ข้อความ LINE ที่มีค่าใช้จ่าย {found.count('pushes'):,} ข้อความ · "
        f"รูป {found.count('images'):,} รูป · ข้อความเสียง {found.count('voices'):,} ข้อความ",
    )


def _shares(found: Insights) -> list[tuple[str, float, str]]:
    opened = found.count("conversations")

    def text(count: int) -> str:
        return f"{count:,} · {count / opened:.0%}" if opened else f"{count:,}"

    return [(_FUNNEL[name], float(count), text(count)) for name, count in found.funnel.items()]


def _waits(found: Insights) -> list[tuple[str, float, str]]:
    """From the shortest to the longest that there was."""
    waits = found.by_name("waits")
    total = sum(waits.values())
    longest = max((WAITS_S.index(int(bound)) for bound in waits), default=-1)
    rows, below = [], 0
    for bound in WAITS_S[: longest + 1]:
        count = waits.get(str(bound), 0)
        rows.append((_between(below, bound), float(count), f"{count / total:.0%}"))
        below = bound
    return rows


def _unanswered(found: Insights) -> tuple[str, str]:
    rows = [
        (question.latest.topic, question.latest.question, f"{question.count:,}")
        for question in found.questions
        if question.latest
    ]
    if not rows:
        return "", "ไม่มีคำถามค้าง"
    drawn = table("questions", ("เรื่อง", "ลูกค้าถามว่า", "ครั้ง"), rows, numbers=(2,))
    return drawn, "เพิ่มคำตอบเหล่านี้ แล้วผู้ช่วยจะตอบเองได้ทันที"


def _seconds(seconds: int) -> str:
    return f"{seconds} วินาที" if seconds < 120 else f"{seconds // 60} นาที"


def _between(below: int, bound: int) -> str:
    if bound > 3600:
        return "เกิน 1 ชั่วโมง"
    return f"{below}–{bound} วินาที" if bound < 120 else f"{below / 60:g}–{bound / 60:g} นาที"


def _short(day: str) -> str:
    """Without its year."""
    return thai_day(day).rpartition(" ")[0]
