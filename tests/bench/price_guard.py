"""What the guard of prices costs, in processor time: a reply with prices, times, a telephone; 60 prices."""

from __future__ import annotations

import time
from datetime import date
from decimal import Decimal

from core.domain.clinic import Clinic
from core.domain.clinic_prices import ListedPrice
from core.domain.price_guard import PriceGuard
from tests.bench.table import Row

TARGET_MS = 0.2
REPLIES = 5_000
PRICES = tuple(ListedPrice(f"บริการที่ {n}", Decimal(900 + 350 * n), Decimal(900 + 350 * n)) for n in range(60))
REPLY = (
    "สวัสดีค่ะ ขูดหินปูนราคา 900 บาทค่ะ ใช้เวลา 30-45 นาที ฟอกสีฟันเริ่มต้น 1,950 บาท โปรถึง 31 ธ.ค. 2569 ค่ะ "
    "เปิดทุกวัน 10.00–20.00 น. สนใจนัดวันไหนคะ โทร 02-123-4567 ได้เลยค่ะ"
)
WITHOUT = "สวัสดีค่ะ ยินดีให้บริการค่ะ สนใจนัดวันไหนคะ"


def cost_ms(reply: str) -> float:
    """Building the guard of a turn and asking it, as a turn does."""
    clinic = Clinic("bench", "Bench", "U-bot", "1650000001", persona=REPLY, prices=PRICES)
    day, said = date(2026, 12, 1), ("งบ 5,000 บาทค่ะ",)
    began = time.process_time()
    for _ in range(REPLIES):
        guard = PriceGuard.of(clinic, day, said)
        if guard is None or guard.uncovered(reply):
            raise AssertionError(reply)
    return (time.process_time() - began) / REPLIES * 1000


async def rows() -> list[Row]:
    cost, plain = cost_ms(REPLY), cost_ms(WITHOUT)
    return [
        Row(
            f"guard of prices, a reply of {len(REPLY)} characters",
            f"{cost:.3f} ms",
            f"≤ {TARGET_MS:g} ms",
            f"without a number {plain:.3f} ms",
            cost <= TARGET_MS,
        )
    ]
