"""The clinics of a scenario, registered as an operator registers them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from core.adapters.system_clock import SystemClock
from core.domain.budget import budget_day
from core.domain.clinic import BudgetPolicy, Clinic, Limits
from core.domain.money import to_micro_baht
from core.local.peak.scenario import Scenario
from core.local.simulator import Clinic as LineClinic
from core.local.simulator import LineSimulator
from core.ports.documents import DocumentStore, Key
from core.ports.line import ChannelCredentials
from core.ports.secrets import SecretStore
from core.usecases.clinics.documents import budget_document, stored_number
from core.usecases.journal.books import day_key
from core.usecases.operate.apply_clinics import ApplyClinics
from core.usecases.operate.clinic_changes import Wanted, WantedClinic

TIMEZONE = "Asia/Bangkok"
_PERSONA = """คลินิกทันตกรรม พูดสุภาพ ลงท้ายด้วยค่ะ ตอบสั้นและตรงคำถาม
บริการและราคา: ตรวจฟันฟรี ขูดหินปูน 900 บาท อุดฟัน 800 บาทต่อซี่ ถอนฟัน 1,000 บาท ผ่าฟันคุด 3,500 บาท
ฟอกสีฟัน 6,500 บาท จัดฟันโลหะ 39,000 บาท จัดฟันใส 65,000 บาท รากฟันเทียม 45,000 บาท
เปิดทุกวัน 10.00–20.00 น. มีที่จอดรถหน้าคลินิก นัดล่วงหน้าอย่างน้อย 2 ชั่วโมง"""
PLENTY = Decimal(1000)
"""A day's budget in baht that no clinic of the hour spends."""
_TURN_COSTS = 0.09  # baht, about, of a turn of these prompts with the default model
_SHARES = (0.5, 0.4, 0.1, 0.7)
_LEAST = 2.0  # some calls' worst cases


@dataclass(frozen=True, slots=True)
class SmallBudget:
    baht: Decimal
    downgrade: bool

    def document(self) -> dict[str, object]:
        return {"daily_budget_baht": stored_number(self.baht), "model_downgrade_enabled": self.downgrade}


def org_id(clinic: int) -> str:
    """By size: 0 is the biggest."""
    return f"clinic-{clinic + 1:03d}"


async def register(
    scenario: Scenario,
    simulator: LineSimulator,
    documents: DocumentStore,
    secrets: SecretStore,
    budgets: Mapping[int, SmallBudget],
    outage_model: str | None = None,
) -> list[LineClinic]:
    """The clinics without a small budget have plenty."""
    clinics, wanted = [], []
    for number in range(scenario.options.clinics):
        line = simulator.clinic(org_id(number), name=f"คลินิก {number + 1}")
        channel = line.channel
        clinic = Clinic(line.org_id, line.name, channel.bot_user_id, channel.channel_id, persona=_PERSONA)
        if number == scenario.campaign_clinic:  # no rate of its own tames its campaign
            clinic = replace(clinic, limits=Limits(messages_per_minute=60_000))
        credentials = ChannelCredentials(channel.channel_id, channel.channel_secret)
        budget = budgets[number].document() if number in budgets else None
        clinics.append(line)
        wanted.append(WantedClinic(clinic, credentials, budget=budget))
    default = budget_document(BudgetPolicy(daily_budget_baht=PLENTY))
    apply = ApplyClinics(documents, secrets, SystemClock(), "peak")
    model = {"outage_model": outage_model} if outage_model else None
    await apply.apply(await apply.plan(Wanted(tuple(wanted), model=model, budget=default)))
    return clinics


def small_budgets(scenario: Scenario) -> dict[int, SmallBudget]:
    """Too small for the hour, by different amounts; every third clinic without a downgrade."""
    expected = Counter(arrival.clinic for arrival in scenario.arrivals)
    budgets = {}
    for i, number in enumerate(scenario.budgeted):
        share = _SHARES[i % len(_SHARES)]
        baht = max(_LEAST, round(share * expected[number] * _TURN_COSTS, 2))
        budgets[number] = SmallBudget(Decimal(str(baht)), downgrade=i % 3 != 1)
    return budgets


def budgets_micro_baht(budgets: Mapping[int, SmallBudget], clinics: int) -> dict[str, int]:
    """Of every clinic, by org_id."""
    return {org_id(n): to_micro_baht(budgets[n].baht if n in budgets else PLENTY) for n in range(clinics)}


def watched(budgets: Mapping[int, SmallBudget], clinics: int, now_ms: int) -> dict[Key, str]:
    """Today's books of the clinics with small budgets and of the biggest ones, by key."""
    day = budget_day(now_ms, TIMEZONE)
    return {day_key(org_id(n), day): org_id(n) for n in sorted({*budgets, *range(min(5, clinics))})}
