"""Acknowledge a webhook once every event of it that needs an answer is durably enqueued."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from core.domain.clinic import Clinic
from core.domain.errors import (
    FairlaneError,
    RedisUnavailableError,
    TasksUnavailableError,
    TooManyUnknownError,
)
from core.domain.event import InboundEvent
from core.domain.event_kinds import asks_model
from core.domain.gathering import gather_ms
from core.domain.line_events import NotAWebhookError, Webhook, destination_of, read_webhook
from core.domain.settings import default
from core.domain.signature import is_signed
from core.domain.task import TurnTask
from core.ports import log
from core.ports.clock import Clock
from core.ports.line import ChannelCredentials
from core.ports.shaper import Arrival, Shaper
from core.ports.tasks import TaskQueue
from core.usecases.webhook.refusals import Refusals


class ClinicsByDestination(Protocol):
    """Raises FairlaneError when neither the cache nor the stores know."""

    async def by_destination(self, bot_user_id: str) -> tuple[Clinic, ChannelCredentials] | None: ...

    async def by_destination_anew(self, bot_user_id: str) -> tuple[Clinic, ChannelCredentials] | None:
        """As far as that may be asked: see core.usecases.clinics.directory."""
        ...


@dataclass(frozen=True, slots=True)
class AckPolicy:
    """`org_per_minute`: for clinics without a limit of their own. `ack_s`: the whole acknowledgement (LINE
    waits 2 s). `first_attempt_s`: how long the queue has to take a task before it is asked again; the second
    attempt has the rest of the time, less `spare_s` to say how it ended. `in_flight`: attempts at once, a
    request."""

    org_per_minute: int = default("ORG_MESSAGES_PER_MINUTE")
    ack_s: float = 1.8
    first_attempt_s: float = 0.7
    spare_s: float = 0.05
    in_flight: int = 32


class Outcome(StrEnum):
    """What became of a webhook. In doubt LINE shall deliver it again: the tasks' names de-duplicate what was
    enqueued already."""

    ENQUEUED = "enqueued"
    NOT_A_WEBHOOK = "not_a_webhook"
    UNKNOWN_DESTINATION = "unknown_destination"
    TOO_MANY_UNKNOWN = "too_many_unknown"
    WRONG_SIGNATURE = "wrong_signature"
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True, slots=True)
class Ack:
    """`detail`: a word of explanation for whoever debugs a channel's settings."""

    outcome: Outcome
    detail: str = ""


