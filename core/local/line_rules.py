"""What LINE accepts as messages, and what it calls its errors.

Source: developers.line.biz/en/reference/messaging-api/ (Text message, Quick reply, Send reply message).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

MAX_MESSAGES: Final = 5
MAX_TEXT_UTF16: Final = 5000
MAX_QUICK_REPLIES: Final = 13
MAX_LABEL: Final = 20

INVALID_REPLY_TOKEN: Final = "Invalid reply token"  # noqa: S105  LINE's wording
MONTHLY_LIMIT: Final = "You have reached your monthly limit."
RATE_LIMIT: Final = "The API rate limit has been exceeded. Try again later."
AUTHENTICATION_FAILED: Final = (
    "Authentication failed due to the following reason: invalid token. Confirm that the access token in the "
    "authorization header is valid."
)
RETRY_KEY_ACCEPTED: Final = "The retry key is already accepted"


def utf16_units(text: str) -> int:
    """How LINE counts characters."""
    return len(text.encode("utf-16-le", errors="surrogatepass")) // 2


def problems(messages: Any) -> list[dict[str, str]]:
    """What LINE's `details` would name; empty when it would accept."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        return [{"message": "May not be empty", "property": "messages"}]
    if len(messages) > MAX_MESSAGES:
        return [{"message": f"Size must be between 1 and {MAX_MESSAGES}", "property": "messages"}]
    found: list[dict[str, str]] = []
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        if not isinstance(message, Mapping):
            found.append({"message": "Must be an object", "property": where})
            continue
        found += _in_message(message, where)
    return found


def _in_message(message: Mapping[str, Any], where: str) -> list[dict[str, str]]:
    kind = message.get("type")
    found: list[dict[str, str]] = []
    if kind not in {"text", "textV2", "sticker", "image", "video", "audio", "location", "template", "flex"}:
        found.append({"message": "Must be a known message type", "property": f"{where}.type"})
    if kind in {"text", "textV2"}:
        text = message.get("text")
        if not isinstance(text, str) or not text:
            found.append({"message": "May not be empty", "property": f"{where}.text"})
        elif utf16_units(text) > MAX_TEXT_UTF16:
            detail = f"Length must be between 0 and {MAX_TEXT_UTF16}"
            found.append({"message": detail, "property": f"{where}.text"})
    if "quickReply" in message:
        found += _in_quick_reply(message["quickReply"], f"{where}.quickReply.items")
    return found


def _in_quick_reply(quick_reply: Any, where: str) -> list[dict[str, str]]:
    items = quick_reply.get("items") if isinstance(quick_reply, Mapping) else None
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_QUICK_REPLIES:
        return [{"message": f"Size must be between 1 and {MAX_QUICK_REPLIES}", "property": where}]
    found = []
    for i, item in enumerate(items):
        action = item.get("action") if isinstance(item, Mapping) else None
        label = action.get("label") if isinstance(action, Mapping) else None
        if not isinstance(label, str) or not 1 <= utf16_units(label) <= MAX_LABEL:
            detail = f"Length must be between 1 and {MAX_LABEL}"
            found.append({"message": detail, "property": f"{where}[{i}].action.label"})
    return found
