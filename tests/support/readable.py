"""An independent judgement of what reaches LINE: would a customer see it, and only text in it?"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

MARKDOWN_LINK = re.compile(r"\[[^\]]*\]\([^)]*\)")
SEEN = {"L", "N", "P", "S"}
BLANK_LETTERS = set("\u115f\u1160\u3164\uffa0\u2800")


def utf16_units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def is_seen(text: str) -> bool:
    kinds = ((unicodedata.category(char), char) for char in text)
    return any((kind[0] in SEEN or kind == "Mc") and char not in BLANK_LETTERS for kind, char in kinds)


def faults(text: str) -> list[str]:
    """What must not stand in a text that a customer reads."""
    found = ["nothing is seen"] if not is_seen(text) else []
    found += ["a Markdown link"] if MARKDOWN_LINK.search(text) else []
    for i, char in enumerate(text):
        kind = unicodedata.category(char)
        if (kind == "Cc" and char != "\n") or kind == "Cs":
            found.append(f"control character {ord(char):#x}")
        if kind == "Cf" and not _in_emoji(text, i):
            found.append(f"format character {ord(char):#x}")
    return found


def _in_emoji(text: str, i: int) -> bool:
    """A joiner between two pictures, or a tag behind the black flag."""
    if text[i] == "\u200d":
        before = text[:i].rstrip("\ufe0e\ufe0f\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")[-1:]
        return _is_picture(before) and _is_picture(text[i + 1 : i + 2])
    return re.search("\U0001f3f4[\U000e0020-\U000e007e]*$", text[:i]) is not None


def _is_picture(char: str) -> bool:
    return char != "" and unicodedata.category(char) in {"So", "Sm", "Po", "Cn"}


def faults_of_messages(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """LINE's limits for a reply (LINE Developers, "Send reply message", "Quick reply"), and its texts."""
    sent = list(messages)
    found = [] if 1 <= len(sent) <= 5 else [f"{len(sent)} messages"]
    for message in sent:
        found += faults(message["text"])
        found += ["a text over 5,000"] if utf16_units(message["text"]) > 5000 else []
        items = message.get("quickReply", {"items": [None]})["items"]
        found += [] if 1 <= len(items) <= 13 else [f"{len(items)} quick replies"]
        for item in filter(None, items):
            label, tapped = item["action"]["label"], item["action"]["text"]
            found += faults(label) + faults(tapped)
            found += ["a label over 20"] if utf16_units(label) > 20 else []
            found += ["a label of two lines"] if "\n" in label else []
            found += ["a tap over 300"] if utf16_units(tapped) > 300 else []
    return found