class AckWebhook:
    def __init__(
        self,
        clinics: ClinicsByDestination,
        shaper: Shaper,
        tasks: TaskQueue,
        clock: Clock,
        policy: AckPolicy | None = None,
    ) -> None:
        self._clinics = clinics
        self._shaper = shaper
        self._tasks = tasks
        self._clock = clock
        self._policy = policy or AckPolicy()
        self._refusals = Refusals(clock)

    async def __call__(self, raw: bytes, signature: str | None, trace: str) -> Ack:
        """`raw`: the body as it was signed. Never takes longer than the policy's `ack_s`."""
        reached: dict[str, Any] = {"stage": "clinic"}
        self._refusals.report()
        try:
            async with asyncio.timeout(self._policy.ack_s):
                return await self._ack(raw, signature, trace, reached)
        except NotAWebhookError as exc:
            return self._refused(Outcome.NOT_A_WEBHOOK, str(exc), trace, reached.get("org"))
        except TooManyUnknownError as exc:
            return self._refused(Outcome.TOO_MANY_UNKNOWN, str(exc), trace)
        except (FairlaneError, TimeoutError) as exc:
            detail = str(exc) or f"no answer within {self._policy.ack_s:g} s"
            log.error(
                "webhook.enqueue_failed", trace=trace, reason=type(exc).__name__, detail=detail, **reached
            )
            return Ack(Outcome.IN_DOUBT, "try again")

    async def _ack(self, raw: bytes, signature: str | None, trace: str, reached: dict[str, Any]) -> Ack:
        """`reached`: what a log of a failure says: the stage it happened in, and whose request it was."""
        started = self._clock.monotonic()
        destination = reached["destination"] = destination_of(raw)
        clinic, signed = None, False
        if destination:
            clinic, signed = await self._clinic(destination, raw, signature)
        if clinic is None:
            return self._refused(
                Outcome.UNKNOWN_DESTINATION, "no clinic has this destination", trace, destination=destination
            )
        reached["org"] = clinic.org_id
        if not signed:
            return self._refused(
                Outcome.WRONG_SIGNATURE, "the signature is wrong or missing", trace, clinic.org_id
            )
        webhook = read_webhook(raw)
        if webhook.destination != destination:
            raise NotAWebhookError("`destination` stands in it twice")
        reached["stage"] = "enqueue"
        return await self._accept(webhook, clinic, trace, started)

    async def _clinic(
        self, destination: str, raw: bytes, signature: str | None
    ) -> tuple[Clinic | None, bool]:
        """Whose destination it is, and whether the body bears its signature."""
        found = await self._clinics.by_destination(destination)
        signed = found is not None and is_signed(found[1].channel_secret, raw, signature)
        if found and signature and not signed:
            # Perhaps by a secret that was reissued since the clinic was read.
            found = await self._clinics.by_destination_anew(destination)
            signed = found is not None and is_signed(found[1].channel_secret, raw, signature)
        return found[0] if found else None, signed

    async def _accept(self, webhook: Webhook, clinic: Clinic, trace: str, started: float) -> Ack:
        def lost(source: Any) -> None:
            shown = ascii(source)[:100]  # JSON can carry what no log can
            log.warning("webhook.skipped", trace=trace, org=clinic.org_id, reason="source_id", source=shown)

        events = webhook.events(clinic.org_id, self._clock.now_ms(), lost, name=clinic.name)
        delays_ms, now_ms = await self._shape(events, clinic, trace)
        created = await self._enqueue(
            [
                TurnTask(event if now_ms is None else replace(event, arrived_ms=now_ms), trace)
                for event in events
            ],
            delays_ms,
            started,
        )
        log.info(
            "webhook.acked",
            trace=trace,
            org=clinic.org_id,
            events=webhook.size,
            enqueued=sum(created),
            duplicates=len(created) - sum(created),
            delay_ms=max(delays_ms, default=0),
            ms=round((self._clock.monotonic() - started) * 1000, 1),
        )
        return Ack(Outcome.ENQUEUED)

    async def _shape(
        self, events: Sequence[InboundEvent], clinic: Clinic, trace: str
    ) -> tuple[list[int], int | None]:
        """A delay for each event, and Redis' clock; from now on the events have their places in their
        conversations. Without Redis: no clock, no places, and no delay but an unfinished message's own.

        Only what costs an LLM turn counts: a sticker must not make the next question wait.
        """
        if not events:
            return [], None
        rate = clinic.limits.messages_per_minute or self._policy.org_per_minute
        arrivals = [
            Arrival(event, rate if _costs_a_turn(event, clinic) else 0, gather_ms(event, clinic.gather_s))
            for event in events
        ]
        try:
            shaped = await self._shaper.shape(arrivals)
        except RedisUnavailableError as exc:
            log.warning("shaper.failed_open", trace=trace, org=clinic.org_id, detail=str(exc))
            return [arrival.gather_ms or 0 for arrival in arrivals], None
        return shaped.delays_ms, shaped.now_ms

    async def _enqueue(
        self, tasks: Sequence[TurnTask], delays_ms: Sequence[int], started: float
    ) -> list[bool]:
        """All at once; whether each was new. One that fails does not keep the others from being enqueued."""
        deadline = started + self._policy.ack_s - self._policy.spare_s
        if len(tasks) == 1:
            return [await self._create(tasks[0], delays_ms[0], deadline)]
        room = asyncio.Semaphore(self._policy.in_flight)

        async def create(task: TurnTask, delay_ms: int) -> bool:
            async with room:
                return await self._create(task, delay_ms, deadline)

        results = await asyncio.gather(*map(create, tasks, delays_ms), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result is True for result in results]

    async def _create(self, task: TurnTask, delay_ms: int, deadline: float) -> bool:
        """Trying again is safe, since the task has a name. `deadline`: monotonic seconds."""

        async def attempt(longest_s: float) -> bool:
            left_s = max(0.0, deadline - self._clock.monotonic())
            return await self._tasks.create(task, delay_ms=delay_ms, timeout_s=min(left_s, longest_s))

        try:
            return await attempt(self._policy.first_attempt_s)
        except TasksUnavailableError as exc:
            if self._clock.monotonic() >= deadline:
                raise
            log.warning(
                "webhook.enqueue_retried", trace=task.trace, event_id=task.event.event_id, detail=str(exc)
            )
        return await attempt(self._policy.ack_s)

    def _refused(
        self,
        outcome: Outcome,
        detail: str,
        trace: str,
        org: str | None = None,
        *,
        destination: str | None = None,
    ) -> Ack:
        self._refusals.note(outcome, detail, trace, org=org, destination=destination)
        return Ack(outcome, detail)


def _costs_a_turn(event: InboundEvent, clinic: Clinic) -> bool:
    """Whether a model answers it."""
    return asks_model(event) or clinic.media.take(event.kind)
