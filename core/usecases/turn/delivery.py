"""Give a stored reply to LINE, and write down how that ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from core.domain.desk import DESK
from core.domain.event import TOKEN_FRESH_MS, Conversation
from core.domain.messages import reply_messages
from core.domain.turn import TurnRecord, TurnState
from core.ports import log
from core.ports.clock import Clock
from core.ports.line import ChannelCredentials, Line
from core.ports.mailbox import Mailbox
from core.usecases.journal.entries import Stored, TurnMovedError
from core.usecases.journal.journal import Journal
from core.usecases.journal.notices import noticing_failure
from core.usecases.turn.line_delivery import NONE, REPLY, Delivered, DeliveryRequest, LineDelivery
from core.usecases.turn.read_marks import ReadMarks

ANNOUNCED_FROM_MS = TOKEN_FRESH_MS - 30_000
"""The age of a token from which its use is announced: three leases before it is not fresh any more."""
LOADING_S = 60
"""How long LINE shows the animation if no message ends it before (LINE's longest)."""


class Delivery:
    def __init__(
        self,
        line_delivery: LineDelivery,
        line: Line,
        journal: Journal,
        mailbox: Mailbox,
        clock: Clock,
        marks: ReadMarks | None = None,
    ) -> None:
        self._line_delivery = line_delivery
        self._mailbox = mailbox
        self._line = line
        self._marks = marks or ReadMarks(line)
        self._journal = journal
        self._clock = clock

    def marked(self, channel: ChannelCredentials, record: TurnRecord, *, leads: bool = True) -> TurnRecord:
        """The turn with the mark that is stored with its reply: how LINE may have accepted it from now on.

        A token that will not be fresh any more for whoever finds the turn after a crash can't tell whether it
        was used: then the mailbox does. `leads` False: the writer has no lease to say it with.
        """
        request = self._request(channel, record)
        old = leads and request.route == REPLY and request.token_age_ms >= ANNOUNCED_FROM_MS
        return replace(record, delivering=request.route if record.reply else None, announced=old)

    async def may_have_called(self, record: TurnRecord) -> str | None:
        """How the turn's leader may have reached LINE; None: it has not."""
        if record.delivering == REPLY and record.announced:
            conversation = Conversation(record.org_id, record.channel, record.chat_id)
            if not await self._mailbox.may_have_called(conversation, record.id, record.fence):
                return None
        return record.delivering

    async def __call__(
        self,
        channel: ChannelCredentials,
        stored: Stored,
        *,
        called_before: str | None = None,
        has_desk: bool = False,
    ) -> Stored:
        """LineDelivery and record; a turn with a `failure` ends as failed, any other as delivered.
        `called_before`: how an earlier run of the turn may have called LINE already. `has_desk`: staff are
        told of a failure.

        Raises LineUnavailableError when it must be tried again: the stored reply is what is then delivered.
        TurnMovedError, RedisUnavailableError before LINE was called: it is somebody else's, or unsaid.
        """
        if not stored.record.reply:
            return await self._record(stored, Delivered("none"), has_desk=has_desk)

        async def mark(how: str | None) -> None:
            nonlocal stored
            stored = await self._journal.update(stored, replace(stored.record, delivering=how))

        request = self._request(channel, stored.record, called_before)
        if request.route != stored.record.delivering:  # the token may have aged since the reply was stored
            await mark(request.route)
        if request.route == REPLY and stored.record.announced:
            await self._tell_mailbox(stored.record)
        delivered = await self._line_delivery(request, mark)
        if delivered.how != NONE and stored.record.read_token:
            self._marks.begin(channel, stored.record.read_token)
        return await self._record(stored, delivered, has_desk=has_desk)

    async def _tell_mailbox(self, record: TurnRecord) -> None:
        conversation = Conversation(record.org_id, record.channel, record.chat_id)
        if not await self._mailbox.renew(conversation, record.fence, calling=record.id):
            raise TurnMovedError(f"turn {record.id} has another leader")

    def _request(
        self, channel: ChannelCredentials, record: TurnRecord, called_before: str | None = None
    ) -> DeliveryRequest:
        return DeliveryRequest(
            channel=channel,
            chat_id=record.chat_id,
            reply_token=record.reply_token,
            token_age_ms=self._clock.now_ms() - record.token_arrived_ms,
            messages=reply_messages(record.reply, record.quick_replies, record.postbacks, record.quote_token),
            turn_id=record.id,
            called_before=called_before,
            push_allowed=record.push_allowed,
        )

    async def _record(self, stored: Stored, delivered: Delivered, *, has_desk: bool) -> Stored:
        record, now_ms = stored.record, self._clock.now_ms()
        failure = record.failure or delivered.failure
        ended = replace(
            record,
            state=TurnState.FAILED if failure else TurnState.DELIVERED,
            failure=failure,
            delivered_how=delivered.how,
            presumed=delivered.presumed,
            line_message_ids=delivered.message_ids,
            delivered_ms=now_ms,
            reply="" if record.money.reason == DESK else record.reply,
        )
        ended, also = noticing_failure(ended, now_ms, has_desk=has_desk)
        written = await self._journal.update(stored, ended, also)
        self._announce(written.record, delivered)
        return written

    def _announce(self, record: TurnRecord, delivered: Delivered) -> None:
        money = record.money
        log.info(
            "turn.done",
            outcome=record.state.value,
            reason=record.failure,
            how=delivered.how,
            model=money.model or None,
            cost_micro_baht=money.cost_micro_baht,
            attempts=record.attempts,
            waited_ms=record.waited_ms,
            messages=len(record.events) + record.overflow,
            duration_ms=(record.delivered_ms or 0) - min((e.arrived_ms for e in record.events), default=0),
        )
        if record.failure and record.failure != "budget":
            log.error("turn.failed", reason=record.failure)

    @asynccontextmanager
    async def showing(
        self, channel: ChannelCredentials, record: TurnRecord
    ) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Yields what starts LINE's loading animation, which must neither delay a turn nor outlive it."""
        started: set[asyncio.Task[None]] = set()

        async def show() -> None:
            if record.chat_type == "user" and not started:
                calling = self._line.show_loading(channel, record.chat_id, LOADING_S)
                started.add(asyncio.ensure_future(calling))

        try:
            yield show
        finally:
            for task in started:
                task.cancel()
