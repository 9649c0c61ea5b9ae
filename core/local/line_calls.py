"""What each of LINE's calls does, when nothing is made to go wrong."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from core.local import line_rules as rules
from core.local.http_server import Request, Response
from core.local.line_state import BrokenRule, ChannelState, Delivery, LineCall, LineState
from core.local.line_webhook import test_webhook

_ACCESS_TOKEN_LIFE_S = 900
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def error(status: int, message: str, **more: Any) -> Response:
    return Response.of_json({"message": message, **more}, status)


def error_of(call: LineCall, status: int, message: str) -> Response:
    """The one call that answers as OAuth has it is the one for a token."""
    if call is LineCall.TOKEN:
        return Response.of_json({"error": "server_error", "error_description": message}, status)
    return error(status, message)


class LineCalls:
    def __init__(self, state: LineState) -> None:
        self.state = state
        self.by_call: dict[LineCall, Callable[[ChannelState, Request], Awaitable[Response]]] = {
            LineCall.REPLY: self._reply,
            LineCall.PUSH: self._push,
            LineCall.LOADING: self._loading,
            LineCall.MARK_AS_READ: self._mark_as_read,
            LineCall.INFO: self._info,
            LineCall.WEBHOOK: self._webhook,
            LineCall.QUOTA: self._quota,
            LineCall.PROFILE: self._profile,
            LineCall.CONTENT: self._content,
        }

    def broke(self, state: ChannelState | None, call: LineCall, rule: str) -> None:
        channel_id = state.channel.channel_id if state else ""
        self.state.broken_rules.append(BrokenRule(channel_id, call, rule, now_ms()))

    async def token(self, request: Request) -> Response:
        """Stateless channel access tokens: 15 minutes, cannot be revoked, any number of them."""
        form = {k: v[0] for k, v in parse_qs(request.body.decode("utf-8", "replace")).items()}
        if form.get("grant_type") != "client_credentials":
            return Response.of_json({"error": "unsupported_grant_type"}, 400)
        state = self.state.channels.get(form.get("client_id", ""))
        if state is None or state.revoked or form.get("client_secret") != state.channel.channel_secret:
            return Response.of_json(
                {"error": "invalid_client", "error_description": "invalid client_id or client_secret"}, 400
            )
        channel_id = state.channel.channel_id
        token = self.state.issue_access_token(channel_id, now_ms(), life_s=_ACCESS_TOKEN_LIFE_S)
        return Response.of_json(
            {"token_type": "Bearer", "access_token": token, "expires_in": _ACCESS_TOKEN_LIFE_S}
        )

    def _refused_messages(self, state: ChannelState, call: LineCall, body: Any) -> Response | None:
        if not isinstance(body, dict):
            self.broke(state, call, "the body is not a JSON object")
            return error(400, "The request body could not be parsed as JSON")
        details = rules.problems(body.get("messages"))
        if not details:
            return None
        self.broke(state, call, "; ".join(f"{d['property']}: {d['message']}" for d in details))
        return error(400, f"The request body has {len(details)} error(s)", details=details)

    async def _reply(self, state: ChannelState, request: Request) -> Response:
        body, now = request.json(), now_ms()
        if refused := self._refused_messages(state, LineCall.REPLY, body):
            return refused
        text = str(body.get("replyToken", ""))
        token = self.state.reply_tokens.get(text)
        if token is None or token.channel_id != state.channel.channel_id:
            self.broke(state, LineCall.REPLY, "a reply token of another channel, or of none")
            return error(400, rules.INVALID_REPLY_TOKEN)
        if token.used or token.expires_ms <= now:
            return error(400, rules.INVALID_REPLY_TOKEN)
        token.used = True
        delivery = self.state.accept(state, token.to, LineCall.REPLY, body["messages"], now, reply_token=text)
        return _sent(delivery)

    async def _push(self, state: ChannelState, request: Request) -> Response:
        body, now = request.json(), now_ms()
        if refused := self._refused_messages(state, LineCall.PUSH, body):
            return refused
        key = request.headers.get("x-line-retry-key")
        if key is None:
            self.broke(state, LineCall.PUSH, "a push without a retry key cannot be repeated safely")
        elif not _UUID.fullmatch(key):
            self.broke(state, LineCall.PUSH, "X-Line-Retry-Key is not a UUID")
            return error(400, "The X-Line-Retry-Key header must be a hexadecimal UUID")
        to = body.get("to")
        if not isinstance(to, str) or not re.fullmatch(r"[UCR][0-9a-f]{32}", to):
            self.broke(state, LineCall.PUSH, "`to` is not an id of a user, group or room")
            return error(400, "The property, 'to', in the request body is invalid")
        if key is not None and key in state.accepted_keys:
            request_id, delivery = state.accepted_keys[key]
            if list(delivery.messages) != body["messages"] or delivery.to != to:
                self.broke(state, LineCall.PUSH, "a retry key was used again for something else")
            headers = {"x-line-accepted-request-id": request_id}
            shown = {"message": rules.RETRY_KEY_ACCEPTED, "sentMessages": _sent_messages(delivery)}
            return Response.of_json(shown, 409, headers)
        if refused := _refused_now(state, to):
            return refused
        state.pushed += 1
        delivery = self.state.accept(state, to, LineCall.PUSH, body["messages"], now, retry_key=key)
        response = _sent(delivery)
        if key is not None:
            state.accepted_keys[key] = (response.headers["x-line-request-id"], delivery)
        return response

    async def _loading(self, state: ChannelState, request: Request) -> Response:
        body = request.json()
        seconds = body.get("loadingSeconds", 20) if isinstance(body, dict) else None
        chat_id = body.get("chatId") if isinstance(body, dict) else None
        if not isinstance(chat_id, str) or not chat_id.startswith("U") or seconds not in range(5, 61, 5):
            self.broke(state, LineCall.LOADING, "chatId of a user, loadingSeconds 5, 10, … 60")
            return error(400, "The request body has 1 error(s)")
        return Response.of_json({}, 202)

    async def _mark_as_read(self, state: ChannelState, request: Request) -> Response:
        body = request.json()
        token = (
            self.state.read_tokens.get(str(body.get("markAsReadToken"))) if isinstance(body, dict) else None
        )
        if token is None or token.channel_id != state.channel.channel_id:
            self.broke(state, LineCall.MARK_AS_READ, "a read token of another channel, or of none")
            return error(400, rules.INVALID_READ_TOKEN)
        self.state.read.append(token)
        return Response.of_json({})

    async def _info(self, state: ChannelState, _: Request) -> Response:
        channel = state.channel
        shown = {
            "userId": channel.bot_user_id,
            "basicId": f"@{channel.channel_id}",
            "displayName": channel.name or channel.channel_id,
            "chatMode": state.chat_mode,
            "markAsReadMode": "auto",
        }
        return Response.of_json(shown)

    async def _webhook(self, state: ChannelState, request: Request) -> Response:
        if request.method == "GET":
            if not state.webhook_url:
                return error(404, "Webhook endpoint is not set")
            return Response.of_json({"endpoint": state.webhook_url, "active": state.webhook_active})
        body = request.json() or {}
        url = body.get("endpoint", state.webhook_url)
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            return error(400, "The property, 'endpoint', in the request body is invalid")
        if request.method == "PUT":
            state.webhook_url = url
            return Response.of_json({})
        return Response.of_json(await test_webhook(state.channel, url))

    async def _profile(self, state: ChannelState, request: Request) -> Response:
        """A friend's by the plain profile; whoever is in a group by the member's, friend or not."""
        *_, chat_id, _, user_id = f"//{request.path}".split("/")
        is_member = "/member/" in request.path
        names = state.groups.get(chat_id, {}) if is_member else state.friends
        if user_id not in names:
            return error(404, "Not found")
        shown = {"userId": user_id, "displayName": names[user_id]}
        return Response.of_json(shown)

    async def _content(self, _: ChannelState, request: Request) -> Response:
        """LINE's data API: the bytes, or whether they are ready."""
        content = self.state.contents.get(request.path.split("/")[4])
        if content is None or content.status >= 400:
            return error(content.status if content else 404, "Not found")
        if request.path.endswith("/transcoding"):
            content.preparing = max(0, content.preparing - 1)
            return Response.of_json({"status": "processing" if content.preparing else "succeeded"})
        if content.preparing:  # https://developers.line.biz/en/reference/messaging-api/#get-content
            return Response(202, described=False)
        content.fetched += 1
        headers = {"content-type": content.media_type}
        return Response(200, content.data, headers, content.drip_s, content.cut_at)

    async def _quota(self, state: ChannelState, request: Request) -> Response:
        if request.path.endswith("consumption"):
            return Response.of_json({"totalUsage": state.pushed})
        if state.monthly_limit is None:
            return Response.of_json({"type": "none"})
        return Response.of_json({"type": "limited", "value": state.monthly_limit})


def _refused_now(state: ChannelState, to: str) -> Response | None:
    """A push that is well formed, and that LINE takes from nobody in this place."""
    if to in state.left:
        return error(400, rules.FAILED_TO_SEND)
    if state.monthly_limit is not None and state.pushed >= state.monthly_limit:
        return error(429, rules.MONTHLY_LIMIT)
    return None


def _sent_messages(delivery: Delivery) -> list[dict[str, str]]:
    return [{"id": i, "quoteToken": f"q{i}"} for i in delivery.message_ids]


def _sent(delivery: Delivery) -> Response:
    headers = {"x-line-request-id": secrets.token_hex(16)}
    return Response.of_json({"sentMessages": _sent_messages(delivery)}, 200, headers)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
