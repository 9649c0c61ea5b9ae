"""What was decided about a booking, and its reminder, go to the customer by one push each.

The retry key follows from booking and step: LINE accepts one, however often it is tried. What is not due any
more when its task comes (cancelled, told already, begun) is not sent.
"""

from __future__ import annotations

from core.domain.booking import SENT, Booking, Step
from core.domain.booking_words import for_customer
from core.domain.errors import ChannelUnavailableError
from core.domain.messages import reply_messages
from core.domain.task import EffectTask
from core.domain.turn import UNDELIVERABLE
from core.ports import log
from core.ports.clock import Clock
from core.ports.documents import DocumentStore
from core.ports.line import LineFault
from core.usecases.bookings.records import BookingRecords, NoSuchBookingError
from core.usecases.clinics.directory import ClinicDirectory
from core.usecases.turn.line_delivery import DeliveryRequest, LineDelivery

_CHANNEL_PAUSE_MS, _MAX_CHANNEL_PAUSE_MS = 5_000, 600_000
_QUOTA_PAUSE_MS = 3_600_000


class TellCustomer:
    def __init__(
        self,
        step: Step,
        documents: DocumentStore,
        directory: ClinicDirectory,
        deliver: LineDelivery,
        clock: Clock,
    ) -> None:
        self._step = step
        self._records = BookingRecords(documents, clock)
        self._directory = directory
        self._deliver = deliver
        self._clock = clock

    async def __call__(self, task: EffectTask) -> int | None:
        """See core.usecases.effects.run_effect."""
        try:
            booking = await self._records.get(task.id)
        except NoSuchBookingError:
            booking = None
        if booking is None or booking.org_id != task.org_id:
            log.warning("booking.unknown", id=task.id)
            return None
        if not booking.due(self._step, self._clock.now_ms()):
            log.info("booking.nothing_due", id=booking.id, step=self._step.value, state=booking.state.value)
            return None
        found = await self._directory.by_org(booking.org_id)
        if found is None:
            await self._end(booking.id, "failed: no_clinic")
            return None
        clinic, channel = found
        request = DeliveryRequest(
            channel=channel,
            chat_id=booking.chat_id,
            messages=reply_messages(for_customer(clinic, booking, self._step)),
            turn_id=f"booking/{booking.id}/{self._step.value}",
        )
        try:
            delivered = await self._deliver(request, _no_mark)
        except ChannelUnavailableError as exc:
            pause_ms = max(exc.retry_after_ms or 0, self._pause_ms(booking))
            return await self._later(booking, pause_ms, "channel_unavailable")
        if delivered.failure == f"{UNDELIVERABLE}: {LineFault.QUOTA}":
            return await self._later(booking, _QUOTA_PAUSE_MS, "quota")
        await self._end(booking.id, f"failed: {delivered.failure}" if delivered.failure else SENT)
        return None

    async def give_up(self, task: EffectTask, reason: str) -> None:
        """See core.usecases.effects.run_effect."""
        try:
            await self._end(task.id, f"failed: {reason}")
        except NoSuchBookingError:
            log.warning("booking.unknown", id=task.id)

    def _pause_ms(self, booking: Booking) -> int:
        """Ever longer, since each try is one of the queue's dispatches."""
        since_ms = booking.decided_ms if self._step is Step.ANSWER else booking.remind_ms
        age_ms = self._clock.now_ms() - (since_ms or booking.created_ms)
        return min(_CHANNEL_PAUSE_MS + max(0, age_ms) // 4, _MAX_CHANNEL_PAUSE_MS)

    async def _later(self, booking: Booking, pause_ms: int, reason: str) -> int | None:
        """Until it begins: then it is no news any more."""
        again_ms = self._clock.now_ms() + pause_ms
        if again_ms < booking.starts_ms:
            log.warning("booking.kept", id=booking.id, step=self._step.value, reason=reason)
            return again_ms
        await self._end(booking.id, f"failed: {reason}")
        return None

    async def _end(self, booking_id: str, how: str) -> None:
        step, now_ms = self._step, self._clock.now_ms()

        def end(current: Booking) -> Booking:
            return current if step in current.told else current.as_told(step, how, now_ms)

        await self._records.change(booking_id, end)
        (log.info if how == SENT else log.error)("booking.told", id=booking_id, step=step.value, how=how)


async def _no_mark(_: str | None) -> None:
    """A push has its retry key: nothing needs to be known of an earlier try."""
