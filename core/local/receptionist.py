"""The stand-in model as a clinic's receptionist: by rules, from nothing but the prompt that it is sent.

It greets once, answers what was asked from the clinic's own words, asks for what an appointment still lacks,
hands over, and says that it is a stand-in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from core.domain.clinic_prices import compact
from core.domain.spoken_days import spoken
from core.domain.texts import urgent_words
from core.local.receptionist_days import day_in, time_in
from core.local.receptionist_prompt import Known, read
from core.local.receptionist_words import PATTERNS, TEXTS

T = TypeVar("T")

BOOKED = "รับคำขอนัด", "I have taken your wish"
_FACTS = {
    "nickname": re.compile(r"ชื่อ(?:เล่น)?\s*(?P<value>[\u0E00-\u0E7F]+?)(?:นะคะ|ค่ะ|ครับ|คะ|\s|$)"),
    "allergy": re.compile(r"แพ้(?P<value>ยา\S+?)(?:นะคะ|ค่ะ|ครับ|\s|$)"),
}
_NAME = re.compile(
    r"(?:ชื่อ(?:เล่น)?|my name is)\s*(?P<value>[\u0E00-\u0E7FA-Za-z]+?)(?:นะคะ|ค่ะ|ครับ|คะ|[\s,.]|$)"
)
_PHONE = re.compile(r"0\d[\d -]{7,11}\d")
_ALIKE = 0.45


@dataclass(slots=True)
class _Answer:
    """What comes together for one reply."""

    parts: list[str] = field(default_factory=list)
    stage: str = "discovering"
    service: str | None = None
    facts: list[dict[str, str]] = field(default_factory=list)
    handoff: dict[str, Any] | None = None
    missing: dict[str, str] | None = None
    booking: dict[str, Any] | None = None
    quick_replies: list[str] = field(default_factory=list)


class _Receptionist:
    def __init__(self, known: Known) -> None:
        self.known = known
        self.words = known.words
        stage = str(known.state.get("stage") or "greeting")
        self.out = _Answer(stage="discovering" if stage == "greeting" else stage)
        self.item = known.item_in(self.words)

    def says(self, key: str, **values: object) -> str:
        return TEXTS["en" if self.known.is_english else "th"][key].format(**values)

    def asks(self, key: str) -> bool:
        return PATTERNS[key].search(self.words) is not None

    def answer(self) -> _Answer:
        out, is_new = self.out, not self.known.state.get("greeted", False)
        self._learn()
        if any(word in self.words.casefold() for word in urgent_words()):
            out.parts.append(self.says("urgent"))
            return out
        if self.asks("people"):
            out.handoff = {"needed": True, "reason": self.says("people_reason")}
            out.parts.append(self.says("people"))
            return out
        if is_new:
            name = self.known.memory.get("nickname")
            hello = self.says("hello_known", name=name) if name else self.says("hello")
            out.parts.append(hello)
        for part in (
            self._picture,
            self._who,
            self._medical,
            self._stated,
            self._money,
            self._hours,
            self._pain,
        ):
            if text := part():
                out.parts.append(text)
        said_so_far = len(out.parts) - is_new
        if text := self._appointment(answered=said_so_far > 0):
            out.parts.append(text)
        if len(out.parts) == is_new:
            out.parts.append(self._rest())
        out.service = self.item
        return out

    def _learn(self) -> None:
        for key, pattern in _FACTS.items():
            if found := pattern.search(self.words):
                fact = {"key": key, "value": found["value"], "because": found[0].strip()}
                self.out.facts.append(fact)
                if key == "allergy":
                    self.out.parts.append(self.says("allergy", value=found["value"]))

    def _picture(self) -> str:
        return self.says("picture") if self.known.pictures else ""

    def _who(self) -> str:
        return self.says("who") if self.asks("who") else ""

    def _medical(self) -> str:
        return self.says("medical") if self.asks("medical") else ""

    def _stated(self) -> str:
        """An approved answer, or a line of the clinic's that is about a word of the question."""
        if self._is_booking() and not self.asks("question"):
            return ""
        likest = max(self.known.answers, key=lambda q: _likeness(q, self.words), default="")
        if likest and _likeness(likest, self.words) >= _ALIKE:
            return self.known.answers[likest]
        for topic in ("จอดรถ", "ผ่อน", "สาขา", "ที่อยู่", "แผนที่", "บัตรเครดิต", "ประกันสังคม"):
            if topic in self.words:
                line = next((line for line in self.known.lines if topic in line), "")
                return self.says("line", line=line) if line else ""
        return ""

    def _money(self) -> str:
        if not (self.asks("price") or (self.item and not self._is_booking() and not self._is_about_else())):
            return ""
        self.out.stage = "advising"
        item = self.item or self._wanted_item()
        if item is None:
            listed = [f"{name} {price}" for name, price in list(self.known.prices.items())[:6]]
            return self.says("list", items=" · ".join(listed)) if listed else ""
        self.item = item
        if item not in self.known.prices:
            return self._not_stated(item)
        self.out.quick_replies = [self.says("tap_book")]
        return self.says("price", item=item, price=self.known.prices[item])

    def _hours(self) -> str:
        if not self.asks("hours") or self._is_booking():
            return ""
        hours = _readable(self.known.hours, english=self.known.is_english)
        line = hours or next((line for line in self.known.lines if "เปิด" in line), "")
        if not line:
            return ""
        now = "open" if self.known.state.get("clinic") == "open" else "closed"
        return self.says("hours", hours=line) + (self.says(now) if self.known.state.get("clinic") else "")

    def _pain(self) -> str:
        return self.says("pain") if self.asks("pain") else ""

    def _is_about_else(self) -> bool:
        return any(self.asks(key) for key in ("pain", "hours", "duration", "medical", "cancel"))

    def _is_booking(self) -> bool:
        if self.asks("booking") or self.asks("cancel"):
            return True
        going_on = self.known.state.get("stage") == "booking"
        given = day_in(self.words, self.known.now) or time_in(self.words) or _PHONE.search(self.words)
        return going_on and (bool(given) or bool(_NAME.search(self.words)) or self.item is not None)

    def _appointment(self, *, answered: bool) -> str:
        if self.asks("cancel"):
            return self._cancelled()
        if not self._is_booking():
            return ""
        out, since = self.out, self._since_booked()
        out.stage = "booking"
        said = "\n".join([*since, self.words])
        item = self.item or self._wanted_item()
        day = day_in(self.words, self.known.now) or _last(since, lambda text: day_in(text, self.known.now))
        at = time_in(self.words) or _last(since, time_in)
        self.item = item
        if item is None:
            out.quick_replies = [name for name in self.known.prices if len(name) <= 20][:4]
            return self.says("ask_service")
        if day is None:
            out.quick_replies = [self.says("tap_tomorrow"), self.says("tap_saturday")]
            return self.says("ask_day", item=item)
        if at is None:
            out.quick_replies = ["10:00", "14:00", "17:00"]
            return self.says("ask_time", item=item)
        name, phone = _NAME.search(said), _PHONE.search(said)
        out.stage = "done"
        out.booking = {
            "action": "change" if self.asks("change") else "request",
            "service": item,
            "date": day.isoformat(),
            "time": at,
            "name": name["value"] if name else self.known.memory.get("nickname"),
            "phone": re.sub(r"[ -]", "", phone[0]) if phone else None,
            "note": None,
        }
        hour, minute = map(int, at.split(":"))
        moment = self.known.now.replace(year=day.year, month=day.month, day=day.day, hour=hour, minute=minute)
        when = spoken(moment, self.known.now, "en" if self.known.is_english else "th")
        return self.says("booked", item=item, when=when)

    def _cancelled(self) -> str:
        appointments = self.known.state.get("appointments") or []
        if not appointments:
            return self.says("nothing_booked")
        latest = appointments[-1]
        self.out.booking = {
            "action": "cancel",
            **{name: latest.get(name) for name in ("service", "date", "time")},
            **dict.fromkeys(("name", "phone", "note")),
        }
        return self.says("cancelled", item=latest.get("service"))

    def _since_booked(self) -> list[str]:
        """What the customer said since the last appointment was taken; nothing of before may book again."""
        said = list(self.known.said)
        for place in range(len(self.known.replies) - 1, -1, -1):
            if any(text in self.known.replies[place] for text in BOOKED):
                return said[place + 1 :]
        return said

    def _wanted_item(self) -> str | None:
        state = self.known.state.get("service")
        if isinstance(state, str) and state:
            return state
        return _last(self.known.said, self.known.item_in)

    def _not_stated(self, topic: str) -> str:
        question = " ".join(self.words.split())[:200]
        self.out.missing = {"topic": " ".join(topic.split())[:20], "question": question}
        return self.says("missing")

    def _rest(self) -> str:
        if self.out.facts:
            return self.says("noted")
        if self.asks("thanks"):
            self.out.stage = "done"
            return self.says("welcome")
        if self.asks("duration") or self.asks("question"):
            return self._not_stated(self.words)
        self.out.quick_replies = [name for name in self.known.prices if len(name) <= 20][:3]
        return self.says("help")


