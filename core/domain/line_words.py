"""What a customer says by each kind of event, read from LINE's JSON as leniently as the rest of it.

A reader returns what stands in the prompt, "" if there are no words in it, None if the event is of no use.
LINE counts positions in UTF-16 units (LINE Developers, "Text message", "Character counting in a text").
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from core.domain.unicode import well_formed

MAX_TEXT_CHARS = 20_000
"""Four times LINE's longest message, and more than any prompt takes."""

MAX_TEXT_BYTES = 80_000
"""As JSON in UTF-8; with the rest of a task it stays below Cloud Tasks' 100 KB."""

_MAX_HINT = 200


def of_text(raw: Mapping[str, Any], message: Mapping[str, Any], bot: str | None) -> str | None:
    """Without the mention of the bot (its name is not what the customer says) and without LINE's emoji (the
    text has their names in brackets)."""
    text = message.get("text")
    if not isinstance(text, str) or not text:
        return None
    spans = [*_objects(message.get("emojis")), *(m for m in mentionees(message) if is_bot(m, bot))]
    return cut(well_formed(_without(text, spans)))


def of_sticker(raw: Mapping[str, Any], message: Mapping[str, Any], bot: str | None) -> str | None:
    """Of a message sticker, what the customer has written on it."""
    return joined(" ", (message.get("text"),))


def of_postback(raw: Mapping[str, Any], message: Mapping[str, Any], bot: str | None) -> str | None:
    """The data, and beside it a date picker's choice. Who turns a rich menu's page says nothing."""
    postback = as_object(raw.get("postback"))
    params = as_object(postback.get("params"))
    if "newRichMenuAliasId" in params:
        return None
    return joined(" ", (postback.get("data"), *(params.get(name) for name in ("datetime", "date", "time"))))


def of_location(raw: Mapping[str, Any], message: Mapping[str, Any], bot: str | None) -> str | None:
    place = joined(", ", (message.get("title"), message.get("address")))
    return place or joined(", ", (_degrees(message.get("latitude")), _degrees(message.get("longitude"))))


def of_nothing(raw: Mapping[str, Any], message: Mapping[str, Any], bot: str | None) -> str | None:
    return ""


def of_unsend(raw: Mapping[str, Any], message: Mapping[str, Any], bot: str | None) -> str | None:
    """Of no use if it does not say which message."""
    message_id = as_object(raw.get("unsend")).get("messageId")
    return "" if isinstance(message_id, str) and message_id else None


def of_edit(raw: Mapping[str, Any], message: Mapping[str, Any], bot: str | None) -> str | None:
    """The message as it stands now."""
    message_id = message.get("id")
    return of_text(raw, message, bot) if isinstance(message_id, str) and message_id else None


def hint(message: Mapping[str, Any]) -> str:
    """What LINE says that a sticker shows."""
    keywords = message.get("keywords")
    return joined(", ", keywords if isinstance(keywords, list) else ())[:_MAX_HINT]


def mentionees(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return _objects(as_object(message.get("mention")).get("mentionees"))


def is_bot(mentionee: Mapping[str, Any], bot: str | None) -> bool:
    """LINE says so by `isSelf`, and by the bot's user id."""
    return mentionee.get("isSelf") is True or (bot is not None and mentionee.get("userId") == bot)


def after_name(text: str, name: str) -> str | None:
    """What follows the bot's name, if a text begins with it: a mention as LINE's desktop client writes it."""
    words = r"\s+".join(map(re.escape, name.split()))
    if not words:
        return None
    ends = r"(?![A-Za-z0-9])" if name.rstrip()[-1].isascii() else ""  # Thai goes on without a space
    found = re.match(rf"\s*@?{words}{ends}[\s,:]*", text, re.IGNORECASE)
    return text[found.end() :] if found else None


def as_object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def joined(separator: str, parts: Sequence[Any]) -> str:
    return cut(well_formed(separator.join(part for part in parts if isinstance(part, str) and part)))


def cut(text: str) -> str:
    """At most MAX_TEXT_CHARS characters and MAX_TEXT_BYTES bytes as JSON, from the beginning."""
    text = text[:MAX_TEXT_CHARS]
    while len(text) * 6 > MAX_TEXT_BYTES and (size := _json_bytes(text)) > MAX_TEXT_BYTES:
        text = text[: len(text) * MAX_TEXT_BYTES // size]
    return text


def _without(text: str, spans: Sequence[Mapping[str, Any]]) -> str:
    """`text` less `index` to `index + length` of each span, with a space between what stood around it."""
    ranges = sorted(filter(None, map(_range, spans)))
    if not ranges:
        return text
    units = text.encode("utf-16-le", "surrogatepass")
    kept, position = [], 0
    for start, end in ranges:
        kept.append(units[2 * position : 2 * max(start, position)])
        position = max(end, position)
    kept.append(units[2 * position :])
    parts = [part.decode("utf-16-le", "surrogatepass").strip(" ") for part in kept]
    return " ".join(filter(None, parts))


def _range(span: Mapping[str, Any]) -> tuple[int, int] | None:
    index, length = span.get("index"), span.get("length")
    if type(index) is not int or type(length) is not int or index < 0 or length <= 0:
        return None
    return index, index + length


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _degrees(value: Any) -> str | None:
    return str(value) if type(value) in {int, float} and -180 <= value <= 180 else None


def _json_bytes(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())
