"""Handing a conversation over to people: when a customer asks for them, and until when the bot is silent."""

from __future__ import annotations

import re
from collections.abc import Iterable

from core.domain.clinic import Clinic
from core.domain.thai_text import normalized

HOUR_MS = 3_600_000


def asked_for_people(clinic: Clinic, texts: Iterable[str]) -> str | None:
    """The clinic's keyword that one of the customer's texts contains, if any.

    Thai writes no spaces, so a keyword may stand anywhere; one in Latin letters must be a word of its own.
    """
    said = [normalized(text) for text in texts]
    for keyword in clinic.handoff.keywords:
        wanted = normalized(keyword)
        if not wanted:
            continue
        pattern = re.escape(wanted)
        if wanted.isascii():
            pattern = rf"(?<![a-z0-9]){pattern}(?![a-z0-9])"
        if any(re.search(pattern, text) for text in said):
            return keyword
    return None


def until_ms(clinic: Clinic, now_ms: int) -> int:
    """When the bot speaks again if nobody resumes it before."""
    return now_ms + clinic.handoff.hours * HOUR_MS