def receive(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """For `OpenAiApi.answer`: all properties that a turn asks for, by the words of the prompt."""
    out = _Receptionist(read(body["messages"])).answer()
    return {
        "reply": "\n".join(out.parts),
        "service": out.service,
        "stage": out.stage,
        "facts": out.facts,
        "handoff": out.handoff,
        "missing": out.missing,
        "booking": out.booking,
        "quick_replies": out.quick_replies,
    }


def _last(texts: Sequence[str], find: Callable[[str], T | None]) -> T | None:
    return next((found for text in reversed(texts) if (found := find(text))), None)


def _likeness(one: str, other: str) -> float:
    """Share of the shorter one's pairs of letters that the other one has."""
    pairs = [{text[i : i + 2] for i in range(len(text) - 1)} for text in map(compact, (one, other))]
    least = min(map(len, pairs))
    return len(pairs[0] & pairs[1]) / least if least >= 3 else 0.0


_THAI = {
    "mon": "จันทร์",
    "tue": "อังคาร",
    "wed": "พุธ",
    "thu": "พฤหัสบดี",
    "fri": "ศุกร์",
    "sat": "เสาร์",
    "sun": "อาทิตย์",
}


def _readable(hours: str, *, english: bool) -> str:
    """`mon-fri 10:00-20:00; sun closed` as it is said."""
    if english:
        return hours
    text = re.sub("|".join(_THAI), lambda found: _THAI[found[0]], hours)
    return text.replace("closed", "ปิด").replace(";", ",")
