"""A clinic's days as its turns leave them in the store: written by the journal, without a model."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from core.domain.booking import STAFF, Booking, BookingState
from core.domain.budget import budget_day
from core.domain.clinic import BudgetPolicy, Clinic
from core.domain.event import EventKind
from core.domain.outcome import Outcome
from core.domain.questions import Missing, question_id
from core.domain.stages import Stage
from core.domain.turn import TurnEvent, TurnRecord, TurnState
from core.ports.documents import Create, DocumentStore, Key
from core.usecases.bookings.records import BookingRecords, booking_key
from core.usecases.clinics.documents import org_document
from core.usecases.journal.books import Books, day_key
from core.usecases.journal.journal import Journal
from core.usecases.turn.effects import counted
from tests.support.budget_worker import ORG, Worker, chooser, some_usage
from tests.support.clock import FakeClock

BANGKOK = ZoneInfo("Asia/Bangkok")
POLICY = BudgetPolicy(Decimal(100))
QUESTIONS = ("มีที่จอดรถไหมคะ", "รับบัตรเครดิตไหมคะ", "เด็กสามขวบทำฟันได้ไหมคะ", "จัดฟันผ่อนได้กี่เดือนคะ")
SERVICES = ("ขูดหินปูน", "ฟอกสีฟัน", "จัดฟัน", "อุดฟัน")


@dataclass(frozen=True, slots=True)
class Plan:
    """One turn: when, how many seconds its customer waits, and what comes of it. `stage` "": a fixed text."""

    turn_id: str
    at: datetime
    wait_s: float = 3.0
    outcome: Outcome = field(default_factory=Outcome)
    service: str = ""
    question: str = ""
    how: str = "reply"
    confirms: bool = False


class BusyDays:
    def __init__(self, documents: DocumentStore, seed: int = 1) -> None:
        self.clock = FakeClock()
        self.rng = random.Random(seed)
        self._documents = documents
        self._journal = Journal(documents, self.clock)
        self._bookings = BookingRecords(documents, self.clock)

    async def clinic(self, name: str = "บางกอกสไมล์ ทันตกรรม") -> None:
        clinic = Clinic(ORG, name, "U-bot", "1650000001")
        await self._documents.commit([Create(Key("orgs", ORG), org_document(clinic))])

    async def run(self, plan: Plan) -> None:
        arrived_ms = round(plan.at.timestamp() * 1000)
        draft = self._draft(plan, arrived_ms)
        self.clock._now_ms = arrived_ms + round(plan.wait_s * 1000)
        stored = await (self._by_model(plan, draft) if plan.outcome.stage else self._fixed(draft))
        learnt = {"stage": plan.outcome.stage, "service": plan.service}
        ended = replace(stored.record, state=TurnState.DELIVERED, delivered_how=plan.how)
        ended = replace(ended, updates={name: value for name, value in learnt.items() if value})
        await self._journal.update(stored, replace(ended, delivered_ms=self.clock.now_ms()))
        if plan.confirms:
            await self._bookings.change(plan.turn_id, self._confirmed)

    def _draft(self, plan: Plan, arrived_ms: int) -> TurnRecord:
        event = TurnEvent(
            plan.turn_id, EventKind.TEXT, "…", arrived_ms, arrived_ms, f"m-{plan.turn_id}", "U1"
        )
        return TurnRecord(
            plan.turn_id,
            ORG,
            "line",
            "U1",
            "user",
            TurnState.DRAFT,
            (event,),
            arrived_ms,
            user_id="U1",
            fence=1,
            outcome=replace(plan.outcome, hour=plan.at.hour),
            question_id=question_id(plan.question) if plan.question else None,
        )

    async def _fixed(self, draft: TurnRecord) -> Any:
        ready = replace(draft, state=TurnState.ANSWERED, reply="ค่ะ", answered_ms=self.clock.now_ms())
        books = Books.of(day_key(ORG, self._day), None)
        ready = ready.with_money(decision="none", reason="sticker")
        return await self._journal.answer(ready, [draft.id], None, books)

    async def _by_model(self, plan: Plan, draft: TurnRecord) -> Any:
        worker = Worker(self._documents, self.clock, POLICY)
        loaded = await self._journal.load(ORG, self._day, draft.id, [draft.id])
        stored = await self._journal.reserve(draft, [draft.id], loaded, chooser(POLICY))
        settled = await worker.settle(stored, some_usage(self.rng))
        if plan.question:
            asked = counted(draft, Missing("ทั่วไป", plan.question), self.clock.now_ms())
            await self._documents.commit(asked.writes(None))
        if plan.outcome.booked:
            await self._documents.commit([Create(booking_key(draft.id), self._booking(plan).encode())])
        return settled

    def _booking(self, plan: Plan) -> Booking:
        day = f"{plan.at + timedelta(days=3):%Y-%m-%d}"
        return Booking(
            plan.turn_id, ORG, "U1", "U1", plan.service, day, "14:00", "Asia/Bangkok", self.clock.now_ms()
        )

    def _confirmed(self, booking: Booking) -> Booking:
        return booking.decided(BookingState.CONFIRMED, STAFF, self.clock.now_ms())

    @property
    def _day(self) -> str:
        return budget_day(self.clock.now_ms(), "Asia/Bangkok")


def conversation(days: BusyDays, name: str, at: datetime) -> list[Plan]:
    """A customer's way from a greeting to an appointment, or as far as it goes."""
    rng, service = days.rng, days.rng.choice(SERVICES)
    ways = ((Stage.DISCOVERING,), (Stage.ADVISING,), (Stage.ADVISING, Stage.BOOKING, Stage.DONE))
    stages = rng.choices(ways, (2, 5, 4))[0]
    plans = []
    for place, stage in enumerate(stages):
        booked = stage is Stage.DONE and rng.random() < 0.8
        outcome = Outcome(
            opens=place == 0,
            stage=stage.value,
            moved=True,
            booked=booked,
            handed_off=stage is Stage.ADVISING and rng.random() < 0.1,
        )
        plans.append(
            Plan(
                f"{name}-{place}",
                at + timedelta(minutes=2 * place),
                wait_s=rng.lognormvariate(1.2, 0.6),
                outcome=outcome,
                service=service if stage is not Stage.DISCOVERING else "",
                question=rng.choice(QUESTIONS) if rng.random() < 0.15 else "",
                how="push" if rng.random() < 0.05 else "reply",
                confirms=booked and rng.random() < 0.8,
            )
        )
    if rng.random() < 0.3:
        plans.append(Plan(f"{name}-s", at + timedelta(minutes=9), wait_s=0.2))
    return plans
