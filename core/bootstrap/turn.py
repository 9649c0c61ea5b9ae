"""The turn function's parts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from core.adapters.line_content import LineContent
from core.adapters.line_messaging import LineMessagingApi
from core.adapters.openai_llm import OpenAiLlm
from core.adapters.openai_transcriber import OpenAiTranscriber
from core.adapters.pillow_pictures import PillowPictures
from core.adapters.redis_connection import Redis
from core.adapters.redis_line_tokens import RedisLineTokens
from core.adapters.redis_mailbox import RedisMailbox
from core.adapters.redis_names import RedisNames
from core.adapters.redis_reachability import answers_within
from core.adapters.redis_slots import RedisSlots
from core.adapters.redis_slots_scripts import SlotOptions
from core.adapters.system_clock import CorrectedClock
from core.bootstrap import shared
from core.domain.booking import Step
from core.domain.notice import Action
from core.domain.providers import Provider
from core.domain.settings import Settings
from core.domain.task import EffectKind
from core.ports import log
from core.ports.clock import Clock
from core.ports.content import Content
from core.ports.documents import DocumentStore
from core.ports.line import Line
from core.ports.llm import Llm
from core.ports.mailbox import Mailbox
from core.ports.names import NameCache
from core.ports.pictures import Pictures
from core.ports.secrets import SecretStore
from core.ports.slots import Slots
from core.ports.tasks import TaskQueue
from core.ports.transcriber import Transcriber
from core.usecases.bookings.records import BookingRecords
from core.usecases.clinics.directory import ClinicDirectory
from core.usecases.clinics.price_list import PriceList
from core.usecases.customers.asked_questions import AskedQuestions
from core.usecases.customers.memory_changes import MemoryChanges
from core.usecases.desk.bookings import TapBooking
from core.usecases.desk.chat import DeskChat, TapHandler
from core.usecases.desk.hand_offs import TapHandOff
from core.usecases.desk.names import Names
from core.usecases.effects.push_notice import PushNotice
from core.usecases.effects.run_effect import Executor, RunEffect
from core.usecases.effects.tell_customer import TellCustomer
from core.usecases.journal.journal import Journal
from core.usecases.outbox.outbox import Outbox
from core.usecases.turn.answer import Answer, AnswerPolicy
from core.usecases.turn.by_provider import LlmByProvider, SlotsByProvider
from core.usecases.turn.delivery import Delivery
from core.usecases.turn.give_up import GiveUp
from core.usecases.turn.hold import Holds
from core.usecases.turn.lead import RunPolicy, RunTurn
from core.usecases.turn.line_delivery import LineDelivery
from core.usecases.turn.listen import Listen
from core.usecases.turn.load import LoadTurn
from core.usecases.turn.media import Media
from core.usecases.turn.model import AskModel, RetryPolicy
from core.usecases.turn.paced_slots import PacedSlots
from core.usecases.turn.read_marks import ReadMarks

_REDIS_WAIT_S = 60.0
_WITH_ANOTHER: Mapping[str, int] = {
    "probe_ms": 5_000,
    "circuit_attempts": 5,
    "circuit_window_ms": 10_000,
}
"""While turns can go to another provider, an open circuit costs little: it opens sooner, and is tried often.
With calls that hang, 20 attempts could be a minute in which all slots wait for nothing."""


async def wait_for_redis(settings: Settings) -> None:
    """A turn that begins without Redis is refused with 503, which slows the whole queue: a new instance waits
    until its network leads there, for a minute at most, and says so if it does not."""
    began = time.monotonic()
    reached = await answers_within(settings.redis_url, settings.redis_ca_cert, _REDIS_WAIT_S)
    waited_ms = round(1000 * (time.monotonic() - began))
    (log.info if reached else log.warning)("process.redis_awaited", reached=reached, waited_ms=waited_ms)


@dataclass(frozen=True, slots=True)
class TurnParts:
    """What does the queue's tasks: turns, and the effects that they cause."""

    turns: RunTurn
    effects: RunEffect

    async def drain(self) -> None:
        """An effect is short, and whoever finds one half done goes on with it."""
        await self.turns.drain()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a turn is answered through. A rehearsal (core.bootstrap.rehearsal) has others of them."""

    documents: DocumentStore
    secrets: SecretStore
    line: Line
    content: Content
    pictures: Pictures
    llm: Llm
    transcriber: Transcriber
    slots: Slots
    mailbox: Mailbox
    tasks: TaskQueue
    names: NameCache
    clock: Clock


@dataclass(frozen=True, slots=True)
class Answering:
    """A turn from what waits to its delivery, and what effects and giving up share with it."""

    answer: Answer
    directory: ClinicDirectory
    line_delivery: LineDelivery
    names: Names
    outbox: Outbox
    give_up: GiveUp
    marks: ReadMarks


def build(settings: Settings) -> TurnParts:
    clock = CorrectedClock()
    documents, redis, tasks = shared.documents(settings), shared.redis(settings), shared.tasks(settings)
    pace, backlog = shared.pace(settings), shared.backlog(settings, redis)
    slots = PacedSlots(
        provider_slots(settings, redis, clock),
        backlog,
        tasks,
        clock,
        at_once=pace.at_once,
        hold_ms=pace.hold_ms,
    )
    lease_ms = round(settings.slot_lease_s * 1000)
    mailbox = RedisMailbox(redis, lease_ms=lease_ms, session_ttl_s=settings.session_ttl_s)
    line = LineMessagingApi(settings.line_api_base_url, RedisLineTokens(redis), clock=clock)
    ports = Ports(
        documents=documents,
        secrets=shared.secrets(settings),
        line=line,
        content=LineContent(settings.line_data_url, line.bearer, clock),
        pictures=PillowPictures(),
        llm=models(settings, clock),
        transcriber=OpenAiTranscriber(
            settings.providers.first.api_key, clock, settings.providers.first.base_url
        ),
        slots=slots,
        mailbox=mailbox,
        tasks=tasks,
        names=RedisNames(redis),
        clock=clock,
    )
    parts = answering(settings, ports)
    policy = RunPolicy(lease_s=settings.slot_lease_s, patience_s=settings.patience_s)
    directory, line_delivery, names = parts.directory, parts.line_delivery, parts.names
    executors: dict[str, Executor] = {
        EffectKind.NOTICE: PushNotice(
            documents, directory, line_delivery, names, clock, settings.budget_timezone
        ),
        EffectKind.BOOKING_ANSWER: TellCustomer(Step.ANSWER, documents, directory, line_delivery, clock),
        EffectKind.BOOKING_REMINDER: TellCustomer(Step.REMINDER, documents, directory, line_delivery, clock),
    }
    return TurnParts(
        RunTurn(mailbox, tasks, slots, backlog, parts.answer, parts.give_up, clock, parts.marks, policy),
        RunEffect(executors, parts.outbox, clock),
    )


def answering(settings: Settings, ports: Ports) -> Answering:
    documents, line, clock = ports.documents, ports.line, ports.clock
    journal = Journal(documents, clock)
    directory = ClinicDirectory(documents, ports.secrets, clock)
    prices = PriceList(documents, clock)
    marks = ReadMarks(line)
    line_delivery = LineDelivery(line, clock)
    delivery = Delivery(line_delivery, line, journal, ports.mailbox, clock, marks)
    outbox = Outbox(ports.tasks, clock)
    give_up = GiveUp(directory, journal, delivery, outbox, clock, settings.budget_timezone)
    names, hand_offs = Names(line, ports.names), TapHandOff(documents, clock)
    bookings = TapBooking(documents, outbox, clock)
    taps: dict[Action, TapHandler] = {
        Action.TAKE: hand_offs,
        Action.RESUME: hand_offs,
        Action.CONFIRM: bookings,
        Action.DECLINE: bookings,
    }
    retry = RetryPolicy(
        attempt_timeouts_s=settings.llm_attempt_timeouts_s,
        deadline_s=settings.llm_deadline_s,
        backoff_s=settings.llm_backoff_s,
        jitter_s=settings.llm_jitter_s,
        slot_wait_s=settings.slot_wait_s,
    )
    answer = Answer(
        LoadTurn(
            directory,
            journal,
            MemoryChanges(documents, clock),
            AskedQuestions(documents),
            BookingRecords(documents, clock),
            clock,
            settings.budget_timezone,
        ),
        journal,
        Holds(
            journal,
            prices,
            clock,
            thb_per_usd=settings.thb_per_usd,
            timezone=settings.budget_timezone,
            providers=settings.providers,
            transcribe_model=settings.transcribe_model,
        ),
        AskModel(ports.llm, ports.slots, clock, retry),
        Media(ports.content, ports.pictures, prices, clock, transcribe_model=settings.transcribe_model),
        Listen(ports.transcriber, ports.slots, clock, retry, settings.transcribe_model),
        delivery,
        DeskChat(documents, names, outbox, taps, clock),
        outbox,
        give_up,
        clock,
        AnswerPolicy(settings.patience_s, settings.session_ttl_s),
    )
    return Answering(answer, directory, line_delivery, names, outbox, give_up, marks)


def models(settings: Settings, clock: Clock) -> Llm:
    """Of all providers."""
    providers = settings.providers
    return LlmByProvider(
        providers, {each.name: OpenAiLlm(each.api_key, clock, each.base_url) for each in providers.all}
    )


def provider_slots(settings: Settings, redis: Redis, clock: Clock) -> Slots:
    providers = settings.providers
    return SlotsByProvider(
        providers,
        {each.name: RedisSlots(redis, slot_options(settings, each), clock) for each in providers.all},
    )


def slot_options(settings: Settings, provider: Provider | None = None) -> SlotOptions:
    """The first provider's, if none is named."""
    provider = provider or settings.providers.first
    longest_attempt_ms = round(max(settings.llm_attempt_timeouts_s) * 1000)
    return SlotOptions(
        max_hold_ms=max(SlotOptions().max_hold_ms, 2 * longest_attempt_ms),
        global_limit=provider.max_concurrent or settings.chat_max_concurrent,
        per_org_limit=settings.chat_max_concurrent_per_org,
        lease_ms=round(settings.slot_lease_s * 1000),
        org_room=settings.org_room,
        requests_per_minute=provider.requests_per_minute,
        tokens_per_minute=provider.tokens_per_minute,
        provider=provider.name,
        adaptive=settings.llm_adaptive,
        **(_WITH_ANOTHER if len(settings.providers.all) > 1 else {}),
    )
