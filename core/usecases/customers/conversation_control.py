"""Hand a conversation over to people, and take it back, at the clinic's staff's word."""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.domain import memory
from core.domain.clinic import Clinic
from core.domain.errors import InvalidInputError
from core.domain.event import Conversation
from core.domain.handoff import HOUR_MS
from core.domain.memory import CustomerMemory
from core.domain.messages import reply_messages, retry_key
from core.domain.texts import text
from core.ports import log
from core.ports.clock import Clock
from core.ports.documents import DocumentStore, Where
from core.ports.line import ChannelCredentials, Line
from core.usecases.customers.memory_changes import MemoryChanges


@dataclass(frozen=True, slots=True)
class Handoff:
    """A conversation that people answer until `until_ms`."""

    org_id: str
    chat_id: str
    until_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """How to tell the customer that the bot is back."""

    line: Line
    channel: ChannelCredentials


async def list_handoffs(documents: DocumentStore, now_ms: int, org_id: str | None = None) -> list[Handoff]:
    """Those that last, the first to end first."""
    where = [Where("handoff_until_ms", ">", now_ms)]
    found = await documents.query(memory.COLLECTION, where, order_by="handoff_until_ms")
    handoffs = []
    for document in found:
        org, _, chat = document.key.id.partition(":")
        known = CustomerMemory.decode(document.data, now_ms)
        if known.handoff_until_ms is not None and org_id in {None, org}:
            handoffs.append(Handoff(org, chat, known.handoff_until_ms, known.handoff_reason))
    return handoffs


def chat_id(user: str) -> str:
    """As LINE writes ids of customers, groups and rooms; raises InvalidInputError."""
    if not re.fullmatch(r"[UCR][0-9a-f]{32}", user):
        raise InvalidInputError(f"USER {user!r}: expected U, C or R and 32 hex digits, as LINE's ids are")
    return user


class ConversationControl:
    def __init__(self, documents: DocumentStore, clock: Clock) -> None:
        self._memories = MemoryChanges(documents, clock)
        self._clock = clock

    async def pause(
        self, clinic: Clinic, chat_id: str, hours: float | None = None, *, by: str = ""
    ) -> Handoff:
        """Silence from the next message on, for `hours` (the clinic's own if None); again: from now on. `by`:
        who of the staff has the chat now, if that is known."""
        reason = f"staff: {by}" if by else "staff"
        until_ms = self._clock.now_ms() + round((hours or clinic.handoff.hours) * HOUR_MS)
        await self._memories.change(
            _customer(clinic, chat_id), clinic.retention, lambda known: known.handed_off(until_ms, reason)
        )
        log.warning("handoff.started", org=clinic.org_id, chat=chat_id, by="staff")
        return Handoff(clinic.org_id, chat_id, until_ms, reason)

    async def resume(self, clinic: Clinic, chat_id: str, notice: Notice | None = None) -> bool:
        """The bot speaks again; False if it did already. Raises LineError, LineUnavailableError if the
        customer can't be told: then nothing has changed, and it can be repeated."""
        customer = _customer(clinic, chat_id)
        known = await self._memories.read(customer)
        if not known.in_handoff(self._clock.now_ms()):
            return False
        if notice:
            await self._tell(clinic, chat_id, known, notice)
        now_ms = self._clock.now_ms()
        await self._memories.change(customer, clinic.retention, lambda known: known.resumed(now_ms))
        log.info("handoff.ended", org=clinic.org_id, chat=chat_id, by="staff")
        return True

    async def _tell(self, clinic: Clinic, chat_id: str, known: CustomerMemory, notice: Notice) -> None:
        # One retry key a hand-off: whoever repeats the command does not tell the customer twice.
        ended = retry_key(f"handoff-ended/{clinic.org_id}/{chat_id}/{known.handoff_until_ms}")
        messages = reply_messages(text(clinic, "handoff_ended"))
        await notice.line.push(notice.channel, chat_id, messages, retry_key=ended)


def _customer(clinic: Clinic, chat_id: str) -> Conversation:
    return Conversation(clinic.org_id, "line", chat_id)
