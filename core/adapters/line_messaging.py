"""LINE's Messaging API: one pooled client for all channels, every fault named.

Source: developers.line.biz/en/reference/messaging-api/ ("Status codes", "Error messages").
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from core.adapters.http_client import HttpClient, HttpResponse, NotSentError
from core.adapters.line_tokens import LineTokens
from core.adapters.redis_line_tokens import ChannelToken, RedisLineTokens
from core.adapters.system_clock import SystemClock
from core.domain.errors import ChannelUnavailableError, FairlaneError, LineUnavailableError
from core.ports import log
from core.ports.clock import Clock
from core.ports.line import ChannelCredentials, LineError, LineFault, LineMessage, Sent

_CONNECT_S = 2.0
_IDLE_S = 30.0
_ACCEPTED_BEFORE = 409  # in answer to a retry key
_MAX_DETAIL = 200
_MAX_RETRY_AFTER_MS = 3_600_000


class LineMessagingApi:
    """`timeout_s` bounds each call in all, and so does a token's issue on its own. `tokens` None: tokens are
    not shared with other processes. The client is made on first use (the module is imported before the
    server forks)."""

    def __init__(
        self,
        base_url: str,
        tokens: RedisLineTokens | None = None,
        *,
        clock: Clock | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._tokens = LineTokens(self._issue_token, tokens, clock or SystemClock())
        self._client: HttpClient | None = None

    async def reply(
        self, channel: ChannelCredentials, reply_token: str, messages: Sequence[LineMessage]
    ) -> Sent:
        """See the port. It takes no retry key: LINE accepts a reply token once."""
        body = {"replyToken": reply_token, "messages": [dict(message) for message in messages]}
        response = await self._call(channel, "POST", "/v2/bot/message/reply", body)
        return Sent(_sent_ids(response))

    async def push(
        self, channel: ChannelCredentials, to: str, messages: Sequence[LineMessage], *, retry_key: str
    ) -> Sent:
        """See the port. 409 is success: LINE had accepted this retry key before."""
        body = {"to": to, "messages": [dict(message) for message in messages]}
        headers = {"X-Line-Retry-Key": retry_key}
        response = await self._call(channel, "POST", "/v2/bot/message/push", body, headers)
        return Sent(_sent_ids(response), duplicate=response.status == _ACCEPTED_BEFORE)

    async def show_loading(self, channel: ChannelCredentials, chat_id: str, seconds: int) -> None:
        """See the port. LINE takes 5 to 60 seconds in steps of five."""
        body = {"chatId": chat_id, "loadingSeconds": min(60, max(5, -(-seconds // 5) * 5))}
        try:
            await self._call(channel, "POST", "/v2/bot/chat/loading/start", body)
        except FairlaneError as exc:
            log.debug("line.loading_failed", reason=str(exc))

    async def mark_as_read(self, channel: ChannelCredentials, read_token: str) -> None:
        """See the port. https://developers.line.biz/en/reference/messaging-api/#mark-as-read"""
        try:
            await self._call(channel, "POST", "/v2/bot/chat/markAsRead", {"markAsReadToken": read_token})
        except FairlaneError as exc:
            log.debug("line.read_mark_failed", reason=str(exc))

    async def display_name(
        self, channel: ChannelCredentials, user_id: str, *, chat_id: str, chat_type: str
    ) -> str:
        """See the port. https://developers.line.biz/en/reference/messaging-api/#get-profile"""
        user = quote(user_id, safe="")
        path = f"/v2/bot/profile/{user}"
        if chat_type != "user":
            path = f"/v2/bot/{chat_type}/{quote(chat_id, safe='')}/member/{user}"
        name = _json(await self._call(channel, "GET", path)).get("displayName")
        return name if isinstance(name, str) else ""

    async def bot_info(self, channel: ChannelCredentials) -> Mapping[str, Any]:
        """See the port."""
        return _json(await self._call(channel, "GET", "/v2/bot/info"))

    async def get_webhook(self, channel: ChannelCredentials) -> Mapping[str, Any]:
        """See the port."""
        return _json(await self._call(channel, "GET", "/v2/bot/channel/webhook/endpoint"))

    async def set_webhook(self, channel: ChannelCredentials, url: str) -> None:
        """See the port."""
        await self._call(channel, "PUT", "/v2/bot/channel/webhook/endpoint", {"endpoint": url})

    async def test_webhook(self, channel: ChannelCredentials, url: str | None = None) -> Mapping[str, Any]:
        """See the port."""
        body = {"endpoint": url} if url else {}
        return _json(await self._call(channel, "POST", "/v2/bot/channel/webhook/test", body))

    async def bearer(self, channel: ChannelCredentials, *, refused: str | None = None) -> str:
        """An access token, for LINE's other API; see LineTokens. Raises as every call does."""
        return await self._tokens.bearer(channel, refused=refused)

    async def close(self) -> None:
        """End the pooled connections; a later call opens new ones."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _call(
        self,
        channel: ChannelCredentials,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpResponse:
        """The response if LINE accepted (409 to a retry key included). A token that LINE refuses is replaced
        once: a call that is refused has done nothing."""
        bearer = await self._tokens.bearer(channel)
        content, kind = b"", {}
        if body is not None:
            content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
            kind = {"Content-Type": "application/json"}
        for last in (False, True):
            request = {"Authorization": f"Bearer {bearer}", **kind, **(headers or {})}
            response = await self._send(method, path, request, content)
            if response.status != 401 or last:
                break
            bearer = await self._tokens.bearer(channel, refused=bearer)
        if _is_success(response) or (response.status == _ACCEPTED_BEFORE and headers):
            return response
        raise _fault(response)

    async def _issue_token(self, channel: ChannelCredentials) -> ChannelToken:
        form = {
            "grant_type": "client_credentials",
            "client_id": channel.channel_id,
            "client_secret": channel.channel_secret,
        }
        try:
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            response = await self._send("POST", "/oauth2/v3/token", kind, urlencode(form).encode())
        except LineError as exc:
            raise LineUnavailableError(f"no channel access token: {exc}") from exc
        answer = _json(response)
        if _is_success(response) and isinstance(answer.get("access_token"), str):
            return ChannelToken(answer["access_token"], float(answer.get("expires_in", 900)))
        if response.status in {400, 401, 403}:
            detail = f"no channel access token: {answer.get('error', 'refused')}"
            raise LineError(LineFault.UNAUTHORIZED, detail, status=response.status)
        # Whatever else it is, no message was sent; channels that have a token can send theirs.
        detail = f"no channel access token: HTTP {response.status}"
        raise ChannelUnavailableError(detail, retry_after_ms=_retry_after(response))

    async def _send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> HttpResponse:
        """Raises LineUnavailableError if nothing was sent, LineError AMBIGUOUS if no answer came. The id of
        a request that failed is logged: its support asks for it."""
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._pooled().request(
                    method, self._base_url + path, headers=headers, body=body
                )
        except NotSentError as exc:
            raise LineUnavailableError(f"LINE cannot be reached: {exc}") from exc
        except (OSError, TimeoutError) as exc:
            raise LineError(LineFault.AMBIGUOUS, f"no answer from LINE: {type(exc).__name__}") from exc
        if response.status >= 400 and response.status != _ACCEPTED_BEFORE:
            request_id = response.headers.get("x-line-request-id", "")[:_MAX_DETAIL]
            log.warning("line.call_failed", call=path, status=response.status, line_request_id=request_id)
        return response

    def _pooled(self) -> HttpClient:
        if self._client is None:
            connect_s = min(_CONNECT_S, self._timeout_s / 2)
            self._client = HttpClient(connect_s=connect_s, max_idle_s=_IDLE_S)
        return self._client


def _is_success(response: HttpResponse) -> bool:
    return 200 <= response.status < 300


def _fault(response: HttpResponse) -> LineError:
    status, detail = response.status, _detail(response)
    if status >= 500:
        return LineError(LineFault.AMBIGUOUS, detail, status=status)
    if status == 429:
        if "monthly limit" in detail.lower():
            return LineError(LineFault.QUOTA, detail, status=status)
        return LineError(LineFault.RATE_LIMITED, detail, status=status, retry_after_ms=_retry_after(response))
    if status == 401:
        return LineError(LineFault.UNAUTHORIZED, detail, status=status)
    if status == 400 and detail.lower().startswith("invalid reply token"):
        return LineError(LineFault.INVALID_TOKEN, detail, status=status)
    return LineError(LineFault.REJECTED, detail, status=status)


def _detail(response: HttpResponse) -> str:
    """LINE's own words: its message and the names of the properties it objects to, never their values."""
    body = _json(response)
    message = str(body.get("message") or body.get("error") or f"HTTP {response.status}")
    details = body.get("details")
    named = [str(d.get("property")) for d in details or () if isinstance(d, Mapping)]
    return f"{message} ({', '.join(named)})"[:_MAX_DETAIL] if named else message[:_MAX_DETAIL]


def _json(response: HttpResponse) -> Mapping[str, Any]:
    try:
        body = json.loads(response.body)
    except ValueError:
        return {}
    return body if isinstance(body, Mapping) else {}


def _sent_ids(response: HttpResponse) -> tuple[str, ...]:
    sent = _json(response).get("sentMessages")
    return tuple(
        str(message["id"]) for message in sent or () if isinstance(message, Mapping) and "id" in message
    )


def _retry_after(response: HttpResponse) -> int | None:
    """Seconds, as everybody sends it; a date, or what is no number, is left to our own backoff."""
    try:
        return min(max(0, round(float(response.headers["retry-after"]) * 1000)), _MAX_RETRY_AFTER_MS)
    except (KeyError, ValueError, OverflowError):
        return None
