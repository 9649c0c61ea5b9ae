"""One thing that a customer did on LINE, as the webhook hands it to a turn."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

ChatType = Literal["user", "group", "room"]

MAX_WAITING, MAX_WAITING_CHARS = 100, 24_000
"""How many of a conversation's newest events, and of their characters, wait verbatim for a turn."""

TOKEN_FRESH_MS = 50_000
"""How long after its arrival an event is answered by its reply token. LINE gives it a minute; the rest is for
the way there and for retries."""


class EventKind(StrEnum):
    """LINE's name of a message's type, or of any other event's. What is done about each stands in
    core.domain.event_kinds."""

    TEXT = "text"
    STICKER = "sticker"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    FILE = "file"
    LOCATION = "location"
    UNKNOWN = "unknown"  # a message of a type that is newer than this code
    EDIT = "messageEdited"
    POSTBACK = "postback"
    FOLLOW = "follow"
    UNFOLLOW = "unfollow"
    LEAVE = "leave"  # the bot was taken out of a group
    UNSEND = "unsend"


@dataclass(frozen=True, slots=True)
class Conversation:
    """Where turns happen one at a time: a customer's chat with a clinic, or a group or room.

    Shapes Redis keys `conv:{org_id}:{channel}:{chat_id}`.
    """

    org_id: str
    channel: str
    chat_id: str

    @property
    def key(self) -> str:
        return f"{self.org_id}:{self.channel}:{self.chat_id}"


@dataclass(frozen=True, slots=True)
class InboundEvent:
    """A LINE event, reduced to what a turn uses. Times are Unix milliseconds.

    `kind`: read from a task it is the plain string, which equals its EventKind. `text` is what stands in the
    prompt: the customer's words, a sticker's too, a postback's data, a location's address. `hint`: what a
    sticker shows, as LINE describes it. `message_id`: of the message itself, or of the one that is unsent or
    edited. `quote_token` quotes this message in a reply, `read_token` marks it as read. `image_set_id`:
    pictures that were sent together; `image_index` of `image_total`, from 1. `duration_ms`: of a voice
    message. `external`: its content is not LINE's, but at an address that somebody has named.
    """

    event_id: str
    org_id: str
    chat_id: str
    kind: EventKind
    timestamp_ms: int
    arrived_ms: int
    channel: str = "line"
    chat_type: ChatType = "user"
    user_id: str | None = None
    text: str = ""
    hint: str = ""
    message_id: str | None = None
    reply_token: str | None = None
    quote_token: str | None = None
    read_token: str | None = None
    image_set_id: str | None = None
    image_index: int | None = None
    image_total: int | None = None
    duration_ms: int | None = None
    external: bool = False
    redelivered: bool = False
    quoted_message_id: str | None = None
    mentioned: bool = False

    @property
    def conversation(self) -> Conversation:
        return Conversation(self.org_id, self.channel, self.chat_id)
