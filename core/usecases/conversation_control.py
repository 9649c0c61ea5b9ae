"""Hand a conversation over to people, and take it back, at the clinic's staff's word."""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.domain import log, memory
from core.domain.clinic import Clinic
from core.domain.errors import InvalidInputError
from core.domain.event import Conversation
from core.domain.handoff import HOUR_MS
from core.domain.memory import CustomerMemory
from core.domain.messages import reply_messages, retry_key
from core.domain.texts import text
from core.ports.clock import Clock
from core.ports.documents import ConflictError, Create, DocumentStore, Key, Merge, Version, Where, Write
from core.ports.line import ChannelCredentials, Line


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
        self._documents = documents
        self._clock = clock

    async def pause(self, clinic: Clinic, chat_id: str, hours: float | None = None) -> Handoff:
        """Silence from the next message on, for `hours` (the clinic's own if None); again: from now on."""
        key = _key(clinic, chat_id)
        until_ms = self._clock.now_ms() + round((hours or clinic.handoff.hours) * HOUR_MS)

        def paused(known: CustomerMemory) -> CustomerMemory:
            return known.handed_off(until_ms, "staff")

        while True:
            known, version = await self._read(key)
            if await self._written(clinic, key, paused(known), version):
                break
        log.warning("handoff.started", org=clinic.org_id, chat=chat_id, by="staff")
        return Handoff(clinic.org_id, chat_id, until_ms, "staff")

    async def resume(self, clinic: Clinic, chat_id: str, notice: Notice | None = None) -> bool:
        """The bot speaks again; False if it did already. Raises LineError, LineUnavailableError if the
        customer can't be told: then nothing has changed, and it can be repeated."""
        key, told = _key(clinic, chat_id), False
        while True:
            known, version = await self._read(key)
            if not known.in_handoff(self._clock.now_ms()):
                return False
            if notice and not told:
                await self._tell(clinic, chat_id, known, notice)
                told = True
            if await self._written(clinic, key, known.resumed(), version):
                break
        log.info("handoff.ended", org=clinic.org_id, chat=chat_id, by="staff")
        return True

    async def _tell(self, clinic: Clinic, chat_id: str, known: CustomerMemory, notice: Notice) -> None:
        # One retry key a hand-off: whoever repeats the command does not tell the customer twice.
        ended = retry_key(f"handoff-ended/{clinic.org_id}/{chat_id}/{known.handoff_until_ms}")
        messages = reply_messages(text(clinic, "handoff_ended"))
        await notice.line.push(notice.channel, chat_id, messages, retry_key=ended)

    async def _read(self, key: Key) -> tuple[CustomerMemory, Version | None]:
        (document,) = await self._documents.get_many([key])
        known = CustomerMemory.decode(document.data if document else None, self._clock.now_ms())
        return known, document.version if document else None

    async def _written(
        self, clinic: Clinic, key: Key, known: CustomerMemory, version: Version | None
    ) -> bool:
        """False if somebody else wrote meanwhile (a turn that learnt something): read again."""
        data = known.encode(self._clock.now_ms(), clinic.retention)
        write: Write = Create(key, data) if version is None else Merge(key, data, if_version=version)
        try:
            await self._documents.commit([write])
        except ConflictError:
            return False
        return True


def _key(clinic: Clinic, chat_id: str) -> Key:
    return Key(memory.COLLECTION, memory.document_id(Conversation(clinic.org_id, "line", chat_id)))
