"""A notice goes to the clinic's desk by one push, whatever dies or is said twice.

Before LINE is called, the notice says where it goes and what the customer is called: whoever tries again says
the same under the same retry key, which follows from the notice's id, and LINE accepts one of them.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from core.domain.budget import budget_day
from core.domain.desk import Desk
from core.domain.errors import ChannelUnavailableError
from core.domain.notice import NO_DESK, NO_QUOTA, UNWANTED, Notice, NoticeKind, NoticeState
from core.domain.notice_message import notice_messages
from core.domain.task import EffectTask
from core.domain.turn import UNDELIVERABLE
from core.ports import log
from core.ports.clock import Clock
from core.ports.documents import DocumentStore
from core.ports.line import LineFault
from core.usecases.clinics.directory import ClinicDirectory, Found
from core.usecases.desk.names import Names
from core.usecases.desk.records import DeskRecords, desk_from, desk_key, notice_from
from core.usecases.journal.books import turn_key
from core.usecases.journal.entries import stored_from
from core.usecases.journal.notices import HOUR_MS, failures_id, notice_key
from core.usecases.turn.line_delivery import Delivered, DeliveryRequest, LineDelivery

_OVER = frozenset({NoticeState.SENT, NoticeState.FAILED})
_CHANNEL_PAUSE_MS = 5_000
UNDONE_MS = 5 * 60_000
"""After so long somebody is told that a notice has not been sent."""
_KEPT_PAUSES_MS = (UNDONE_MS + 1_000, 6 * 3_600_000)
"""How long a notice that is kept for the month's end waits between tries, at least and at most."""
_CHANNEL_PATIENCE_MS = 24 * 3_600_000


