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
    told_ms = memory.urgent_ms
    if event.kind == EventKind.POSTBACK or (told_ms is not None and now_ms - told_ms < HOUR_MS):
        return False
    is_free = event.reply_token is not None and now_ms - event.arrived_ms <= TOKEN_FRESH_MS
    return is_free and first_found(urgent_words(), [event.text]) is not None
