"""Insights and statements read the same from both document stores, by queries that Firestore takes."""

from __future__ import annotations

from datetime import datetime, timedelta

from core.ports.documents import DocumentStore
from core.usecases.operate.insights import ReadInsights
from core.usecases.operate.statement import Statements
from tests.support.budget_worker import ORG
from tests.support.busy_days import BANGKOK, BusyDays, conversation
from tests.support.recount import charged_by_day, miscounted

FIRST = datetime(2026, 10, 31, 10, tzinfo=BANGKOK)


async def test_days_of_real_turns_are_read_as_they_were_written(documents: DocumentStore) -> None:
    days = BusyDays(documents, seed=3)
    await days.clinic()
    plans = [p for day in range(3) for p in conversation(days, f"d{day}", FIRST + timedelta(days=day))]
    for plan in plans:
        await days.run(plan)
    assert await miscounted(documents, ORG) == ""
    reader = ReadInsights(documents, days.clock, "Asia/Bangkok")
    one = await reader.of_clinic(ORG, "20261031", "20261101")
    whole, (clinic,) = await reader.of_all("20261031", "20261101")
    assert one.counts == whole.counts == clinic.counts
    assert one.count("turns") == sum(plan.at < FIRST + timedelta(days=1, hours=12) for plan in plans)
    assert one.count("conversations") == 2
    services = [p.service for p in plans if p.service and p.at < FIRST + timedelta(days=1, hours=12)]
    assert sum(turns for _, turns in one.asked) == len(services)
    charged = await charged_by_day(documents, ORG)
    statements = Statements(documents, days.clock, "Asia/Bangkok")
    october, november = await statements(ORG, "2026-10"), await statements(ORG, "2026-11")
    assert october.closes
    assert november.closes
    assert october.charged_micro_baht == charged.get("20261031", 0)
    assert november.charged_micro_baht == sum(charged.values()) - october.charged_micro_baht
