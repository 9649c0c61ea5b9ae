"""A booking in words: what its customer is told of it, and what the desk reads."""

from __future__ import annotations

from core.domain.booking import Booking, BookingState, Step
from core.domain.clinic import Clinic
from core.domain.spoken_days import spoken_in_full
from core.domain.texts import desk_text, text


def for_customer(clinic: Clinic, booking: Booking, step: Step) -> str:
    """Of a booking that is confirmed or declined."""
    answer = "booking_confirmed" if booking.state is BookingState.CONFIRMED else "booking_declined"
    key = "booking_reminder" if step is Step.REMINDER else answer
    return text(clinic, key, service=booking.service, when=_when(clinic, booking))


def for_desk(clinic: Clinic, booking: Booking, replaced: Booking | None = None) -> str:
    """Day and service first: a notice is cut at its end."""
    parts = [
        _when(clinic, booking),
        booking.service,
        desk_text(clinic, "booking_outside_hours") if booking.outside_hours else "",
        desk_text(clinic, "booking_instead", when=_when(clinic, replaced)) if replaced else "",
        booking.name,
        booking.phone,
        booking.note,
    ]
    return " · ".join(filter(None, parts))


def cancelled_for_desk(clinic: Clinic, booking: Booking | None) -> str:
    """The customer has cancelled `booking`; None: it can't be told which."""
    if booking is None:
        return desk_text(clinic, "booking_cancel_asked")
    details = f"{_when(clinic, booking)} · {booking.service}"
    return desk_text(clinic, "booking_cancelled", details=details)


def _when(clinic: Clinic, booking: Booking) -> str:
    return spoken_in_full(booking.starts, clinic.language)
