"""LINE's webhook body, read leniently: what fairlane knows becomes events, everything else is skipped.

LINE adds fields, event types and enum values without notice, so nothing here insists on anything: a field
of the wrong type counts as missing, and one strange event never costs the others of its batch.
https://developers.line.biz/en/reference/messaging-api/#webhook-event-objects
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from core.domain.desk import looks_like_code
from core.domain.errors import InvalidInputError
from core.domain.event import ChatType, EventKind, InboundEvent
from core.domain.event_kinds import KINDS
from core.domain.line_words import after_name, as_object, hint, is_bot, mentionees
from core.domain.unicode import well_formed

_CHATS: Mapping[str, tuple[ChatType, str]] = {
    "user": ("user", "userId"),
    "group": ("group", "groupId"),
    "room": ("room", "roomId"),
}
# A document may not be called `__…__` (Firestore).
_SAFE_ID = re.compile(r"(?!__)[A-Za-z0-9_-]{1,128}")
# Chats and users stand in Redis keys and document ids, where `/` and braces have a meaning. Anything else
# that prints is taken: LINE's ids are opaque, and one that is refused costs a customer's message.
_CHAT_ID = re.compile(r"[!-.0-z|~]{1,128}")
_MAX_OPAQUE = 512
# Of the events by which LINE's console tries a webhook: who sends them, and the reply tokens that they have.
_VERIFYING = "Udeadbeefdeadbeefdeadbeefdeadbeef"
_VERIFYING_TOKENS = frozenset({"0" * 32, "f" * 32})
_LATEST_MS = 2**53  # beyond it neither JSON nor Redis' scores are exact
_DIGITS = 18


_DESTINATION = re.compile(rb'"destination"\s*:\s*"([^"]{0,64})')
_BOT_USER_ID = re.compile(rb"U[0-9a-f]{32}")


class NotAWebhookError(InvalidInputError):
    """The body is not JSON, or not an object with a destination and a list of events."""


def destination_of(raw: bytes) -> str | None:
    """Whose webhook the body says it is, found without parsing it: what nobody has signed yet may be a
    megabyte of nonsense. None if no bot can have that id. Raises NotAWebhookError if it names nobody.
    """
    found = _DESTINATION.search(raw)
    if found is None:
        raise NotAWebhookError("`destination` is missing")
    return found[1].decode() if _BOT_USER_ID.fullmatch(found[1]) else None


@dataclass(frozen=True, slots=True)
class Webhook:
    """`destination`: the bot's user id; None if it is one that no bot can have."""

    destination: str | None
    body: Mapping[str, Any]

    @property
    def size(self) -> int:
        """How many events LINE sent, of whatever kind."""
        return len(self.body.get("events", ()))

    def events(
        self,
        org_id: str,
        arrived_ms: int,
        lost: Callable[[Any], None] = lambda _: None,
        *,
        name: str = "",
    ) -> list[InboundEvent]:
        """The events that concern a turn, in LINE's order. Raises NotAWebhookError without a list of them.

        `name`: the bot's, by which a group may call it. `lost` is called with the chat's id where it is none
        that an event could be answered by."""
        raw = self.body.get("events")
        if not isinstance(raw, list):
            raise NotAWebhookError("`events` is not a list")
        parsed = (_event(item, org_id, arrived_ms, _Bot(self.destination, name), lost) for item in raw)
        return [event for event in parsed if event is not None]


def read_webhook(raw: bytes) -> Webhook:
    """Raises NotAWebhookError."""
    body = _json(raw)
    destination = body.get("destination") if isinstance(body, dict) else None
    if not isinstance(destination, str) or not destination:
        raise NotAWebhookError("`destination` is missing")
    return Webhook(_matching(_SAFE_ID, destination), body)


def _json(raw: bytes) -> Any:
    try:
        return _loads(raw)
    except UnicodeDecodeError as exc:
        raise NotAWebhookError("the body is not UTF-8") from exc
    except RecursionError as exc:
        raise NotAWebhookError("the body is nested too deeply") from exc
    except ValueError as exc:
        raise NotAWebhookError("the body is not JSON") from exc


