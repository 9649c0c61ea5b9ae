"""What a turn does about the wish for an appointment that the model has understood: a booking, its
cancellation, and the notice to the desk, in the commit of the reply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from core.domain.booking import CUSTOMER, Booking, BookingState
from core.domain.booking_wish import BookingWish, WishAction, booking_of, completed, meant, same_slot
from core.domain.booking_words import cancelled_for_desk, for_desk
from core.domain.notice import NoticeKind
from core.domain.turn import TurnRecord
from core.ports import log
from core.ports.documents import Create, Document, Merge, Write
from core.usecases.bookings.records import booked_chat_key, booking_from, booking_key, changes_of
from core.usecases.journal.commits import Effect
from core.usecases.journal.notices import notice_of, noticing
from core.usecases.turn.context import TurnContext

Written = tuple[TurnRecord, Sequence[Effect]]


def of_wish(context: TurnContext, record: TurnRecord, wish: BookingWish | None, now_ms: int) -> Written:
    """Nothing for a wish that does not hold: the model goes on asking."""
    if wish is None:
        return record, ()
    read = {document.key.id: document for document in context.bookings}
    standing = [b for b in map(booking_from, read.values()) if _may_be_meant(b, record, now_ms)]
    if wish.action is WishAction.CANCEL:
        return _cancelled(context, record, meant(wish, standing), read)
    if same := same_slot(wish, standing):
        after = completed(same, wish)
        return record, () if after == same else (_changing(read[same.id], lambda b: completed(b, wish)),)
    old = meant(wish, standing) if wish.action is WishAction.CHANGE else None
    booking = booking_of(
        wish,
        old,
        context.clinic.hours,
        replace(context.moment, now_ms=now_ms),
        turn_id=record.id,
        org_id=record.org_id,
        user_id=record.user_id or record.chat_id,
        chat_id=record.chat_id,
    )
    if booking is None:
        log.info("booking.incomplete", action=wish.action.value)
        return record, ()
    log.info("booking.requested", replaces=booking.replaces or None, outside_hours=booking.outside_hours)
    notice = notice_of(record, NoticeKind.BOOKING, now_ms)
    record = record.with_outcome(booked=True)
    record, told = noticing(record, replace(notice, detail=for_desk(context.clinic, booking, old)))
    return record, [
        _creating(booking, context.bookings),
        told,
        *([_cancelling(read[old.id], now_ms)] if old else []),
    ]


def _cancelled(
    context: TurnContext, record: TurnRecord, old: Booking | None, read: Mapping[str, Document]
) -> Written:
    """The desk hears of it also where it can't be told which one is meant."""
    now_ms = context.now_ms
    log.info("booking.cancelled", by=CUSTOMER, id=old.id if old else None)
    notice = notice_of(record, NoticeKind.BOOKING, now_ms)
    detail = cancelled_for_desk(context.clinic, old)
    record, told = noticing(record, replace(notice, detail=detail, has_buttons=False))
    return record, [told, *([_cancelling(read[old.id], now_ms)] if old else [])]


def _may_be_meant(booking: Booking, record: TurnRecord, now_ms: int) -> bool:
    """In a group, each member has their own."""
    is_theirs = record.chat_type == "user" or booking.user_id == record.user_id
    return booking.is_ahead(now_ms) and is_theirs


def _cancelling(document: Document, now_ms: int) -> Effect:
    """Also if it is confirmed meanwhile; if it is declined, that stays."""
    return _changing(document, lambda booking: booking.decided(BookingState.CANCELLED, CUSTOMER, now_ms))


def _creating(booking: Booking, others: Sequence[Document]) -> Effect:
    """`others`: the chat's bookings so far."""
    key, data = booking_key(booking.id), booking.encode()
    expires = max([data["expire_at"], *(other.data["expire_at"] for other in others)])
    chat = Merge(booked_chat_key(booking.org_id, booking.chat_id), {"expire_at": expires})
    return Effect(key, None, lambda found: () if found else [Create(key, data), chat])


def _changing(document: Document, change: Callable[[Booking], Booking]) -> Effect:
    def writes(found: Document | None) -> Sequence[Write]:
        if found is None:
            return ()
        before = booking_from(found)
        changes = changes_of(before, change(before))
        return [Merge(found.key, changes, if_version=found.version)] if changes else ()

    return Effect(document.key, document, writes)
