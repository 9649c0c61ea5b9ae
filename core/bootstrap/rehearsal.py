"""A rehearsal's parts: the turn, composed as for production, and nobody on the far side but the model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from core.adapters.file_secrets import FileSecrets
from core.adapters.sqlite_documents import SqliteDocuments
from core.adapters.system_clock import SystemClock
from core.bootstrap import shared
from core.bootstrap.turn import Ports, answering, models, provider_slots
from core.domain.settings import Settings
from core.ports.documents import Create, Document
from core.ports.slots import Slots
from core.usecases.clinics.price_list import PriceList
from core.usecases.rehearse.judge import Judge
from core.usecases.rehearse.nobody import Alone, FreeSlots, NothingSent, Unnamed, Unqueued, Unsent
from core.usecases.rehearse.purse import PaidLlm, Purse
from core.usecases.rehearse.run import Rehearsal
from core.usecases.rehearse.spare_slots import SpareSlots


@asynccontextmanager
async def rehearsal(
    settings: Settings,
    budget_micro_baht: int,
    *,
    given: Sequence[Document] = (),
    beside_customers: bool = False,
) -> AsyncIterator[Rehearsal]:
    """`given`: documents that a deployment's turns would find besides the clinics. `beside_customers`: calls
    are made in the slots that no customer needs."""
    clock = SystemClock()
    async with AsyncExitStack() as opened:
        folder = Path(opened.enter_context(TemporaryDirectory(prefix="fairlane-rehearsal-")))
        documents, secrets = (
            SqliteDocuments(str(folder / "documents.db")),
            FileSecrets(str(folder / "secrets")),
        )
        provided = models(settings, clock)
        slots = _spare_slots(settings, clock, opened) if beside_customers else FreeSlots()
        for part in (documents, secrets, provided, slots):
            opened.push_async_callback(part.close)
        for document in given:
            await documents.commit([Create(document.key, document.data)])
        prices, purse = await PriceList(documents, clock).current(), Purse(budget_micro_baht)
        llm = PaidLlm(provided, purse, prices, clock, settings.thb_per_usd)
        nothing = NothingSent()
        ports = Ports(
            documents=documents,
            secrets=secrets,
            line=Unsent(),
            content=nothing,
            pictures=nothing,
            llm=llm,
            transcriber=nothing,
            slots=slots,
            mailbox=Alone(),
            tasks=Unqueued(),
            names=Unnamed(),
            clock=clock,
        )
        judge = Judge(llm, prices, clock, timeout_s=max(settings.llm_attempt_timeouts_s))
        answer = answering(settings, ports).answer
        yield Rehearsal(documents, secrets, answer, judge, purse, clock, settings.budget_timezone)


def _spare_slots(settings: Settings, clock: SystemClock, opened: AsyncExitStack) -> Slots:
    redis = shared.redis(settings)
    opened.push_async_callback(redis.aclose)
    return SpareSlots(provider_slots(settings, redis, clock), clock)
