"""One thing that a customer did on LINE, as the webhook hands it to a turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ChatType = Literal["user", "group", "room"]

MOST_WAITING, MOST_WAITING_CHARS = 100, 24_000
"""How many of a conversation's newest events, and of their characters, wait verbatim for a turn."""

KINDS_ANSWERED_BY_MODEL = frozenset({"text", "postback", "location"})


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

    `kind` is the message type for messages (text, sticker, image, audio, video, file, location) and the
    event type for everything else (postback, follow, unfollow, unsend, join, …). `text` is what stands in
    the prompt: the customer's words, a postback's data, a location's address.
    """

    event_id: str
    org_id: str
    chat_id: str
    kind: str
    timestamp_ms: int
    arrived_ms: int
    channel: str = "line"
    chat_type: ChatType = "user"
    user_id: str | None = None
    text: str = ""
    message_id: str | None = None
    reply_token: str | None = None
    redelivered: bool = False
    quoted_message_id: str | None = None
    mentioned: bool = False

    @property
    def conversation(self) -> Conversation:
        return Conversation(self.org_id, self.channel, self.chat_id)