class PushNotice:
    def __init__(
        self,
        documents: DocumentStore,
        directory: ClinicDirectory,
        deliver: LineDelivery,
        names: Names,
        clock: Clock,
        timezone: str = "Asia/Bangkok",
    ) -> None:
        """`timezone`: where the day begins on which a push counts."""
        self._documents = documents
        self._records = DeskRecords(documents, clock)
        self._directory = directory
        self._deliver = deliver
        self._names = names
        self._clock = clock
        self._timezone = timezone

    async def __call__(self, task: EffectTask) -> int | None:
        """See core.usecases.effects.run_effect."""
        found, (document, desk_document) = await asyncio.gather(
            self._directory.by_org(task.org_id),
            self._documents.get_many([notice_key(task.id), desk_key(task.org_id)]),
        )
        notice = notice_from(document) if document else None
        if notice is None or notice.org_id != task.org_id or notice.state in _OVER:
            log.info("notice.over", id=task.id, state=notice.state.value if notice else None)
            return None
        desk = desk_from(task.org_id, desk_document)
        obstacle = _obstacle(found, notice, desk)
        if found is None or obstacle:
            await self._end(notice.id, *obstacle)
            return None
        if notice.kind == NoticeKind.FAILED and (due_ms := await self._hour_is_over_ms(notice)):
            return due_ms
        if notice.kind != NoticeKind.FAILED and self._clock.now_ms() - notice.created_ms > UNDONE_MS:
            log.error("notice.undone", id=notice.id, reason=notice.reason)
        addressed = await self._addressed(found, notice, desk.chat_id)
        return await self._push(found, addressed) if addressed else None

    async def give_up(self, task: EffectTask, reason: str) -> None:
        """See core.usecases.effects.run_effect."""
        await self._end(task.id, NoticeState.FAILED, reason)

    async def _hour_is_over_ms(self, notice: Notice) -> int | None:
        """When the clinic may be told of failures again; None: now. Once an hour, whatever the clock says."""
        hour = notice.created_ms // HOUR_MS
        before = await self._records.notice(failures_id(notice.org_id, hour - 1))
        if before is None or before.sent_ms is None:
            return None
        due_ms = before.sent_ms + HOUR_MS
        return due_ms if due_ms > self._clock.now_ms() + 1_000 else None

    async def _addressed(self, found: Found, notice: Notice, desk_chat_id: str) -> Notice | None:
        """The notice with its desk and the customer's name in it; None if it was sent meanwhile."""
        if notice.desk_chat_id == desk_chat_id:
            return notice
        name = notice.name or await self._names.of(
            found[1], notice.org_id, notice.user_id, chat_id=notice.chat_id, chat_type=notice.chat_type
        )

        def address(current: Notice) -> Notice:
            if current.state is NoticeState.SENT or current.desk_chat_id == desk_chat_id:
                return current
            return replace(current, desk_chat_id=desk_chat_id, name=name)

        addressed = await self._records.change_notice(notice.id, address)
        return addressed if addressed and addressed.state is not NoticeState.SENT else None

    async def _push(self, found: Found, notice: Notice) -> int | None:
        clinic, channel = found
        request = DeliveryRequest(
            channel=channel,
            chat_id=notice.desk_chat_id,
            messages=notice_messages(clinic, notice, await self._words(notice)),
            turn_id=f"notice/{notice.id}",
        )
        now_ms = self._clock.now_ms()
        try:
            delivered = await self._deliver(request, _no_mark)
        except ChannelUnavailableError as exc:
            if now_ms - notice.created_ms > _CHANNEL_PATIENCE_MS:
                await self._end(notice.id, NoticeState.FAILED, "channel_unavailable")
                return None
            age_ms = now_ms - notice.created_ms
            return now_ms + max(exc.retry_after_ms or 0, min(_CHANNEL_PAUSE_MS + age_ms // 4, 600_000))
        return await self._ended(notice, delivered)

    async def _words(self, notice: Notice) -> str:
        """The customer's last ones, as the turn has them: erased there, they are not said here."""
        if not notice.turn_id:
            return ""
        (document,) = await self._documents.get_many([turn_key(notice.turn_id)])
        if document is None or document.data.get("org_id") != notice.org_id:
            return ""
        texts = [event.text for event in stored_from(document).record.events if event.text]
        return texts[-1] if texts else ""

    async def _ended(self, notice: Notice, delivered: Delivered) -> int | None:
        if delivered.failure is None:
            await self._end(notice.id, NoticeState.SENT)
            log.info("notice.sent", id=notice.id, kind=notice.kind)
            return None
        reason = delivered.failure.removeprefix(f"{UNDELIVERABLE}: ")
        if reason != LineFault.QUOTA:
            await self._end(notice.id, NoticeState.FAILED, reason)
            return None
        await self._end(notice.id, NoticeState.KEPT, NO_QUOTA)
        now_ms = self._clock.now_ms()
        least, most = _KEPT_PAUSES_MS
        return now_ms + min(max(least, (now_ms - notice.created_ms) // 4), most)

    async def _end(self, notice_id: str, state: NoticeState, reason: str = "") -> None:
        now_ms = self._clock.now_ms()
        day = budget_day(now_ms, self._timezone)

        def end(current: Notice) -> Notice:
            if current.state is NoticeState.SENT:
                return current
            ended = replace(current, state=state, reason=reason)
            if state is NoticeState.SENT:
                is_open = bool(current.actions) and current.is_open
                return replace(ended, sent_ms=now_ms, sent_day=day, is_open=is_open)
            return replace(ended, is_open=False) if reason == UNWANTED else ended

        await self._records.change_notice(notice_id, end)
        if state is NoticeState.KEPT:
            log.warning("notice.kept", id=notice_id, reason=reason)
        if state is NoticeState.FAILED and reason != UNWANTED:
            log.error("notice.undone", id=notice_id, reason=reason)


def _obstacle(found: Found | None, notice: Notice, desk: Desk) -> tuple[()] | tuple[NoticeState, str]:
    """What a notice ends with that can't be sent; nothing if it can."""
    if found is None:
        return NoticeState.FAILED, "no_clinic"
    if notice.kind not in found[0].desk.notify:
        return NoticeState.FAILED, UNWANTED
    return () if desk.is_connected else (NoticeState.KEPT, NO_DESK)


async def _no_mark(_: str | None) -> None:
    """A push has its retry key: nothing needs to be known of an earlier try."""
