"""What the model understood of a customer's wish for an appointment, and what of it holds.

The model only reports: whether the day lies ahead, whether it can be read and whether the clinic is open then
is checked here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from core.domain.booking import Booking
from core.domain.hours import OpeningHours
from core.domain.messages import one_line
from core.domain.moment import Moment
from core.domain.plain_text import plain
from core.domain.unicode import well_formed
from core.domain.visible import is_damaged, looks_empty

_SHORT, _LONG = 100, 300  # characters that are kept
_FARTHEST = timedelta(days=400)
_DATE, _TIME = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII), re.compile(r"([01]\d|2[0-3]):[0-5]\d", re.ASCII)


class WishAction(StrEnum):
    REQUEST = "request"
    CHANGE = "change"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class BookingWish:
    """ "" for what is not known. All of it is on one line and can be shown."""

    action: WishAction
    service: str = ""
    date: str = ""
    time: str = ""
    name: str = ""
    phone: str = ""
    note: str = ""


def read_wish(value: Any) -> BookingWish | None:
    """Of the model's answer; None if there is none, or none that can be read."""
    if not isinstance(value, dict) or value.get("action") not in list(WishAction):
        return None
    texts = {name: _text(value.get(name)) for name in ("service", "date", "time", "name", "phone", "note")}
    return BookingWish(WishAction(value["action"]), **texts)


def _text(value: Any) -> str:
    if not isinstance(value, str) or is_damaged(value):
        return ""
    line = one_line(plain(well_formed(value)))
    return "" if looks_empty(line) else line


def starts_of(wish: BookingWish, moment: Moment) -> datetime | None:
    """When it begins, where the clinic is; None unless day and time can be read and lie ahead, and within
    about a year."""
    if not (_DATE.fullmatch(wish.date) and _TIME.fullmatch(wish.time)):
        return None
    try:
        starts = datetime.fromisoformat(f"{wish.date}T{wish.time}").replace(tzinfo=ZoneInfo(moment.timezone))
    except ValueError:
        return None
    return starts if moment.local < starts < moment.local + _FARTHEST else None


def booking_of(
    wish: BookingWish,
    before: Booking | None,
    hours: OpeningHours,
    moment: Moment,
    *,
    turn_id: str,
    org_id: str,
    user_id: str,
    chat_id: str,
) -> Booking | None:
    """The appointment that is wished, in place of `before`; what the wish leaves open is as it was there.
    None unless it names a service, and a day and time that hold."""
    starts = starts_of(wish, moment)

    def known(name: str, most: int) -> str:
        said: str = getattr(wish, name) or (getattr(before, name) if before else "")
        return said[:most]

    service = known("service", _SHORT)
    if starts is None or not service:
        return None
    return Booking(
        id=turn_id,
        org_id=org_id,
        user_id=user_id,
        chat_id=chat_id,
        date=wish.date,
        time=wish.time,
        timezone=moment.timezone,
        created_ms=moment.now_ms,
        replaces=before.id if before else "",
        outside_hours=not hours.is_open(starts),
        service=service,
        name=known("name", _SHORT),
        phone=known("phone", _SHORT),
        note=known("note", _LONG),
    )


def meant(wish: BookingWish, standing: Sequence[Booking]) -> Booking | None:
    """Which of the customer's bookings that stand a change or cancel is about: the only one, or the only one
    that the wish describes. None: it can't be told."""
    if wish.action is WishAction.CANCEL:
        described = [b for b in standing if _describes(wish, b)]
        return described[0] if len(described) == 1 else None
    if len(standing) == 1:
        return standing[0]
    same = [b for b in standing if wish.service and b.service == wish.service]
    return same[0] if len(same) == 1 else None


def _describes(wish: BookingWish, booking: Booking) -> bool:
    said: Mapping[str, str] = {"date": wish.date, "time": wish.time}
    return all(not value or value == getattr(booking, name) for name, value in said.items())


def completed(booking: Booking, wish: BookingWish) -> Booking:
    """What was said of it since is filled in; what is known stays."""
    said = {name: getattr(booking, name) or getattr(wish, name) for name in ("name", "phone", "note")}
    return replace(
        booking, name=said["name"][:_SHORT], phone=said["phone"][:_SHORT], note=said["note"][:_LONG]
    )


def same_slot(wish: BookingWish, standing: Sequence[Booking]) -> Booking | None:
    """The booking that the customer has already at that day and time: said twice, it is one."""
    return next((b for b in standing if (b.date, b.time) == (wish.date, wish.time)), None)
