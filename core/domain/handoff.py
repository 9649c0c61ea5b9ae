"""Handing a conversation over to people: when a customer asks for them, and until when the bot is silent.

While it is, it says one thing: whoever writes that something is urgent is told the emergency number.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.clinic import Clinic
from core.domain.event import TOKEN_FRESH_MS, EventKind, InboundEvent
from core.domain.keywords import first_found
from core.domain.memory import CustomerMemory
from core.domain.texts import urgent_words

HOUR_MS = 3_600_000


def asked_for_people(clinic: Clinic, texts: Iterable[str]) -> str | None:
    """The clinic's keyword that one of the customer's texts contains, if any."""
    return first_found(clinic.handoff.keywords, texts)


def until_ms(clinic: Clinic, now_ms: int) -> int:
    """When the bot speaks again if nobody resumes it before."""
    return now_ms + clinic.handoff.hours * HOUR_MS


def must_name_emergency(event: InboundEvent, memory: CustomerMemory, now_ms: int) -> bool:
    """The customer's words are urgent, and the number was not given within the last hour of the
    conversation. It costs nothing: only what can still be answered by reply token is."""
    if not _is_due(memory.urgent_ms, now_ms):
        return False
    is_free = event.reply_token is not None and now_ms - event.arrived_ms <= TOKEN_FRESH_MS
    return is_free and is_urgent(event)


def must_tell_staff(event: InboundEvent, memory: CustomerMemory, now_ms: int) -> bool:
    """The customer's words are urgent, and the conversation's staff were not told so within the last hour."""
    return _is_due(memory.urgent_told_ms, now_ms) and is_urgent(event)


def is_urgent(event: InboundEvent) -> bool:
    """By the customer's own words: a postback's data is the clinic's."""
    return event.kind != EventKind.POSTBACK and first_found(urgent_words(), [event.text]) is not None


def _is_due(last_ms: int | None, now_ms: int) -> bool:
    return last_ms is None or now_ms - last_ms >= HOUR_MS
