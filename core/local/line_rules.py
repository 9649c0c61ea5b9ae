"""What LINE accepts as messages, and what it calls its errors.

Source: developers.line.biz/en/reference/messaging-api/ (Message objects, Quick reply, Action objects, Send
reply message). LINE counts a text in UTF-16 units.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

MAX_MESSAGES: Final = 5
MAX_TEXT: Final = 5000
MAX_ALT_TEXT: Final = 400
MAX_QUICK_REPLIES: Final = 13
MAX_LABEL: Final = 20
MAX_TAPPED: Final = 300
MAX_URI: Final = 1000

INVALID_REPLY_TOKEN: Final = "Invalid reply token"  # noqa: S105  LINE's wording
MONTHLY_LIMIT: Final = "You have reached your monthly limit."
RATE_LIMIT: Final = "The API rate limit has been exceeded. Try again later."
AUTHENTICATION_FAILED: Final = (
    "Authentication failed due to the following reason: invalid token. Confirm that the access token in the "
    "authorization header is valid."
)
RETRY_KEY_ACCEPTED: Final = "The retry key is already accepted"
FAILED_TO_SEND: Final = "Failed to send messages"
INVALID_READ_TOKEN: Final = "Invalid markAsReadToken"  # noqa: S105  an error's words

_KINDS: Final = frozenset(
    {"text", "textV2", "sticker", "image", "video", "audio", "location"}
    | {"imagemap", "template", "flex", "coupon"}
)
_ACTIONS: Final = frozenset(
    {"camera", "cameraRoll", "clipboard", "datetimepicker", "location"}
    | {"message", "postback", "richmenuswitch", "uri"}
)
_TEMPLATES: Final = {"buttons": (160, 1, 4), "confirm": (240, 2, 2)}
"""The longest text, and how many actions at least and at most."""

Problem = dict[str, str]


def utf16_units(text: str) -> int:
    """How LINE counts characters."""
    return len(text.encode("utf-16-le", errors="surrogatepass")) // 2


def problems(messages: Any) -> list[Problem]:
    """What LINE's `details` would name; empty when it would accept."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        return [_problem("May not be empty", "messages")]
    if len(messages) > MAX_MESSAGES:
        return [_problem(f"Size must be between 1 and {MAX_MESSAGES}", "messages")]
    return [found for i, message in enumerate(messages) for found in _in_message(message, f"messages[{i}]")]


def _in_message(message: Any, where: str) -> Iterator[Problem]:
    if not isinstance(message, Mapping):
        yield _problem("Must be an object", where)
        return
    kind = message.get("type")
    if kind not in _KINDS:
        yield _problem("Must be a known message type", f"{where}.type")
    if kind in {"text", "textV2"}:
        yield from _in_text(message.get("text"), MAX_TEXT, f"{where}.text")
    if kind == "template":
        yield from _in_text(message.get("altText"), MAX_ALT_TEXT, f"{where}.altText")
        yield from _in_template(message.get("template"), f"{where}.template")
    if "quickReply" in message:
        yield from _in_quick_reply(message["quickReply"], f"{where}.quickReply.items")


def _in_template(template: Any, where: str) -> Iterator[Problem]:
    kind = template.get("type") if isinstance(template, Mapping) else None
    if kind not in _TEMPLATES:
        yield _problem("Must be a template that this stand-in knows", f"{where}.type")
        return
    longest, fewest, most = _TEMPLATES[kind]
    if kind == "buttons" and (template.get("title") or template.get("thumbnailImageUrl")):
        longest = 60
    yield from _in_text(template.get("text"), longest, f"{where}.text")
    actions = template.get("actions")
    if not isinstance(actions, list) or not fewest <= len(actions) <= most:
        yield _problem(f"Size must be between {fewest} and {most}", f"{where}.actions")
        return
    for i, action in enumerate(actions):
        yield from _in_action(action, f"{where}.actions[{i}]")


def _in_quick_reply(quick_reply: Any, where: str) -> Iterator[Problem]:
    items = quick_reply.get("items") if isinstance(quick_reply, Mapping) else None
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_QUICK_REPLIES:
        yield _problem(f"Size must be between 1 and {MAX_QUICK_REPLIES}", where)
        return
    for i, item in enumerate(items):
        if not isinstance(item, Mapping) or item.get("type", "action") != "action":
            yield _problem("Must be an action", f"{where}[{i}].type")
        else:
            yield from _in_action(item.get("action"), f"{where}[{i}].action")


def _in_action(action: Any, where: str) -> Iterator[Problem]:
    kind = action.get("type") if isinstance(action, Mapping) else None
    if kind not in _ACTIONS:
        yield _problem("Must be a known action type", f"{where}.type")
        return
    label = action.get("label")
    yield from _in_text(label, MAX_LABEL, f"{where}.label")
    if isinstance(label, str) and "\n" in label:
        yield _problem("Must be one line", f"{where}.label")
    if kind == "message":
        yield from _in_text(action.get("text"), MAX_TAPPED, f"{where}.text")
    if kind == "postback":
        data = action.get("data")
        if not isinstance(data, str) or utf16_units(data) > MAX_TAPPED:
            yield _problem(f"Length must be between 0 and {MAX_TAPPED}", f"{where}.data")
        if "displayText" in action:
            yield from _in_text(action["displayText"], MAX_TAPPED, f"{where}.displayText")
    if kind == "uri":
        yield from _in_text(action.get("uri"), MAX_URI, f"{where}.uri")


def _in_text(text: Any, longest: int, where: str) -> Iterator[Problem]:
    if not isinstance(text, str) or _looks_empty(text):
        yield _problem("May not be empty", where)
    elif utf16_units(text) > longest:
        yield _problem(f"Length must be between 1 and {longest}", where)


def _looks_empty(text: str) -> bool:
    """Written apart from the code that keeps such texts from LINE, on purpose."""
    fillers = "\u115f\u1160\u2800\u3164\uffa0"
    return all(
        unicodedata.category(c)[0] in "CZ" or unicodedata.category(c) == "Mn" or c in fillers for c in text
    )


def _problem(message: str, where: str) -> Problem:
    return {"message": message, "property": where}
