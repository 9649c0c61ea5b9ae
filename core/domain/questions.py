"""What the clinic's own words do not answer: counted, and grouped by meaning as far as plain text allows.

This module is the one place that knows the document `questions/{org_id}:{id}`:

    org_id, count   how often it was asked, once a turn
    asked           who asked it last, by place: {turn_id, chat_id, user_id, topic, question, at_ms}
    last_ms         when it was asked last
    closed, closed_ms   `answered` or `dismissed` by the clinic, and when
    expire_at       the TTL field: as long after the last turn as turns are kept

A turn writes it without having read it, so `asked` is a map of a fixed number of places: a later asking takes
an earlier one's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from core.domain.thai_text import normalized
from core.domain.turn import RETENTION, TurnRecord

COLLECTION = "questions"
MAX_TOPIC_CHARS, MAX_QUESTION_CHARS = 60, 300
PLACES = 50
ANSWERED, DISMISSED = "answered", "dismissed"

_SAYS_NOTHING = re.compile(
    r"[\W_]|สวัสดี|ขอ(?:สอบถาม|ถาม|ทราบ|รบกวน)|อยาก(?:ทราบ|รู้)(?:ว่า)?|สอบถาม|รบกวน|ไม่ทราบว่า|ทาง?คลินิก|คลินิก|ที่นี่|ที่ร้าน"
    r"|หรือเปล่า|รึเปล่า|หรือป่าว|รึป่าว|หรือไม่|หรือยัง|ไหม|มั[้๊]?ย|ไม๊|มั๊ย|ป่าว|เปล่า|บ้าง|หน่อย|ด้วย|ได้|นะ|ค่?ะ|คะ|ครับ|คับ|ค๊ะ|จ้า|จ๊ะ|จ้ะ|เลย"
    r"|(?<![a-z])(?:please|do|does|you|the|clinic|have|is|are|there|a|an|any|can|could|i|we|your|it|at|hi|hello)(?![a-z])"
)


@dataclass(frozen=True, slots=True)
class Missing:
    """What a customer asked and the clinic's words do not answer, in the model's words."""

    topic: str
    question: str


@dataclass(frozen=True, slots=True)
class Asked:
    """Once, in one turn."""

    turn_id: str
    chat_id: str
    user_id: str
    topic: str
    question: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Question:
    """`asked`: the latest askings, oldest first, by their place."""

    org_id: str
    id: str
    count: int
    asked: Mapping[str, Asked]
    last_ms: int
    closed: str | None = None
    closed_ms: int | None = None

    @property
    def latest(self) -> Asked | None:
        return max(self.asked.values(), key=lambda asked: asked.at_ms, default=None)

    @property
    def is_open(self) -> bool:
        """An answered question that is asked again is not answered well."""
        if self.closed == ANSWERED:
            return self.last_ms > (self.closed_ms or 0) + _KNOWN_AFTER_MS
        return self.closed is None

    def left(self, keeps: Callable[[Asked], bool]) -> dict[str, Asked]:
        return {place: asked for place, asked in self.asked.items() if keeps(asked)}


_KNOWN_AFTER_MS = 120_000
"""When a new answer surely stands in every prompt: instances read a clinic once a minute, and turns wait."""


def question_id(question: str) -> str:
    """Equal for questions that differ in politeness, spelling or how a question is marked."""
    said = normalized(question)
    core = _SAYS_NOTHING.sub("", said) or said
    return hashlib.sha256(core.encode()).hexdigest()[:12]


def document_id(org_id: str, question_id: str) -> str:
    return f"{org_id}:{question_id}"


def asking(record: TurnRecord, missing: Missing, at_ms: int) -> dict[str, Any]:
    """What one turn writes, besides the count."""
    place = int(hashlib.sha256(record.id.encode()).hexdigest(), 16) % PLACES
    return {
        "org_id": record.org_id,
        "last_ms": at_ms,
        "expire_at": datetime.fromtimestamp(at_ms / 1000, UTC) + RETENTION,
        "asked": {
            f"p{place}": {
                "turn_id": record.id,
                "chat_id": record.chat_id,
                "user_id": record.user_id or "",
                "topic": missing.topic,
                "question": missing.question,
                "at_ms": at_ms,
            }
        },
    }


def question_from(document_id: str, data: Mapping[str, Any]) -> Question:
    """As it is stored; an asking that can't be read is left out."""
    org_id, _, found = document_id.rpartition(":")
    entries = data.get("asked")
    asked = {
        place: _asked(entry) for place, entry in (entries if isinstance(entries, Mapping) else {}).items()
    }
    closed, closed_ms = data.get("closed"), data.get("closed_ms")
    return Question(
        org_id=org_id,
        id=found,
        count=int(data.get("count") or 0),
        asked={place: entry for place, entry in asked.items() if entry},
        last_ms=int(data.get("last_ms") or 0),
        closed=closed if closed in {ANSWERED, DISMISSED} else None,
        closed_ms=closed_ms if isinstance(closed_ms, int) else None,
    )


def _asked(entry: Any) -> Asked | None:
    try:
        turn_id, chat_id, user_id = (str(entry[name]) for name in ("turn_id", "chat_id", "user_id"))
        return Asked(
            turn_id, chat_id, user_id, str(entry["topic"]), str(entry["question"]), int(entry["at_ms"])
        )
    except (KeyError, TypeError, ValueError):
        return None
