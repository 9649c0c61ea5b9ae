"""What the stand-in model reads in a prompt: the clinic's own words, the state, and what was said."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

USUAL = ("ขูดหินปูน", "จัดฟัน", "ฟอกสีฟัน", "อุดฟัน", "ถอนฟัน", "รากฟันเทียม", "ผ่าฟันคุด", "เลเซอร์", "โบท็อกซ์")
"""Services that a customer may name although the clinic states no price of theirs."""
_LISTED = re.compile(r"^- (?P<item>.+?): (?P<baht>[\d,.]+(?:-[\d,.]+)?) บาท(?P<more>.*)$", re.MULTILINE)
_SAID = re.compile(
    r"(?P<item>[\u0E00-\u0E7F]{4,40}?)\s*(?P<from>เริ่มต้น(?:ซี่ละ)?|ซี่ละ)?\s*(?P<baht>\d[\d,]*)\s*บาท"
)
_ANSWER = re.compile(r"^Q: (?P<q>.+)\nA: (?P<a>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Known:
    """`prices`: by item, as they may be said. `answers`: approved, by question. `lines`: the rest of the
    clinic's words. `said`, `replies`: of the conversation so far, oldest first; `words`: what is to be
    answered, with `pictures` beside them."""

    clinic: str
    hours: str
    prices: Mapping[str, str]
    answers: Mapping[str, str]
    lines: Sequence[str]
    state: Mapping[str, Any]
    memory: Mapping[str, str]
    now: datetime
    words: str
    said: Sequence[str] = ()
    replies: Sequence[str] = ()
    pictures: int = 0

    @property
    def is_english(self) -> bool:
        return bool(re.search("[A-Za-z]", self.words)) and not re.search("[\u0e00-\u0e7f]", self.words)

    def item_in(self, text: str) -> str | None:
        """The longest item that the text names: of those with a price, else of those that clinics have."""
        for items in (self.prices, USUAL):
            if named := [item for item in items if item.casefold() in text.casefold()]:
                return max(named, key=len)
        return None


def read(messages: Sequence[Mapping[str, Any]]) -> Known:
    system = [str(message["content"]) for message in messages if message["role"] == "system"]
    first, changing = [*system, "", ""][:2]
    stated = _between(first, "clinic")
    persona = re.split(r"\n\n(?=Prices in baht|Approved answers:)", stated)[0]
    prices = {
        found["item"].strip(): f"{found['from'] or ''} {found['baht']} บาท".strip()
        for found in _SAID.finditer(persona)
    }
    for found in _LISTED.finditer(stated):
        prices[found["item"].strip()] = f"{found['baht']} บาท{found['more'].rstrip()}"
    now = re.search(r"Now: \w+ (\d{4}-\d{2}-\d{2} \d{2}:\d{2})", changing)
    talk = [message for message in messages if message["role"] != "system"]
    return Known(
        clinic=_line(first, "The clinic"),
        hours=_line(first, "Opening hours"),
        prices=prices,
        answers={found["q"]: found["a"] for found in _ANSWER.finditer(stated)},
        lines=[line.strip() for line in re.split(r"[\n·]| (?=เปิด|มี|ผ่อน)", persona) if line.strip()],
        state=_json(changing, "state"),
        memory=_json(changing, "memory"),
        now=datetime.strptime(now[1], "%Y-%m-%d %H:%M") if now else datetime(2026, 1, 1),  # noqa: DTZ001, DTZ007  wall time
        words=text_of(talk[-1]) if talk else "",
        said=[text_of(message) for message in talk[:-1] if message["role"] == "user"],
        replies=[text_of(message) for message in talk[:-1] if message["role"] == "assistant"],
        pictures=_pictures(talk[-1]) if talk else 0,
    )


def text_of(message: Mapping[str, Any]) -> str:
    """A message's words, also where pictures stand beside them."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) for part in content if part.get("type") == "text")


def _pictures(message: Mapping[str, Any]) -> int:
    content = message["content"]
    return 0 if isinstance(content, str) else sum(part.get("type") == "image_url" for part in content)


def _between(text: str, tag: str) -> str:
    return text.rpartition(f"<{tag}>\n")[2].partition(f"\n</{tag}>")[0] if f"<{tag}>\n" in text else ""


def _line(text: str, name: str) -> str:
    found = re.search(rf"^{name}: (.+)$", text, re.MULTILINE)
    return found[1] if found else ""


def _json(text: str, tag: str) -> dict[str, Any]:
    found = re.search(rf"<{tag}>(\{{.*?\}})</{tag}>", text)
    read_: dict[str, Any] = json.loads(found[1]) if found else {}
    return read_
