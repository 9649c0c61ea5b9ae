"""What is said in a desk, or with a code on the way to become one: codes, taps on our buttons, and a mention.

Everything here can be done again for the same event: a code that connected, and a tap that was first, are
recognised by the event that they came with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from core.domain import memory
from core.domain.clinic import Clinic
from core.domain.desk import Desk, tap_of
from core.domain.event import Conversation, EventKind, InboundEvent
from core.domain.memory import CustomerMemory
from core.domain.notice import NO_DESK, Action, Notice, NoticeKind, Tap
from core.domain.notice_message import open_matters
from core.domain.texts import desk_text
from core.ports import log
from core.ports.clock import Clock
from core.ports.documents import DocumentStore, Key
from core.ports.line import ChannelCredentials
from core.usecases.desk.names import Names
from core.usecases.desk.records import DeskRecords
from core.usecases.outbox.outbox import Outbox

_LEFT = frozenset({EventKind.LEAVE, EventKind.UNFOLLOW})
_STILL_NEWS_MS = 24 * 3_600_000
"""A notice that was kept for want of a desk is sent to the next one for so long."""


class TapHandler(Protocol):
    """Does what a tap asks for, once, by the use case that the operators' command has, too."""

    async def __call__(self, clinic: Clinic, notice: Notice, action: Action, tap: Tap) -> str:
        """What the desk reads then. Whose tap is first is recorded in `notice.taps`; a later one changes
        nothing and is told whose it was."""
        ...


class DeskChat:
    def __init__(
        self,
        documents: DocumentStore,
        names: Names,
        outbox: Outbox,
        handlers: Mapping[Action, TapHandler],
        clock: Clock,
    ) -> None:
        self._documents = documents
        self._records = DeskRecords(documents, clock)
        self._names = names
        self._outbox = outbox
        self._handlers = handlers
        self._clock = clock

    async def answer(
        self, clinic: Clinic, channel: ChannelCredentials, desk: Desk, events: Sequence[InboundEvent]
    ) -> str | None:
        """What is said, "" for nothing; None if these events are no business of a desk's. Raises
        UnavailableError, ConflictError."""
        said: list[str] = []
        is_desk = False
        for event in events:
            here = desk.is_connected and event.chat_id == desk.chat_id
            is_desk = is_desk or (here and event.kind != EventKind.UNFOLLOW)  # who was a customer here, too
            if here and event.kind in _LEFT:
                await self._left(clinic, event)
            elif event.kind == EventKind.TEXT and (
                desk.matches(event.text) or desk.connected_by == event.event_id
            ):
                said.append(await self._by_code(clinic, event))
            elif here and event.kind == EventKind.POSTBACK:
                said.append(await self._by_tap(clinic, channel, desk, event))
            elif here and event.mentioned:
                said.append(open_matters(clinic, await self._open(clinic)))
        if not (is_desk or said):
            return None
        return "\n".join(filter(None, dict.fromkeys(said)))

    async def _by_code(self, clinic: Clinic, event: InboundEvent) -> str:
        now_ms = self._clock.now_ms()

        def connect(desk: Desk) -> Desk:
            is_good = desk.matches(event.text) and now_ms < desk.code_expires_ms
            return desk.connected(event, now_ms) if is_good and not desk.is_connected else desk

        before, after = await self._records.change_desk(clinic.org_id, connect)
        if after.connected_by == event.event_id:
            log.warning("desk.connected", org=clinic.org_id, chat=after.chat_id, chat_type=after.chat_type)
            await self._send_what_was_kept(after)
            return desk_text(clinic, "connected")
        if before.chat_id == event.chat_id:
            return desk_text(clinic, "connected_already")
        log.warning("desk.code_refused", org=clinic.org_id, connected=before.is_connected)
        return desk_text(clinic, "elsewhere" if before.is_connected else "expired")

    async def _left(self, clinic: Clinic, event: InboundEvent) -> None:
        """Nothing can be sent there any more. An event older than the connection says nothing of it."""

        def without(desk: Desk) -> Desk:
            is_it = desk.chat_id == event.chat_id and event.timestamp_ms > (desk.connected_ms or 0)
            return desk.disconnected() if is_it else desk

        before, after = await self._records.change_desk(clinic.org_id, without)
        if before != after:
            log.warning("desk.disconnected", org=clinic.org_id, by=event.kind)

    async def _send_what_was_kept(self, desk: Desk) -> None:
        """Under names that follow from the connection."""
        oldest_ms = self._clock.now_ms() - _STILL_NEWS_MS
        kept = [n for n in await self._records.undone(desk.org_id) if n.reason == NO_DESK]
        tasks = [replace(n.task, hop=desk.connected_ms or 1) for n in kept if n.created_ms > oldest_ms]
        await self._outbox.enqueue(*tasks)

    async def _by_tap(
        self, clinic: Clinic, channel: ChannelCredentials, desk: Desk, event: InboundEvent
    ) -> str:
        """Nothing for a button that is not of a notice to this desk: whoever made up its data learns nothing
        either."""
        found = tap_of(event)
        notice = await self._records.notice(found[1]) if found else None
        if found is None or notice is None or found[0] not in notice.actions:
            return ""
        if (notice.org_id, notice.desk_chat_id) != (clinic.org_id, desk.chat_id):
            log.warning("desk.foreign_tap", org=clinic.org_id, id=notice.id)
            return ""
        name = await self._names.of(
            channel, clinic.org_id, event.user_id or "", chat_id=event.chat_id, chat_type=event.chat_type
        )
        tap = Tap(event.event_id, self._clock.now_ms(), name, event.user_id or "")
        return await self._handlers[found[0]](clinic, notice, found[0], tap)

    async def _open(self, clinic: Clinic) -> list[Notice]:
        """Without hand-offs that have ended otherwise, and the newest of a chat's alone."""
        notices = await self._records.open_notices(clinic.org_id)
        newest = {(n.kind, n.chat_id, n.id if n.kind != NoticeKind.HANDOFF else ""): n for n in notices}
        chats = sorted({n.chat_id for n in newest.values() if n.kind == NoticeKind.HANDOFF})
        keys = [Key(memory.COLLECTION, memory.document_id(_customer(clinic, chat))) for chat in chats]
        now_ms = self._clock.now_ms()
        found = zip(chats, await self._documents.get_many(keys), strict=True)
        with_people = {
            chat
            for chat, document in found
            if CustomerMemory.decode(document.data if document else None, now_ms).in_handoff(now_ms)
        }
        return [n for n in newest.values() if n.kind != NoticeKind.HANDOFF or n.chat_id in with_people]


def _customer(clinic: Clinic, chat_id: str) -> Conversation:
    return Conversation(clinic.org_id, "line", chat_id)
