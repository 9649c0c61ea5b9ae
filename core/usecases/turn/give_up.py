"""End as failed what can't be answered: it stands in the journal, and an operator can replay it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from core.domain.budget import budget_day
from core.domain.errors import FairlaneError, UnavailableError
from core.domain.event import InboundEvent
from core.domain.texts import text
from core.domain.turn import DELIVERY_UNKNOWN, UNDELIVERABLE, TurnRecord, TurnState
from core.ports import log
from core.ports.clock import Clock
from core.ports.line import ChannelCredentials
from core.usecases.clinics.directory import ClinicDirectory
from core.usecases.desk.records import desk_from, desk_key
from core.usecases.journal.commits import Effect
from core.usecases.journal.entries import Loaded, Stored
from core.usecases.journal.journal import Journal
from core.usecases.journal.notices import noticing_failure
from core.usecases.outbox.outbox import Outbox
from core.usecases.turn.context import record_of
from core.usecases.turn.delivery import Delivery
from core.usecases.turn.line_delivery import REPLY


class GiveUp:
    def __init__(
        self,
        directory: ClinicDirectory,
        journal: Journal,
        delivery: Delivery,
        outbox: Outbox,
        clock: Clock,
        timezone: str,
    ) -> None:
        """`timezone`: where a budget's day begins."""
        self._directory = directory
        self._journal = journal
        self._delivery = delivery
        self._outbox = outbox
        self._clock = clock
        self._timezone = timezone

    async def __call__(self, event: InboundEvent, trace: str, reason: str) -> None:
        """End the turn that owns the event, or record one that never began.

        A turn that holds money for a call is charged with it, and its customer gets the busy message. A reply
        that is stored stays so, undelivered for all that is known. Of an event without a turn nobody knows
        whether it was to be answered: nothing is sent.

        Raises UnavailableError, and TurnMovedError if somebody else goes on with the turn.
        """
        loaded = await self._load(event.org_id, event.event_id, [event.event_id])
        stored = loaded.turns.get(loaded.claims.get(event.event_id, event.event_id))
        if stored is None:
            log.error("turn.failed", reason=reason, turn=event.event_id)
            record = record_of(event.event_id, event.conversation, [event], self._clock.now_ms())
            await self._record(replace(record, failure=reason, trace=trace), loaded)
        elif stored.record.state.final:
            await self._outbox.enqueue(*stored.record.effects)
        else:
            with log.bound(turn=stored.record.id):
                await self._end(stored, loaded, reason)

    async def record_malformed(self, body: bytes, reason: str) -> None:
        """A task that is none of ours, among the failed turns: its words are not kept, its digest is. Raises
        as above."""
        record = TurnRecord(
            id=f"malformed-{hashlib.sha256(body).hexdigest()[:32]}",
            org_id="",
            channel="",
            chat_id="",
            chat_type="user",
            state=TurnState.FAILED,
            events=(),
            created_ms=self._clock.now_ms(),
            failure=f"malformed: {reason}",
        )
        await self._record(record, await self._load(record.org_id, record.id, ()))

    async def _record(self, failed: TurnRecord, loaded: Loaded) -> None:
        """Unless the journal has it."""
        if not (loaded.claims or loaded.turns):
            failed = replace(failed, state=TurnState.FAILED)
            failed, also = noticing_failure(failed, self._clock.now_ms(), has_desk=_has_desk(loaded))
            await self._journal.answer(failed, failed.event_ids, None, loaded.books, also)
            await self._outbox.enqueue(*failed.effects)

    async def _end(self, stored: Stored, loaded: Loaded, reason: str) -> None:
        # The fence keeps out a leader that is not dead but paused.
        record = replace(stored.record, fence=stored.record.fence + 1)
        now_ms = self._clock.now_ms()
        if record.state is TurnState.RESERVED and (ready := await self._busy(record, reason)):
            channel, busy = ready
            busy_stored = await self._store(busy, stored, loaded)
            ended = await self._delivery(channel, busy_stored, has_desk=_has_desk(loaded))
            await self._outbox.enqueue(*ended.record.effects)
            return
        called = await self._delivery.may_have_called(stored.record) if record.reply else None
        failure = record.failure or _undelivered(record, reason, called)
        failed = replace(record, state=TurnState.FAILED, failure=failure, delivered_ms=now_ms)
        log.error("turn.failed", reason=failure, cause=reason)
        failed, also = noticing_failure(failed, now_ms, has_desk=_has_desk(loaded))
        await self._store(failed, stored, loaded, also)
        await self._outbox.enqueue(*failed.effects)

    async def _store(
        self, ended: TurnRecord, stored: Stored, loaded: Loaded, also: Sequence[Effect] = ()
    ) -> Stored:
        """With the clinic's books. If these are the defect, without: the turn must end all the same, and its
        hold is charged when it has run out."""
        try:
            return await self._journal.answer(ended, (), stored, loaded.books, also)
        except FairlaneError:
            raise
        except Exception as exc:
            log.error("turn.defect", exc=exc, reason=type(exc).__name__)
            return await self._journal.update(stored, ended, also)

    async def _busy(self, record: TurnRecord, reason: str) -> tuple[ChannelCredentials, TurnRecord] | None:
        """The turn with the busy message; None if there can't be one. What it is made of may be the defect,
        and the turn must end all the same."""
        try:
            if (found := await self._directory.by_org(record.org_id)) is None:
                return None
            clinic, channel = found
            now_ms, words = self._clock.now_ms(), text(clinic, "busy")
            busy = replace(record, state=TurnState.ANSWERED, reply=words, failure=reason, answered_ms=now_ms)
            return channel, self._delivery.marked(channel, busy, leads=False)
        except UnavailableError:
            raise
        except Exception as exc:
            log.error("turn.defect", exc=exc, reason=type(exc).__name__)
            return None

    async def _load(self, org_id: str, turn_id: str, event_ids: Sequence[str]) -> Loaded:
        day = budget_day(self._clock.now_ms(), self._timezone)
        return await self._journal.load(org_id, day, turn_id, event_ids, [desk_key(org_id)] if org_id else [])


def _has_desk(loaded: Loaded) -> bool:
    return any(desk_from("", document).is_connected for document in loaded.also)


def _undelivered(record: TurnRecord, reason: str, called: str | None) -> str:
    if not record.reply:
        return reason
    return DELIVERY_UNKNOWN if called == REPLY else f"{UNDELIVERABLE}: {reason}"
