"""A reply as LINE's messages: plain text, split at LINE's limits where a reader would, never in a character.

Every text that reaches LINE passes `reply_messages`, whoever wrote it: a model, a clinic, or we.

LINE counts a text in UTF-16 units (LINE Developers, "Character counting in a text").
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from core.domain.plain_text import plain
from core.domain.visible import looks_empty

TEXT_UNITS = 5000  # of one text message
MAX_MESSAGES = 5  # of one reply or push
LABEL_UNITS = 20  # of a quick reply's button
MAX_QUICK_REPLIES = 13
ELLIPSIS = "…"

_MAX_CLUSTER = 32  # units; a family emoji has 11, a subdivision's flag 14
_MAX_TAP = 300  # units that a quick reply's button may send
_RETRY_KEYS = uuid.UUID("7f0c1d0e-5f5b-5b0e-9a53-6d0f5c1d9a10")

# Where a reader would stop, best first: paragraph, line, end of a sentence (Thai ends one with a polite
# particle and a space), space.
_BORDERS = tuple(map(re.compile, (r"\n\s*\n\s*", r"\n\s*", r"(?:[.!?…。]|ค่ะ|คะ|ครับ)\s+", r"\s+")))

# Unicode breaks clusters after these Thai vowels and before those; a Thai reader does not.
_THAI_LEADING = frozenset("เแโใไ")
_THAI_FOLLOWING = frozenset("ะาำๅ")
_ZWJ, _ZWNJ = "\u200d", "\u200c"
_SARA_AM_OF_LAO = "\u0eb3"


def units(text: str) -> int:
    """Length in UTF-16 units, as LINE counts."""
    return len(text) + sum(char > "\uffff" for char in text)


def clusters(text: str) -> Iterator[str]:
    """What a reader takes for one character: base with vowel and tone marks, emoji sequence, flag.

    Unicode's extended grapheme clusters (UAX 29) as far as LINE's languages need them, with Thai leading and
    following vowels kept at their consonant.
    """
    start = 0
    flags = 0  # regional indicators in a row: two make a flag
    for i in range(1, len(text)):
        previous, char = text[i - 1], text[i]
        flags = flags + 1 if _is_regional(previous) else 0
        joins = (
            _extends(char)
            or previous == _ZWJ
            or (previous == "\r" and char == "\n")
            or (flags % 2 == 1 and _is_regional(char))
            or (previous in _THAI_LEADING and "ก" <= char <= "ฮ")
        )
        if not joins:
            yield text[start:i]
            start = i
    if text:
        yield text[start:]


def split_text(text: str, limit: int = TEXT_UNITS, most: int = MAX_MESSAGES) -> list[str]:
    """`text` in at most `most` parts of at most `limit` units; joined they are `text`, or its beginning and
    an ellipsis if it is longer than that."""
    parts: list[str] = []
    rest = text
    while units(rest) > limit:
        left = most - len(parts) - 1
        if not left:
            head = _head(rest, limit - units(ELLIPSIS), at_least=0)
            return [*parts, head.rstrip() + ELLIPSIS]
        # A border is taken only if what follows it still fits into the messages that are left.
        head = _head(rest, limit, at_least=units(rest) - left * (limit - _MAX_CLUSTER))
        parts.append(head)
        rest = rest[len(head) :]
    return [*parts, rest] if rest else parts


def reply_messages(
    text: str,
    quick_replies: Iterable[str] = (),
    postbacks: Mapping[str, str] | None = None,
    quote_token: str | None = None,
) -> tuple[dict[str, Any], ...]:
    """LINE's message objects for a reply, as plain text; the quick replies' buttons stand under the last one.

    Empty if nothing of `text` would be seen. A quick reply that is too long for its button is sent in full
    when tapped. `postbacks`: by label, the data that a tap on it sends instead of words. `quote_token`: of
    what the first message quotes.
    """
    parts = split_text(plain(text)) if not looks_empty(text) else []
    messages: list[dict[str, Any]] = [
        {"type": "text", "text": part} for part in parts if not looks_empty(part)
    ]
    if messages and quote_token:
        messages[0]["quoteToken"] = quote_token
    data = {one_line(label): sent for label, sent in (postbacks or {}).items()}
    labels = dict.fromkeys(map(one_line, quick_replies))
    items = [item for label in labels if (item := _quick_reply(label, data.get(label)))]
    if messages and items:
        messages[-1] = {**messages[-1], "quickReply": {"items": items[:MAX_QUICK_REPLIES]}}
    return tuple(messages)


def bare(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same texts with nothing around them: what LINE may still take if it refused the messages."""
    texts = (message.get("text", message.get("altText")) for message in messages)
    return [{"type": "text", "text": text} for text in texts if text]


def one_line(text: str) -> str:
    """As plain text, on one line: a button's label."""
    return " ".join(plain(text).split())


def retry_key(turn_id: str) -> str:
    """X-Line-Retry-Key of a turn's push: always the same, so that LINE accepts it once (24 h)."""
    return str(uuid.uuid5(_RETRY_KEYS, turn_id))


def _is_regional(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _extends(char: str) -> bool:
    return (
        unicodedata.category(char) in {"Mn", "Mc", "Me"}
        or char in _THAI_FOLLOWING
        or char in {_ZWJ, _ZWNJ, _SARA_AM_OF_LAO}
        or "\U0001f3fb" <= char <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= char <= "\U000e007f"  # tags: the flags of England, Scotland, Wales
        or "\u1160" <= char <= "\u11ff"  # Hangul vowels and finals
    )


def _head(text: str, limit: int, *, at_least: int) -> str:
    """The longest beginning of at most `limit` units, ended at the best border in its second half."""
    ends: list[int] = []  # of clusters
    size = position = 0
    for cluster in clusters(text[: limit + 1]):
        size += units(cluster)
        if size > limit:
            break
        position += len(cluster)
        ends.append(position)
    window = text[: ends[-1]] if ends else _code_points(text, limit)
    lowest = max(limit // 2, at_least)
    allowed = set(ends)
    for border in _BORDERS:
        best = max((m.end() for m in border.finditer(window) if m.end() in allowed), default=0)
        if best and units(text[:best]) >= lowest:
            return text[:best]
    return window


def _code_points(text: str, limit: int) -> str:
    """For a "character" longer than a message: what is left is not to cut a surrogate pair."""
    head = text[:limit]
    while units(head) > limit:
        head = head[:-1]
    return head


def _quick_reply(text: str, data: str | None = None) -> dict[str, Any] | None:
    """None if nobody could see what the button says."""
    label = text
    if units(text) > LABEL_UNITS:
        label = ""
        for cluster in clusters(text):
            if units(label + cluster) > LABEL_UNITS - units(ELLIPSIS):
                break
            label += cluster
        label = label.rstrip()
    if looks_empty(label):
        return None
    if label != text:
        label += ELLIPSIS
    if data is not None:
        postback = {"type": "postback", "label": label, "data": data, "displayText": label}
        return {"type": "action", "action": postback}
    tapped = split_text(text, _MAX_TAP, most=1)[0]
    return {"type": "action", "action": {"type": "message", "label": label, "text": tapped}}
