"""LINE's Messaging API, for many channels with one client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from core.domain.errors import FairlaneError

LineMessage = Mapping[str, Any]
"""A message object as LINE defines it."""


@dataclass(frozen=True, slots=True)
class ChannelCredentials:
    """From the secret `line-{org_id}`."""

    channel_id: str
    channel_secret: str

    def __repr__(self) -> str:
        return f"ChannelCredentials({self.channel_id!r}, …)"


@dataclass(frozen=True, slots=True)
class Sent:
    """LINE accepted. `message_ids`: of the sent messages, in order (may be empty). `duplicate`: a push's
    retry key had been accepted before (409)."""

    message_ids: tuple[str, ...] = ()
    duplicate: bool = False


class LineFault(StrEnum):
    INVALID_TOKEN = "invalid_token"  # noqa: S105  a fault, no secret; the reply token was used, expired, or never existed
    AMBIGUOUS = "ambiguous"  # time-out or 5xx after sending: may have been accepted
    RATE_LIMITED = "rate_limited"  # 429 that passes
    QUOTA = "quota"  # 429: the channel's monthly messages are used up
    UNAUTHORIZED = "unauthorized"  # the channel's secret was revoked or is wrong
    REJECTED = "rejected"  # any other 4xx: will never work as it is


class LineError(FairlaneError):
    def __init__(
        self, fault: LineFault, detail: str, *, status: int | None = None, retry_after_ms: int | None = None
    ) -> None:
        super().__init__(detail)
        self.fault = fault
        self.status = status
        self.retry_after_ms = retry_after_ms


class Line(Protocol):
    """Methods raise LineError, and LineUnavailableError when nothing was sent (connection refused); if that
    is so for this channel alone (no access token for it), ChannelUnavailableError."""

    async def reply(
        self, channel: ChannelCredentials, reply_token: str, messages: Sequence[LineMessage]
    ) -> Sent: ...

    async def push(
        self, channel: ChannelCredentials, to: str, messages: Sequence[LineMessage], *, retry_key: str
    ) -> Sent: ...

    async def show_loading(self, channel: ChannelCredentials, chat_id: str, seconds: int) -> None:
        """The "…" animation in a 1:1 chat; best effort, never raises."""
        ...

    async def mark_as_read(self, channel: ChannelCredentials, read_token: str) -> None:
        """A chat's messages up to the one that the token is of; best effort, never raises."""
        ...

    async def display_name(
        self, channel: ChannelCredentials, user_id: str, *, chat_id: str, chat_type: str
    ) -> str:
        """What a person is called: a friend of the bot's by their profile, a member of a group or room (as
        `chat_type` says) by the member's."""
        ...

    async def bot_info(self, channel: ChannelCredentials) -> Mapping[str, Any]:
        """`GET /v2/bot/info`: userId, displayName, chatMode, markAsReadMode."""
        ...

    async def get_webhook(self, channel: ChannelCredentials) -> Mapping[str, Any]:
        """`GET /v2/bot/channel/webhook/endpoint`: endpoint, active."""
        ...

    async def set_webhook(self, channel: ChannelCredentials, url: str) -> None:
        """`PUT /v2/bot/channel/webhook/endpoint`."""
        ...

    async def test_webhook(self, channel: ChannelCredentials, url: str | None = None) -> Mapping[str, Any]:
        """`POST /v2/bot/channel/webhook/test` (60 an hour and channel): success, statusCode, reason, detail.

        `url`: one that need not be set yet; without it, the one that is.
        """
        ...

    async def close(self) -> None: ...
