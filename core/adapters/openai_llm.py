"""OpenAI's chat completions: one attempt a call, no retries of the SDK's own, every fault named."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any, cast

import httpx2
import openai

from core.adapters.openai_dialects import dialect_of
from core.adapters.openai_http import DirectAsyncClient
from core.domain.model_reply import CONTENT_FILTER, CUT_OFF, NO_CHOICE, NO_MESSAGE, REFUSAL
from core.domain.prompt import Message, Picture
from core.ports.clock import Clock
from core.ports.llm import LlmAnswer, LlmError, LlmFault, LlmRequest, Usage

CONNECT_TIMEOUT_S = 3.0
MAX_RETRY_AFTER_MS = 3_600_000
"""A longer wish is cut to it: no turn waits so long, and none of what counts with it overflows."""

# 429, 403 or 400, by the end of the error code: nothing that time alone heals.
QUOTA_CODE_ENDINGS = ("_spend_limit_exceeded", "_usage_limit_exceeded")
RETRYABLE_STATUSES = frozenset({408, 409})

# An error that came with a 200 is known by its code or type alone; any other one passes.
RATE_CODES = frozenset({"rate_limit_exceeded", "rate_limit_error", "requests", "tokens"})
PERMANENT_CODES = frozenset(
    {
        "authentication_error",
        "content_filter",
        "content_policy_violation",
        "context_length_exceeded",
        "invalid_api_key",
        "invalid_prompt",
        "invalid_request_error",
        "not_found_error",
        "permission_error",
    }
)
_WITHOUT_TEXT = frozenset({CONTENT_FILTER, CUT_OFF, NO_CHOICE, REFUSAL})
"""Endings that say why there is no text."""
MAX_TOKENS = 10_000_000
"""A larger count is none: no model reads or writes as many."""
_NAME = re.compile(r"[\w.\[\]-]{1,64}", re.ASCII)

# Nothing was sent, hence nothing billed.
_BEFORE_SENDING = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class OpenAiLlm:
    """`base_url` None: OpenAI itself; its host says how the provider differs (openai_dialects.py). The client
    is made on the first call, in the running event loop."""

    def __init__(self, api_key: str, clock: Clock, base_url: str | None = None) -> None:
        self._api_key = api_key
        self._clock = clock
        self._base_url = base_url
        self._dialect = dialect_of(base_url)
        self._client: openai.AsyncOpenAI | None = None

    def __repr__(self) -> str:
        return f"OpenAiLlm({self._base_url or 'OpenAI'})"

    async def complete(self, request: LlmRequest, *, timeout_s: float) -> LlmAnswer:
        """See core.ports.llm. The time limit is the whole attempt's: the SDK's own starts anew with every
        byte that arrives."""
        async with self._attempt(timeout_s):
            response = await self._create(request, timeout_s)
        body = body_of(response)
        if body.get("error") is not None and not _choices(body):
            raise self._error_in_200(body["error"], response.headers)
        return _answer(body, request, _name(response.headers.get("x-request-id")))

    @asynccontextmanager
    async def _attempt(self, timeout_s: float) -> AsyncIterator[None]:
        """One call: whatever goes wrong in it is an LlmError."""
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError as exc:
            raise LlmError(LlmFault.AMBIGUOUS, f"no answer within {timeout_s:g} s", code="timeout") from exc
        except openai.APIStatusError as exc:
            raise self._answered_with_fault(exc) from exc
        except openai.APIConnectionError as exc:
            raise connection_fault(exc) from exc
        except (openai.OpenAIError, ValueError) as exc:
            raise unreadable() from exc

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _create(self, request: LlmRequest, timeout_s: float) -> httpx2.Response:
        """Raw, since the SDK does not check what it parses: any field may have any type, or be missing. And
        by path, as the SDK's page shows for what it has no method for: its method copies the whole request
        through its types first."""
        return await self._opened().post(
            "/chat/completions",
            cast_to=httpx2.Response,
            body={
                "messages": [
                    {"role": message.role, "content": _content(message)} for message in request.messages
                ],
                **self._dialect.parameters(request),
            },
            options={"timeout": timeout_s},
        )

    def _opened(self) -> openai.AsyncOpenAI:
        if self._client is None:
            self._client = openai.AsyncOpenAI(
                api_key=self._api_key,
                base_url=self._base_url,
                max_retries=0,
                http_client=DirectAsyncClient(CONNECT_TIMEOUT_S),
            )
        return self._client

    def _answered_with_fault(self, exc: openai.APIStatusError) -> LlmError:
        """The detail names status, code and request, never the provider's sentence: it may quote a prompt or
        a part of the key."""
        code, kind = _name(exc.code), _name(exc.type)
        if exc.status_code in self._dialect.quota_statuses or self._is_quota(code) or self._is_quota(kind):
            fault = LlmFault.QUOTA
        elif exc.status_code == 429:
            fault = LlmFault.RATE_LIMITED
        elif exc.status_code in {400, 404} and {code, kind} & self._dialect.no_model:
            fault = LlmFault.NO_MODEL
        elif exc.status_code in RETRYABLE_STATUSES or exc.status_code >= 500:
            fault = LlmFault.RETRYABLE
        else:
            fault = LlmFault.REJECTED
        named = f"{code or kind or ''} param={_name(exc.param)} request={_name(exc.request_id)}"
        return LlmError(
            fault,
            f"{exc.status_code} {named}",
            status=exc.status_code,
            code=code or kind,
            retry_after_ms=self._retry_after_ms(exc.response.headers),
        )

    def _error_in_200(self, error: object, headers: httpx2.Headers) -> LlmError:
        """A gateway's 200 around an error: nothing was answered, hence nothing billed."""
        fields = error if isinstance(error, Mapping) else {}
        code, kind = _name(fields.get("code")), _name(fields.get("type"))
        names, status = {code, kind}, count_of(code)
        if self._is_quota(code) or self._is_quota(kind):
            fault = LlmFault.QUOTA
        elif names & self._dialect.no_model:
            fault = LlmFault.NO_MODEL
        elif status == 429 or names & RATE_CODES:
            fault = LlmFault.RATE_LIMITED
        elif names & PERMANENT_CODES or (status and 400 <= status < 500 and status not in RETRYABLE_STATUSES):
            fault = LlmFault.REJECTED
        else:
            fault = LlmFault.RETRYABLE
        code = code or kind
        wait_ms = self._retry_after_ms(headers)
        return LlmError(fault, f"200 with an error {code}", status=200, code=code, retry_after_ms=wait_ms)

    def _is_quota(self, code: str | None) -> bool:
        return code is not None and (code in self._dialect.quota or code.endswith(QUOTA_CODE_ENDINGS))

    def _retry_after_ms(self, headers: httpx2.Headers) -> int | None:
        """`retry-after-ms`, else `Retry-After` in seconds or as a date (RFC 9110). None if there is none."""
        for name, unit_ms in (("retry-after-ms", 1), ("retry-after", 1000)):
            try:
                return _bounded(float(headers[name]) * unit_ms)
            except (KeyError, ValueError, OverflowError):
                continue
        until = _date_ms(headers.get("retry-after"))
        if until is None:
            return None
        # Counted from the provider's own clock, since ours may be off.
        now = _date_ms(headers.get("date"))
        return _bounded(until - (self._clock.now_ms() if now is None else now))


