"""Run cases through the turn itself, several at once, with nobody on the far side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from core.domain.clinic import BudgetPolicy, Clinic, Mode, secret_name
from core.domain.errors import UnavailableError
from core.domain.event import Conversation, EventKind, InboundEvent
from core.domain.moment import Moment
from core.domain.notice import NoticeKind
from core.domain.session import Session
from core.domain.turn import RECOVERED, UNSURE, TurnRecord, TurnState
from core.ports import log
from core.ports.clock import Clock
from core.ports.documents import Create, DocumentStore, Key
from core.ports.mailbox import Waiting
from core.ports.secrets import SecretStore
from core.ports.slots import NoSlotError
from core.usecases.clinics.documents import (
    BUDGETS,
    MODELS,
    ORGS,
    budget_document,
    model_document,
    org_document,
)
from core.usecases.journal.books import turn_key
from core.usecases.journal.entries import ContendedError
from core.usecases.rehearse.cases import Case, CaseResult, Exchange, Outcome
from core.usecases.rehearse.expectations import Ending, unmet
from core.usecases.rehearse.house_rules import broken
from core.usecases.rehearse.judge import Judge
from core.usecases.rehearse.purse import BUDGET, Purse
from core.usecases.turn.answer import Answer
from core.usecases.turn.context import Turn

_NO_BUDGET_OF_ITS_OWN = BudgetPolicy(
    daily_budget_baht=Decimal(1_000_000),
    hard_stop_enabled=False,
    model_downgrade_enabled=False,
    fallback_model=None,
)
_CHANNEL = {"channel_id": "0", "channel_secret": "rehearsal"}


class Rehearsal:
    """`documents` and `secrets`: stores of the rehearsal's own, in which `answer` finds the clinics."""

    def __init__(
        self,
        documents: DocumentStore,
        secrets: SecretStore,
        answer: Answer,
        judge: Judge,
        purse: Purse,
        clock: Clock,
        timezone: str,
    ) -> None:
        self._documents = documents
        self._secrets = secrets
        self._answer = answer
        self._judge = judge
        self._purse = purse
        self._clock = clock
        self._timezone = timezone
        self._begun = 0

    async def __call__(
        self,
        clinics: Sequence[Clinic],
        cases: Sequence[Case],
        *,
        concurrency: int,
        on_done: Callable[[CaseResult], None] = lambda _: None,
    ) -> Outcome:
        """Every case against every clinic, in this order; `concurrency` of them at once, each of which makes
        one call at a time. Once the budget has no room for a call, nothing more is begun. Raises
        UnavailableError if the slots' Redis is down."""
        for clinic in clinics:
            await self._place(clinic)
        gate = asyncio.Semaphore(concurrency)

        async def one(clinic: Clinic, case: Case) -> CaseResult | None:
            async with gate:
                with log.bound(rehearsal=True):
                    result = None if self._purse.is_used_up else await self._case(clinic, case)
            if result:
                on_done(result)
            return result

        wanted = [(clinic, case) for clinic in clinics for case in cases]
        results = await _all([one(clinic, case) for clinic, case in wanted])
        return Outcome(
            tuple(filter(None, results)),
            tuple(case.name for (_, case), found in zip(wanted, results, strict=True) if found is None),
            self._purse.budget,
            self._purse.spent,
        )

    async def _place(self, clinic: Clinic) -> None:
        """Where the turn looks for it: answering, and without a budget of its own."""
        org_id = clinic.org_id
        await self._secrets.put(secret_name(org_id), _CHANNEL)
        await self._documents.commit(
            [
                Create(Key(ORGS, org_id), org_document(replace(clinic, mode=Mode.LIVE))),
                Create(Key(MODELS, org_id), model_document(clinic.model)),
                Create(Key(BUDGETS, org_id), budget_document(_NO_BUDGET_OF_ITS_OWN)),
            ]
        )

    async def _case(self, clinic: Clinic, case: Case) -> CaseResult | None:
        """None: the budget ended it."""
        self._begun += 1
        chat = Conversation(clinic.org_id, "line", f"rehearsal-{self._begun}")
        began, session, day = self._clock.monotonic(), case.before, self._today()
        records: list[TurnRecord] = []
        failures: list[str] = []
        notes: list[str] = []
        for words in case.say:
            record, session = await self._turn(chat, session, words, len(records))
            records.append(record)
            if record.failure == BUDGET:
                return None
            where = f"turn {len(records)}: " if len(records) < len(case.say) else ""
            said = [*(e.customer_text for e in case.before.exchanges), *case.say[: len(records)]]
            failures += (f"{where}{why}" for why in _wrong(clinic, day, said, record))
            if record.guard.get("outcome") == RECOVERED:
                notes.append(f"{where}held back and asked again: {', '.join(record.guard['amounts'])}")
        exchanges = [
            Exchange(said, record.reply, record.failure)
            for said, record in zip(case.say, records, strict=True)
        ]
        last = records[-1]
        ending = Ending(
            last.reply,
            handoff=any(_causes(record, NoticeKind.HANDOFF) for record in records),
            booking=any(_causes(record, NoticeKind.BOOKING) for record in records),
            stage=session.stage,
        )
        failures += unmet(case.expect, ending)
        cost = sum(record.money.cost_micro_baht for record in records)
        if case.expect.judge and last.reply and not last.failure:
            verdict = await self._judge(clinic, case.expect.judge, exchanges)
            if verdict.why == BUDGET:
                return None
            if verdict.passed is None:
                failures.append(f"judge: no verdict ({verdict.why})")
            elif not verdict.passed:
                failures.append(f"judge: {verdict.why}")
        seconds = self._clock.monotonic() - began
        return CaseResult(clinic.org_id, case, tuple(exchanges), tuple(failures), tuple(notes), cost, seconds)

    async def _turn(
        self, chat: Conversation, session: Session, words: str, number: int
    ) -> tuple[TurnRecord, Session]:
        """As if the customer had written just now, until there is a slot for it."""
        tries = 0
        while True:
            now_ms, event_id = self._clock.now_ms(), f"{chat.chat_id}-{number}-{tries}"
            event = InboundEvent(
                event_id,
                chat.org_id,
                chat.chat_id,
                EventKind.TEXT,
                now_ms,
                now_ms,
                user_id=chat.chat_id,
                text=words,
                message_id=event_id,
                reply_token="rehearsal",  # noqa: S106  nobody takes it
            )
            try:
                answered = await self._answer(Turn(chat, 1, Waiting((event,)), session, event_id))
            except (NoSlotError, ContendedError) as exc:
                tries += 1
                await self._clock.sleep(exc.retry_after_ms / 1000)
                continue
            (document,) = await self._documents.get_many([turn_key(event_id)])
            if document is None:
                raise UnavailableError(f"the turn {event_id} left nothing in the rehearsal's journal")
            return TurnRecord.decode(event_id, document.data), answered.session

    def _today(self) -> Moment:
        return Moment(self._clock.now_ms(), self._timezone)


async def _all(work: Sequence[Coroutine[Any, Any, CaseResult | None]]) -> list[CaseResult | None]:
    """Where one breaks off, all do."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _wrong(clinic: Clinic, day: Moment, said: Sequence[str], record: TurnRecord) -> list[str]:
    """What must be in no turn, whatever its case expects."""
    if record.failure:
        return [f"no answer: {record.failure}"]
    if record.state is TurnState.IGNORED:
        return []
    wrong = list(broken(clinic, day.local.date(), said, record.reply, record.quick_replies))
    if record.guard.get("outcome") == UNSURE:
        amounts = ", ".join(record.guard["amounts"])
        wrong.append(
            f"price: named {amounts} again when asked not to; the customer reads that staff will tell"
        )
    return wrong


def _causes(record: TurnRecord, kind: NoticeKind) -> bool:
    return any(effect.id == f"{record.id}-{kind}" for effect in record.effects)
