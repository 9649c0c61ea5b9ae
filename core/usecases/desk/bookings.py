"""Confirm and decline a booking by a tap under its notice."""

from __future__ import annotations

from dataclasses import replace

from core.domain.booking import CUSTOMER, STAFF, Booking, BookingState
from core.domain.clinic import Clinic
from core.domain.notice import Action, Notice, Tap
from core.domain.notice_message import by, customer
from core.domain.texts import desk_text
from core.ports.clock import Clock
from core.ports.documents import DocumentStore
from core.usecases.bookings.decide import DecideBooking
from core.usecases.bookings.records import NoSuchBookingError
from core.usecases.desk.records import DeskRecords
from core.usecases.outbox.outbox import Outbox

_STATES = {Action.CONFIRM: BookingState.CONFIRMED, Action.DECLINE: BookingState.DECLINED}


class TapBooking:
    def __init__(self, documents: DocumentStore, outbox: Outbox, clock: Clock) -> None:
        self._decide = DecideBooking(documents, outbox, clock)
        self._records = DeskRecords(documents, clock)

    async def __call__(self, clinic: Clinic, notice: Notice, action: Action, tap: Tap) -> str:
        """See TapHandler. The booking itself says who was first: a command or the customer may have been."""
        try:
            decision = await self._decide(clinic, notice.turn_id, _STATES[action], tap.by, tap.event_id)
        except NoSuchBookingError:
            return desk_text(clinic, "gone")

        def dealt_with(current: Notice) -> Notice:
            tapped = current.tapped(action, tap) if decision.is_ours and not current.taps else current
            return replace(tapped, is_open=False)

        after = await self._records.change_notice(notice.id, dealt_with) or notice
        done = "done" if decision.is_ours else "before"
        key = f"booking_{decision.booking.state.value}_{done}"
        return desk_text(clinic, key, by=_by(clinic, decision.booking), name=customer(clinic, after))


def _by(clinic: Clinic, booking: Booking) -> str:
    if booking.decided_by == CUSTOMER:
        return desk_text(clinic, "customer")
    return by(clinic, "" if booking.decided_by == STAFF else booking.decided_by)