def _content(message: Message) -> str | list[dict[str, Any]]:
    return [_part(part) for part in message.parts()] if message.pictures else message.content


def _part(part: str | Picture) -> dict[str, Any]:
    """`detail: high`: what a picture takes has the bound that its model's `picture_tokens` states."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    url = f"data:image/jpeg;base64,{base64.b64encode(part.jpeg).decode()}"
    return {"type": "image_url", "image_url": {"url": url, "detail": "high"}}


def body_of(response: httpx2.Response) -> Mapping[str, Any]:
    """The first JSON object of the response."""
    try:
        text = response.text.lstrip("\ufeff \t\r\n")
        body, _ = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError) as exc:
        raise unreadable() from exc
    if not isinstance(body, dict):
        raise unreadable()
    return body


def _choices(body: Mapping[str, Any]) -> list[Any]:
    choices = body.get("choices")
    return choices if isinstance(choices, list) else []


def _answer(body: Mapping[str, Any], request: LlmRequest, request_id: str | None) -> LlmAnswer:
    """An answer without text (a refusal, a content filter, no choice at all) is billed, hence an answer: its
    content is empty and `finish_reason` says why. Counts are read whatever the rest is like."""
    usage = _usage(body.get("usage"))
    choices = _choices(body)
    content, finish_reason = _message(choices[0]) if choices else ("", NO_CHOICE)
    if usage is None and finish_reason == NO_CHOICE:
        raise unreadable()
    return LlmAnswer(
        content=content,
        usage=usage,
        model=_name(body.get("model")) or request.model,
        finish_reason=finish_reason,
        service_tier=_name(body.get("service_tier")),
        request_id=request_id,
    )


def _message(choice: object) -> tuple[str, str]:
    """Its text, and how it ended."""
    fields = choice if isinstance(choice, dict) else {}
    message = fields.get("message")
    finish_reason = _name(fields.get("finish_reason")) or "unknown"
    if not isinstance(message, dict):
        message, finish_reason = {}, NO_CHOICE if finish_reason == "unknown" else finish_reason
    content = message.get("content")
    if message.get("refusal"):
        return "", REFUSAL
    if isinstance(content, str):
        return content, finish_reason
    return "", finish_reason if finish_reason in _WITHOUT_TEXT else NO_MESSAGE


def unreadable() -> LlmError:
    """It said 200, so it was billed, but what came is not an answer."""
    return LlmError(LlmFault.AMBIGUOUS, "the response can't be read", code="unreadable")


def _usage(usage: object) -> Usage | None:
    """As the provider counted; None if it did not say, or said what can't be: a call reads something. What
    the total has beyond its parts was written, too: reasoning that a provider leaves out of the answer's
    tokens."""
    counts = usage if isinstance(usage, dict) else {}
    read, written, total = (
        count_of(counts.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    if not read or (written is None and (total is None or total < read)):
        return None
    details = counts.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    return Usage(
        input=read,
        output=max(written or 0, (total or 0) - read),
        cached=count_of(details.get("cached_tokens")) or 0,
        cache_write=count_of(details.get("cache_write_tokens")) or 0,
    )


def count_of(value: object) -> int | None:
    """A number of tokens, whatever type it came in; None for what is none."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    counted = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS
    return cast("int", value) if counted else None


def _name(value: object) -> str | None:
    """A code or an id as it may be logged: a short word, whatever came."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if _NAME.fullmatch(text) else None


def connection_fault(exc: openai.APIConnectionError) -> LlmError:
    if isinstance(exc.__cause__, _BEFORE_SENDING):
        return LlmError(LlmFault.RETRYABLE, "no connection to the provider", code="no_connection")
    timed_out = isinstance(exc, openai.APITimeoutError)
    code = "timeout" if timed_out else "connection_lost"
    return LlmError(LlmFault.AMBIGUOUS, "the request was sent and no answer came", code=code)


def _bounded(wish_ms: float) -> int:
    """Raises ValueError for what is no number."""
    return min(max(round(wish_ms), 0), MAX_RETRY_AFTER_MS)


def _date_ms(header: str | None) -> int | None:
    try:
        return round(parsedate_to_datetime(header or "").timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
