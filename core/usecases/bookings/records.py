"""The documents of bookings."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from core.domain import booking
from core.domain.booking import Booking
from core.domain.errors import InvalidInputError
from core.domain.event import Conversation
from core.domain.outcome import Counts, difference
from core.ports.clock import Clock
from core.ports.documents import ConflictError, Document, DocumentStore, Key, Merge, Where
from core.usecases.journal.stats import counting

MAX_TRIES = 20


class NoSuchBookingError(InvalidInputError):
    def __init__(self, booking_id: str) -> None:
        super().__init__(f"ID {booking_id!r}: no such booking; `fairlane bookings list` shows them")


def booking_key(booking_id: str) -> Key:
    return Key(booking.COLLECTION, booking_id)


def booking_from(document: Document) -> Booking:
    return Booking.decode(document.key.id, document.data)


def booked_chat_key(org_id: str, chat_id: str) -> Key:
    return Key(booking.CHATS, f"{org_id}:{chat_id}")


def changes_of(before: Booking, after: Booking) -> dict[str, object]:
    """The fields that differ, as the document holds them."""
    known, data = before.encode(), after.encode()
    return {name: value for name, value in data.items() if known[name] != value}


class BookingRecords:
    """Methods raise DocumentsUnavailableError."""

    def __init__(self, documents: DocumentStore, clock: Clock) -> None:
        self._documents = documents
        self._clock = clock

    async def get(self, booking_id: str) -> Booking:
        """Raises NoSuchBookingError."""
        (document,) = await self._documents.get_many([booking_key(booking_id)])
        if document is None:
            raise NoSuchBookingError(booking_id)
        return booking_from(document)

    async def change(self, booking_id: str, change: Callable[[Booking], Booking]) -> tuple[Booking, Booking]:
        """Before and after; nothing is written if that is the same. Raises NoSuchBookingError, and
        ConflictError if it changes each time."""
        key = booking_key(booking_id)
        for _ in range(MAX_TRIES):
            (document,) = await self._documents.get_many([key])
            if document is None:
                raise NoSuchBookingError(booking_id)
            before = booking_from(document)
            after = change(before)
            if after == before:
                return before, after
            try:
                changed = Merge(key, changes_of(before, after), if_version=document.version)
                await self._documents.commit([changed, *counting(*_counted(before, after))])
            except ConflictError:  # somebody else decided: look again
                await self._clock.sleep(random.uniform(0.005, 0.05))
            else:
                return before, after
        raise ConflictError(f"booking {booking_id} keeps changing: try again")

    async def all(self, org_id: str | None = None) -> list[Booking]:
        """The first to begin first."""
        where = [Where("org_id", "==", org_id)] if org_id else []
        return _in_order(await self._documents.query(booking.COLLECTION, where))

    async def in_chat(self, conversation: Conversation) -> list[Document]:
        """What was asked for there; nothing, as a rule, where there is no `booked_chat_key`."""
        where = [Where("org_id", "==", conversation.org_id), Where("chat_id", "==", conversation.chat_id)]
        return await self._documents.query(booking.COLLECTION, where)

    async def of_customer(self, customer: Conversation) -> list[Document]:
        """What was asked for in the customer's chat, and in groups by the customer."""
        org = Where("org_id", "==", customer.org_id)
        theirs = Where("chat_id", "==", customer.chat_id), Where("user_id", "==", customer.chat_id)
        found = [d for where in theirs for d in await self._documents.query(booking.COLLECTION, [org, where])]
        return list({document.key: document for document in found}.values())


def _counted(before: Booking, after: Booking) -> tuple[str, dict[str, Counts]]:
    known, counts = before.counts, after.counts
    days = {*known, *counts}
    return after.org_id, {day: difference(known.get(day, {}), counts.get(day, {})) for day in days}


def _in_order(documents: Sequence[Document]) -> list[Booking]:
    return sorted(map(booking_from, documents), key=lambda b: (b.starts_ms, b.id))
