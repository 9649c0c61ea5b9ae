"""Take a conversation over, and give it back to the bot, by a tap under its notice."""

from __future__ import annotations

from dataclasses import replace

from core.domain.clinic import Clinic
from core.domain.notice import Action, Notice, Tap
from core.domain.notice_message import by, customer
from core.domain.texts import desk_text
from core.ports.clock import Clock
from core.ports.documents import DocumentStore
from core.usecases.customers.conversation_control import ConversationControl
from core.usecases.desk.records import DeskRecords


class TapHandOff:
    def __init__(self, documents: DocumentStore, clock: Clock) -> None:
        self._records = DeskRecords(documents, clock)
        self._control = ConversationControl(documents, clock)

    async def __call__(self, clinic: Clinic, notice: Notice, action: Action, tap: Tap) -> str:
        """See TapHandler. What was given back is not taken any more: a new hand-off has a new notice."""

        def first(current: Notice) -> Notice:
            if current.taps.keys() & {action.value, Action.RESUME.value}:
                return current
            return replace(current.tapped(action, tap), is_open=action is Action.TAKE)

        after = await self._records.change_notice(notice.id, first) or notice
        done = Action.RESUME if Action.RESUME in after.taps else Action.TAKE
        was_first = after.taps[done]
        mine = after.taps.get(action)
        if mine is not None and mine.event_id == tap.event_id:
            await self._do(clinic, after, action, mine)
            return _said(clinic, after, f"{action.value}_done", mine)
        return _said(clinic, after, f"{done.value}_before", was_first)

    async def _do(self, clinic: Clinic, notice: Notice, action: Action, tap: Tap) -> None:
        """Again if need be: for the same tap it ends the same way."""
        if action is Action.RESUME:
            await self._control.resume(clinic, notice.chat_id)
        elif Action.RESUME not in notice.taps:
            await self._control.pause(clinic, notice.chat_id, by=tap.by)


def _said(clinic: Clinic, notice: Notice, key: str, tap: Tap) -> str:
    return desk_text(clinic, key, by=by(clinic, tap.by), name=customer(clinic, notice))