def _loads(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError:
        # Python reads no integer of more than 4,300 digits: JSON all the same, and not worth the batch.
        return json.loads(raw, parse_int=lambda digits: int(digits) if len(digits) <= _DIGITS else 0)


@dataclass(frozen=True, slots=True)
class _Bot:
    user_id: str | None
    name: str


def _event(
    raw: Any, org_id: str, arrived_ms: int, bot: _Bot, lost: Callable[[Any], None]
) -> InboundEvent | None:
    if not isinstance(raw, dict):
        return None
    message = as_object(raw.get("message"))
    kind = _kind(raw, message)
    source = as_object(raw.get("source"))
    chat = _CHATS.get(source["type"]) if isinstance(source.get("type"), str) else None
    if kind is None or chat is None or _is_verification(raw, source):
        return None
    chat_type, id_field = chat
    rules = KINDS[kind]
    text = rules.read(raw, message, bot.user_id)
    if text is None or (raw.get("mode") == "standby" and not rules.everywhere):
        return None
    mentioned = any(is_bot(mentionee, bot.user_id) for mentionee in mentionees(message))
    if chat_type != "user" and not mentioned and (called := after_name(text, bot.name)) is not None:
        mentioned, text = True, called
    quoted = _opaque(message.get("quotedMessageId"))
    is_ours = mentioned or quoted or rules.from_us or rules.everywhere
    if chat_type != "user" and not (is_ours or looks_like_code(text)):
        return None
    chat_id = _matching(_CHAT_ID, source.get(id_field))
    if chat_id is None:
        lost(source.get(id_field))
        return None
    timestamp = _timestamp_ms(raw)
    user_id = _matching(_CHAT_ID, source.get("userId"))
    message_id = _message_id(kind, raw, message)
    reply_token = _opaque(raw.get("replyToken"))
    pictures = as_object(message.get("imageSet"))
    provider = as_object(message.get("contentProvider")).get("type", "line")
    return InboundEvent(
        event_id=_event_id(raw, message, kind, chat_id, user_id, timestamp, message_id, reply_token, text),
        org_id=org_id,
        chat_id=chat_id,
        kind=kind,
        timestamp_ms=arrived_ms if timestamp is None else timestamp,
        arrived_ms=arrived_ms,
        chat_type=chat_type,
        user_id=user_id,
        text=text,
        hint=hint(message) if kind is EventKind.STICKER else "",
        message_id=message_id,
        reply_token=reply_token,
        quote_token=_opaque(message.get("quoteToken")),
        read_token=_opaque(message.get("markAsReadToken")),
        image_set_id=_opaque(pictures.get("id")),
        image_index=_count(pictures.get("index")),
        image_total=_count(pictures.get("total")),
        duration_ms=_count(message.get("duration")) if kind is EventKind.AUDIO else None,
        external=provider != "line",
        redelivered=as_object(raw.get("deliveryContext")).get("isRedelivery") is True,
        quoted_message_id=quoted,
        mentioned=mentioned,
    )


def _is_verification(raw: Mapping[str, Any], source: Mapping[str, Any]) -> bool:
    """LINE's console tries the webhook: nobody is there."""
    return _opaque(raw.get("replyToken")) in _VERIFYING_TOKENS or source.get("userId") == _VERIFYING


def _timestamp_ms(raw: Mapping[str, Any]) -> int | None:
    value = raw.get("timestamp")
    return value if type(value) is int and 0 < value < _LATEST_MS else None


def _kind(raw: Mapping[str, Any], message: Mapping[str, Any]) -> EventKind | None:
    """None for what is ignored on purpose. A message of a type that is not known here is one all the same."""
    name = raw.get("type")
    is_message = name == "message"
    if is_message:
        name = message.get("type")
    if not isinstance(name, str):
        return None
    if name in KINDS and KINDS[name].is_message is is_message:
        return EventKind(name)
    return EventKind.UNKNOWN if is_message else None


def _message_id(kind: EventKind, raw: Mapping[str, Any], message: Mapping[str, Any]) -> str | None:
    """Of the message itself, or for an unsend, of the one that was taken back."""
    if kind is EventKind.UNSEND:
        return _opaque(as_object(raw.get("unsend")).get("messageId"))
    return _opaque(message.get("id"))


def _event_id(raw: Mapping[str, Any], message: Mapping[str, Any], *otherwise: object) -> str:
    """LINE's id, else the message's, else a digest of what the event says; one that a document can have. The
    id of an edited message is that of the event that brought it first."""
    own = message.get("id") if raw.get("type") == "message" else None
    for candidate in (raw.get("webhookEventId"), own):
        if isinstance(candidate, str) and candidate:
            return candidate if _SAFE_ID.fullmatch(candidate) else _digest(candidate)
    return _digest(repr(otherwise))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _matching(pattern: re.Pattern[str], value: Any) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _opaque(value: Any) -> str | None:
    """An id or token of LINE's that is only handed back to LINE."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_OPAQUE:
        return None
    return well_formed(value)


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < _LATEST_MS else None
