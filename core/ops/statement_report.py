"""A clinic's statement as one page in Thai, to print and to file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from core.domain.charges import ChargeKind
from core.domain.money import format_baht
from core.ops.thai_days import thai_day, thai_month
from core.reports.page import page, section, table, verdict
from core.usecases.operate.statement import Statement, StatementLine

_KINDS = {
    ChargeKind.CALL: "คำตอบ",
    ChargeKind.UNKNOWN: "ไม่ทราบผล คิดเต็มวงเงิน",
    ChargeKind.CORRECTION: "คืนยอดที่คิดไว้เกิน",
}
_STATES = {
    "requested": "รอยืนยัน",
    "confirmed": "ยืนยันแล้ว",
    "declined": "ปฏิเสธ",
    "cancelled": "ยกเลิก",
}


def to_html(found: Statement) -> str:
    total = format_baht(found.charged_micro_baht, decimals=6)
    judged = (
        f"รวม {total} จาก {len(found.lines):,} รายการ ตรงกับสมุดบัญชีทุกสตางค์"
        if found.closes
        else f"รวม {total} แต่สมุดบัญชีบันทึกไว้ {format_baht(found.booked_micro_baht, decimals=6)}"
    )
    sections = (_by_model(found), _by_day(found), _bookings(found), _charges(found))
    return page(
        f"ใบแจ้งยอด {thai_month(found.month)}",
        f"คลินิก {found.org_id} · ค่าใช้โมเดลภาษาของผู้ช่วยในแชต LINE",
        "\n".join([verdict(judged, kept=found.closes), *sections]),
        lang="th",
    )


def _baht(micro_baht: int) -> str:
    return format_baht(micro_baht, decimals=6)


def _by_model(found: Statement) -> str:
    sums, counts = Counter[str](), Counter[str]()
    for each in found.lines:
        sums[each.line.model] += each.line.micro_baht
        counts[each.line.model] += 1
    rows = [(model, f"{counts[model]:,}", _baht(sums[model])) for model in sorted(sums)]
    return section("ตามโมเดล", table("models", ("โมเดล", "รายการ", "บาท"), rows, numbers=(1, 2)))


def _by_day(found: Statement) -> str:
    counts = Counter(each.charge.day for each in found.lines)
    rows = [
        (
            thai_day(day.day),
            f"{counts[day.day]:,}",
            _baht(day.charged_micro_baht),
            _baht(day.booked_micro_baht),
        )
        for day in found.days
    ]
    head = ("วันที่", "รายการ", "รวมรายการ", "สมุดบัญชี")
    return section("ตามวัน", table("days", head, rows, numbers=(1, 2, 3)))


def _bookings(found: Statement) -> str:
    rows = [
        (
            f"{found.local(booking.created_ms):%d/%m %H:%M}",
            booking.service or "(ลบแล้ว)",
            f"{thai_day(booking.date.replace('-', ''))} {booking.time} น.",
            _STATES[booking.state.value],
        )
        for booking in found.bookings
    ]
    note = f"ลูกค้าขอนัดในเดือนนี้ {found.bookings_counted:,} นัด ยังเก็บรายละเอียดไว้ {len(rows):,} นัด"
    return section("นัดหมาย", table("bookings", ("ขอเมื่อ", "บริการ", "วันนัด", "สถานะ"), rows), note)


def _charges(found: Statement) -> str:
    head = ("เวลา", "รอบคำตอบ", "รายการ", "โมเดล", "โทเคน เข้า/แคช/ออก", "ราคา (USD)", "บาท")
    drawn = table("charges", head, _rows(found), numbers=(6,))
    note = "ทุกรายการคือการเรียกโมเดลหนึ่งครั้ง ไม่มีข้อความหรือชื่อของลูกค้า ราคาต่อ 1 ล้านโทเคน (USD) เข้า/แคช/ออก"
    return section("ทุกรายการ", f'<div class="wide">{drawn}</div>', note)


def _rows(found: Statement) -> Iterator[tuple[str, ...]]:
    for each in found.lines:
        charge, line = each.charge, each.line
        yield (
            f"{found.local(charge.at_ms):%d/%m %H:%M:%S}",
            charge.turn_id,
            _KINDS[line.kind],
            line.model,
            _used(line.usage),
            _price(each),
            _baht(line.micro_baht),
        )


def _used(usage: Mapping[str, int]) -> str:
    if "audio_ms" in usage:
        return f"เสียง {usage['audio_ms'] / 1000:,.1f} วินาที"
    tokens = (usage.get(name, 0) for name in ("input", "cached", "output"))
    return " / ".join(f"{count:,}" for count in tokens) if usage else "–"


def _price(each: StatementLine) -> str:
    row = {name: value for name, value in each.price.items() if name not in {"version", "model"}}
    if not row:
        return "–"
    if "unit" in row:  # a model's that is not paid by its tokens alone
        said = ", ".join(f"{name} {value}" for name, value in row.items())
    else:
        said = " / ".join(str(row.get(f"{name}_usd")) for name in ("input", "cached", "output"))
    return f"{said} ({each.price.get('version')})"
