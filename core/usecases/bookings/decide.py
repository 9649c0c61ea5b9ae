"""Confirm, decline or cancel a booking, by a tap in the desk or an operator's command: the first one wins."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.domain.booking import Booking, BookingState, Step
from core.domain.clinic import Clinic
from core.domain.task import EffectKind, EffectTask
from core.ports import log
from core.ports.clock import Clock
from core.ports.documents import DocumentStore
from core.usecases.bookings.records import BookingRecords, NoSuchBookingError
from core.usecases.outbox.outbox import Outbox

_KINDS = {Step.ANSWER: EffectKind.BOOKING_ANSWER, Step.REMINDER: EffectKind.BOOKING_REMINDER}


@dataclass(frozen=True, slots=True)
class Decision:
    """`is_ours`: this decided it, now or when it was made before."""

    booking: Booking
    is_ours: bool


def tasks_of(booking: Booking, now_ms: int) -> list[EffectTask]:
    """What the customer is still to be told; their names make one task of each, however often it is asked."""
    due = {Step.ANSWER: 0, Step.REMINDER: booking.remind_ms or 0}
    return [
        EffectTask(_KINDS[step], booking.org_id, booking.id, due_ms=due_ms)
        for step, due_ms in due.items()
        if booking.due(step, now_ms)
    ]


class DecideBooking:
    def __init__(self, documents: DocumentStore, outbox: Outbox, clock: Clock) -> None:
        self._records = BookingRecords(documents, clock)
        self._outbox = outbox
        self._clock = clock

    async def __call__(
        self, clinic: Clinic, booking_id: str, state: BookingState, by: str, decision_id: str
    ) -> Decision:
        """The customer is told by tasks of their own, which are created also where it was decided before: who
        decided may have died in between. `decision_id` recognises a decision that is made twice.

        Raises NoSuchBookingError, UnavailableError, ConflictError.
        """

        def decide(current: Booking) -> Booking:
            if current.org_id != clinic.org_id:
                raise NoSuchBookingError(booking_id)
            now_ms = self._clock.now_ms()
            decided = current.decided(state, by, now_ms, clinic.bookings.remind_hours)
            return decided if decided == current else replace(decided, decision_id=decision_id)

        before, after = await self._records.change(booking_id, decide)
        if after != before:
            log.info("booking.decided", org=clinic.org_id, id=booking_id, state=state.value)
        await self._outbox.enqueue(*tasks_of(after, self._clock.now_ms()))
        is_ours = after.state is state and after.decision_id == decision_id
        return Decision(after, is_ours)
