"""The share of input tokens that the provider reports as cached, since a clinic's prompts begin alike.

Ten customers of one clinic, five turns each, by way of the role manager and the real client against the
OpenAI stand-in, which caches prefixes by OpenAI's rules: from 1,024 tokens, in steps of 128. The baseline has
the same messages with the changing part before the stable one.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from core.adapters.openai_llm import OpenAiLlm
from core.adapters.system_clock import SystemClock
from core.domain.clinic import Clinic
from core.domain.clinic_prices import ListedPrice
from core.domain.memory import CustomerMemory, Fact
from core.domain.moment import Moment
from core.domain.prices import load_prices
from core.domain.prompt import Message, Prompt
from core.domain.role_manager import build_prompt
from core.domain.session import Session
from core.local.openai_api import Latency, OpenAiApi
from core.ports.llm import LlmRequest
from tests.bench.table import Row

CUSTOMERS, TURNS = 10, 5
TARGET = 0.8
MODEL = "gpt-6.1-terra"
BEGAN_MS = 1_795_485_600_000
SERVICES = ("ขูดหินปูน", "อุดฟัน", "ถอนฟัน", "ฟอกสีฟัน", "จัดฟันใส", "จัดฟันโลหะ", "รากฟันเทียม", "ครอบฟัน", "รักษารากฟัน",
            "วีเนียร์")  # fmt: skip
PERSONA = (
    "น้ำเสียงสุภาพ อบอุ่น เป็นกันเอง ลงท้ายด้วยค่ะหรือนะคะ ตอบสั้น กระชับ ไม่เกินสี่ประโยค\n"
    "เปิดทุกวัน 10.00–20.00 น. ปิดวันหยุดนักขัตฤกษ์ มีที่จอดรถในอาคาร ใกล้สถานีรถไฟฟ้าสยาม ทางออก 3\n"
) + "\n".join(
    f"{service} เริ่มต้น {900 + 350 * n:,} บาท ใช้เวลาประมาณ {30 + 10 * (n % 4)} นาที ดูแลโดยทันตแพทย์เฉพาะทาง "
    "ผ่อนชำระได้กับบัตรที่ร่วมรายการ นัดหมายล่วงหน้าอย่างน้อยหนึ่งวัน หากต้องการเลื่อนนัดกรุณาแจ้งก่อน 24 ชั่วโมง"
    for n, service in enumerate(SERVICES)
)
TINY = "ขูดหินปูน 900 บาท เปิด 9–20 น."
LISTED, TARGET_LISTED = 60, 0.85
PRICES = tuple(
    ListedPrice(
        f"{SERVICES[n % len(SERVICES)]} แบบที่ {n}",
        Decimal(900 + 350 * n),
        Decimal(900 + 350 * n),
        note="รวมค่าตรวจและค่าทันตแพทย์แล้ว" if n % 3 == 0 else "",
    )
    for n in range(LISTED)
)


def stable_first(prompt: Prompt) -> tuple[Message, ...]:
    """As the role manager has it."""
    return prompt.messages


def changing_first(prompt: Prompt) -> tuple[Message, ...]:
    stable, changing, *rest = prompt.messages
    return (changing, stable, *rest)


async def cached_share(
    persona: str,
    arrange: Callable[[Prompt], tuple[Message, ...]] = stable_first,
    prices: tuple[ListedPrice, ...] = (),
) -> tuple[float, int]:
    """Cached ÷ input tokens of all turns, and the input tokens of an average turn."""
    clinic = Clinic("bench", "Bench Clinic", "U-bot", "1650000001", persona=persona, prices=prices)
    api = OpenAiApi(latency=Latency(0.0), models=(MODEL,), keep_bodies=False)
    await api.start()
    llm = OpenAiLlm("bench", SystemClock(), api.url)
    sessions = [Session() for _ in range(CUSTOMERS)]
    memories = [CustomerMemory((Fact("name", f"คุณ{n}", "t", 0, f"ชื่อ{n}"),)) for n in range(CUSTOMERS)]
    cached = tokens = 0
    try:
        for turn in range(TURNS):
            for n in range(CUSTOMERS):
                words = f"{SERVICES[n]}ราคาเท่าไหร่คะ มีคิวว่างวันที่ {turn + 1} ไหมคะ"
                at_ms = BEGAN_MS + (turn * CUSTOMERS + n) * 20_000
                prompt = build_prompt(clinic, sessions[n], memories[n], [words], Moment(at_ms))
                answer = await llm.complete(_request(prompt, arrange(prompt)), timeout_s=10)
                assert answer.usage is not None
                cached += answer.usage.cached
                tokens += answer.usage.input
                reply = f"{SERVICES[n]}มีคิวว่างค่ะ สะดวกช่วงเช้าหรือช่วงบ่ายคะ"
                sessions[n] = sessions[n].with_turn(f"t{turn}", at_ms=at_ms, customer_text=words, reply=reply)
    finally:
        await llm.close()
        await api.stop()
    return cached / tokens, tokens // (CUSTOMERS * TURNS)


def _request(prompt: Prompt, messages: tuple[Message, ...]) -> LlmRequest:
    takes = load_prices().capabilities(MODEL)
    return LlmRequest(
        model=MODEL,
        messages=messages,
        max_tokens=600,
        schema_name=prompt.schema_name,
        schema=prompt.schema,
        reasoning_effort=takes.reasoning_effort,
        output_limit=takes.output_limit,
        cache_key=prompt.cache_key,
    )


async def rows() -> list[Row]:
    share, tokens = await cached_share(PERSONA)
    other, _ = await cached_share(PERSONA, changing_first)
    tiny, tiny_tokens = await cached_share(TINY)
    listed, listed_tokens = await cached_share(PERSONA, prices=PRICES)
    return [
        Row(
            f"cached share of input tokens, persona of {len(PERSONA):,} characters",
            f"{share:.2f} ({tokens:,} tokens a turn)",
            f"≥ {TARGET:g}",
            f"changing part first {other:.2f}",
            share >= TARGET,
        ),
        Row(
            f"the same with a list of {LISTED} prices",
            f"{listed:.2f} ({listed_tokens:,} tokens a turn)",
            f"≥ {TARGET_LISTED:g}",
            "",
            listed >= TARGET_LISTED,
        ),
        Row(
            f"the same, persona of {len(TINY)} characters", f"{tiny:.2f} ({tiny_tokens:,} tokens a turn)", ""
        ),
    ]
