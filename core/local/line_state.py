"""What the LINE stand-in knows: channels, reply tokens, what was delivered, which rules were broken."""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class LineCall(StrEnum):
    TOKEN = "token"  # noqa: S105  a call's name
    REPLY = "reply"
    PUSH = "push"
    LOADING = "loading"
    MARK_AS_READ = "mark_as_read"
    INFO = "info"
    WEBHOOK = "webhook"
    QUOTA = "quota"
    PROFILE = "profile"
    CONTENT = "content"


class LineTrouble(StrEnum):
    """What can be made to go wrong with a call. BEFORE: nothing was accepted; AFTER: it was."""

    ERROR_BEFORE = "error_before"
    ERROR_AFTER = "error_after"
    HANG_BEFORE = "hang_before"
    HANG_AFTER = "hang_after"
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    RATE_LIMIT = "rate_limit"
    MONTHLY_LIMIT = "monthly_limit"
    UNAUTHORIZED = "unauthorized"


@dataclass(frozen=True, slots=True)
class Channel:
    """A clinic's Messaging API channel. Its repr leaves the secret out."""

    channel_id: str
    channel_secret: str = field(repr=False)
    bot_user_id: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Messages that LINE accepted. `reached`: the user saw them (not when blocked).

    `reply_token` for a reply, `retry_key` for a push.
    """

    channel_id: str
    to: str
    how: LineCall
    messages: Sequence[Mapping[str, Any]]
    message_ids: tuple[str, ...]
    at_ms: int
    reply_token: str | None = None
    retry_key: str | None = None
    reached: bool = True

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(m["text"] for m in self.messages if "text" in m)


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A request that a well-behaved client does not send."""

    channel_id: str
    call: LineCall
    rule: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class CallSeen:
    """What a fault's predicate looks at."""

    call: LineCall
    channel_id: str
    body: Mapping[str, Any]


@dataclass(slots=True)
class SentContent:
    """What a customer has sent besides words. `preparing`: how often LINE says that it is being prepared.
    `status`: 404 and 410 for what is gone. `drip_s`, `cut_at`: see http_server.Response. `fetched`: how often
    it was handed out."""

    data: bytes
    media_type: str = "image/jpeg"
    preparing: int = 0
    status: int = 200
    drip_s: float = 0.0
    cut_at: int | None = None
    fetched: int = 0


@dataclass(slots=True)
class ReplyToken:
    channel_id: str
    to: str
    expires_ms: int
    used: bool = False


@dataclass(frozen=True, slots=True)
class ReadToken:
    """Marks a customer's message, and what came before it in its chat, as read."""

    channel_id: str
    chat_id: str
    message_id: str


@dataclass(slots=True)
class ChannelState:
    """`revoked`: its secret was reissued, so tokens and requests for tokens are refused.
    `monthly_limit`: pushed messages a month, None for no end; replies are free. `webhook_active` and
    `chat_mode` are what a person switches in LINE's console. `friends`: names by user id. `groups`: by the id
    of a group or room that the bot is in, its members' names; `left`: those that it was taken out of."""

    channel: Channel
    revoked: bool = False
    monthly_limit: int | None = None
    pushed: int = 0
    webhook_url: str = ""
    webhook_active: bool = True
    chat_mode: str = "bot"
    blocked: set[str] = field(default_factory=set)
    friends: dict[str, str] = field(default_factory=dict)
    groups: dict[str, dict[str, str]] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    accepted_keys: dict[str, tuple[str, Delivery]] = field(default_factory=dict)


class LineState:
    """The stand-in's memory. Times are Unix milliseconds; `now_ms` is handed in by who knows the time."""

    def __init__(self) -> None:
        self.channels: dict[str, ChannelState] = {}
        self.access_tokens: dict[str, tuple[str, int]] = {}
        self.reply_tokens: dict[str, ReplyToken] = {}
        self.read_tokens: dict[str, ReadToken] = {}
        self.read: list[ReadToken] = []
        self.contents: dict[str, SentContent] = {}
        self.deliveries: list[Delivery] = []
        self.broken_rules: list[BrokenRule] = []
        self.calls: Counter[tuple[LineCall, int]] = Counter()
        self.request_ids: deque[tuple[LineCall, int, str]] = deque(maxlen=1_000)
        self._last_message_id = 500_000_000_000_000_000

    def next_message_id(self) -> str:
        self._last_message_id += 1
        return str(self._last_message_id)

    def issue_access_token(self, channel_id: str, now_ms: int, *, life_s: int) -> str:
        token = f"eyJ.{channel_id}.{secrets.token_urlsafe(24)}"
        self.access_tokens[token] = (channel_id, now_ms + life_s * 1000)
        return token

    def channel_of(self, authorization: str, now_ms: int) -> ChannelState | None:
        """Of a bearer that is valid now."""
        token = authorization.removeprefix("Bearer ")
        channel_id, expires_ms = self.access_tokens.get(token, ("", 0))
        state = self.channels.get(channel_id)
        return state if state is not None and expires_ms > now_ms and not state.revoked else None

    def accept(
        self,
        state: ChannelState,
        to: str,
        how: LineCall,
        messages: Sequence[Mapping[str, Any]],
        now_ms: int,
        *,
        reply_token: str | None = None,
        retry_key: str | None = None,
    ) -> Delivery:
        delivery = Delivery(
            state.channel.channel_id,
            to,
            how,
            messages,
            tuple(self.next_message_id() for _ in messages),
            now_ms,
            reply_token,
            retry_key,
            reached=to not in state.blocked,
        )
        self.deliveries.append(delivery)
        return delivery
