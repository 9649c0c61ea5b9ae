"""A stand-in for LINE's Messaging API and its data API that keeps LINE's rules and remembers who broke them.

Source: developers.line.biz/en/reference/messaging-api/ and …/docs/messaging-api/retrying-api-request/.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from core.local import line_rules as rules
from core.local.faults import FaultScript
from core.local.http_server import HttpServer, Request, ResetConnectionError, Response
from core.local.line_calls import LineCalls, error, error_of, now_ms
from core.local.line_state import (
    BrokenRule,
    CallSeen,
    Channel,
    ChannelState,
    Delivery,
    LineCall,
    LineState,
    LineTrouble,
    ReadToken,
    ReplyToken,
    SentContent,
)
from core.local.specs import watched

__all__ = ["BrokenRule", "CallSeen", "Channel", "Delivery", "LineApi", "LineCall", "LineTrouble"]

_ROUTES: dict[tuple[str, str], LineCall] = {
    ("POST", "/v2/bot/message/reply"): LineCall.REPLY,
    ("POST", "/v2/bot/message/push"): LineCall.PUSH,
    ("POST", "/v2/bot/chat/loading/start"): LineCall.LOADING,
    ("POST", "/v2/bot/chat/markAsRead"): LineCall.MARK_AS_READ,
    ("GET", "/v2/bot/info"): LineCall.INFO,
    ("GET", "/v2/bot/channel/webhook/endpoint"): LineCall.WEBHOOK,
    ("PUT", "/v2/bot/channel/webhook/endpoint"): LineCall.WEBHOOK,
    ("POST", "/v2/bot/channel/webhook/test"): LineCall.WEBHOOK,
    ("GET", "/v2/bot/message/quota"): LineCall.QUOTA,
    ("GET", "/v2/bot/message/quota/consumption"): LineCall.QUOTA,
}
_CONTENT = re.compile(r"/v2/bot/message/[^/]+/content(?:/transcoding)?")
_PROFILE = re.compile(r"/v2/bot/(?:profile|(?:group|room)/[^/]+/member)/[^/]+")
_REFUSALS = {
    LineTrouble.RATE_LIMIT: (429, rules.RATE_LIMIT),
    LineTrouble.MONTHLY_LIMIT: (429, rules.MONTHLY_LIMIT),
    LineTrouble.UNAUTHORIZED: (401, rules.AUTHENTICATION_FAILED),
    LineTrouble.ERROR_BEFORE: (500, "Internal server error"),
}


class LineApi:
    """`faults` says which calls go wrong; `state` holds what was seen. `latency_s` is added to every call.

    `extra` answers further paths: the local stack hangs its own controls there.
    """

    def __init__(self, *, port: int = 0, latency_s: float = 0.0, seed: int = 0) -> None:
        self.state = LineState()
        self._calls = LineCalls(self.state)
        self.faults: FaultScript[LineTrouble, CallSeen] = FaultScript(seed)
        self.latency_s = latency_s
        self.extra: dict[tuple[str, str], Callable[[Request], Awaitable[Response]]] = {}
        self._server = HttpServer(watched("line", self._handle), port=port)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def deliveries(self) -> list[Delivery]:
        """Everything LINE accepted, in order."""
        return self.state.deliveries

    @property
    def broken_rules(self) -> list[BrokenRule]:
        return self.state.broken_rules

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    # What a test or the simulator arranges

    def add_channel(self, channel: Channel, *, monthly_limit: int | None = None) -> None:
        self.state.channels[channel.channel_id] = ChannelState(channel, monthly_limit=monthly_limit)

    def issue_reply_token(self, channel_id: str, to: str, *, life_s: float = 60.0) -> str:
        """For a message of chat `to`: good once, within `life_s`."""
        token = secrets.token_hex(16)
        self.state.reply_tokens[token] = ReplyToken(channel_id, to, now_ms() + int(life_s * 1000))
        return token

    def issue_read_token(self, channel_id: str, chat_id: str, message_id: str) -> str:
        """For a customer's message; once used, it stands in `state.read`."""
        token = secrets.token_urlsafe(24)
        self.state.read_tokens[token] = ReadToken(channel_id, chat_id, message_id)
        return token

    def renew_reply_token(self, token: str, *, life_s: float = 60.0) -> None:
        """A redelivered event's token gets a fresh minute."""
        self.state.reply_tokens[token].expires_ms = now_ms() + int(life_s * 1000)

    def add_content(self, message_id: str, data: bytes, **more: Any) -> SentContent:
        """What a customer's message holds; `more`: fields of SentContent."""
        content = self.state.contents[message_id] = SentContent(data, **more)
        return content

    def block(self, channel_id: str, user_id: str) -> None:
        """Deliveries to this user are accepted and reach nobody."""
        self.state.channels[channel_id].blocked.add(user_id)

    def befriend(self, channel_id: str, user_id: str, name: str) -> None:
        """A customer whose profile the bot may read."""
        self.state.channels[channel_id].friends[user_id] = name

    def join(self, channel_id: str, chat_id: str, members: Mapping[str, str]) -> None:
        """The bot is invited to a group or room; `members`: their names by user id."""
        channel = self.state.channels[channel_id]
        channel.groups[chat_id] = {**channel.groups.get(chat_id, {}), **members}
        channel.left.discard(chat_id)

    def leave(self, channel_id: str, chat_id: str) -> None:
        """The bot is taken out of a group or room: it can send nothing there."""
        channel = self.state.channels[channel_id]
        channel.groups.pop(chat_id, None)
        channel.left.add(chat_id)

    def revoke(self, channel_id: str) -> None:
        """As when the channel's secret is reissued in LINE's console."""
        self.state.channels[channel_id].revoked = True

    # Requests

    async def _handle(self, request: Request) -> Response:
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        extra = self.extra.get((request.method, request.path))
        if extra is not None:
            return await extra(request)
        if request.path == "/oauth2/v3/token":
            return await self._with_faults(LineCall.TOKEN, None, request, self._calls.token)
        call = _ROUTES.get((request.method, request.path))
        if request.method == "GET" and _PROFILE.fullmatch(request.path):
            call = LineCall.PROFILE
        if request.method == "GET" and _CONTENT.fullmatch(request.path):
            call = LineCall.CONTENT
        if call is None:
            return error(404, "Not found")
        state = self.state.channel_of(request.headers.get("authorization", ""), now_ms())
        if state is None:
            self._calls.broke(None, call, "needs a valid channel access token")
            return self._counted(call, error(401, rules.AUTHENTICATION_FAILED))
        work = self._calls.by_call[call]
        return await self._with_faults(call, state, request, lambda r: work(state, r))

    async def _with_faults(
        self,
        call: LineCall,
        state: ChannelState | None,
        request: Request,
        work: Callable[[Request], Awaitable[Response]],
    ) -> Response:
        body = request.json()
        channel_id = state.channel.channel_id if state else ""
        seen = CallSeen(call, channel_id, body if isinstance(body, dict) else {})
        trouble = self.faults.next(seen)
        if trouble in _REFUSALS:
            return self._counted(call, error_of(call, *_REFUSALS[trouble]))
        if trouble is LineTrouble.HANG_BEFORE:
            await asyncio.Event().wait()
        if trouble is LineTrouble.RESET_BEFORE:
            raise ResetConnectionError
        response = self._counted(call, await work(request))
        if trouble is LineTrouble.HANG_AFTER:
            await asyncio.Event().wait()
        if trouble is LineTrouble.RESET_AFTER:
            raise ResetConnectionError
        if trouble is LineTrouble.ERROR_AFTER:
            return self._with_id(call, error_of(call, *_REFUSALS[LineTrouble.ERROR_BEFORE]))
        return response

    def _counted(self, call: LineCall, response: Response) -> Response:
        self.state.calls[call, response.status] += 1
        return self._with_id(call, response)

    def _with_id(self, call: LineCall, response: Response) -> Response:
        """LINE gives every request that it answers an id."""
        headers = {"x-line-request-id": secrets.token_hex(16), **response.headers}
        self.state.request_ids.append((call, response.status, headers["x-line-request-id"]))
        return replace(response, headers=headers)
