"""OpenAI's chat completions: one attempt a call, no retries of the SDK's own, every fault named."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from typing import Any, cast

import httpx2
import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from core.ports.clock import Clock
from core.ports.llm import LlmAnswer, LlmError, LlmFault, LlmRequest, Usage

CONNECT_TIMEOUT_S = 3.0
LONGEST_RETRY_AFTER_MS = 3_600_000
"""A longer wish is cut to it: no turn waits so long, and none of what counts with it overflows."""

# 429, 403 or 400, by the provider's error code: nothing that time alone heals.
QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_hard_limit_reached",
        "billing_not_active",
    }
)
QUOTA_CODE_ENDINGS = ("_spend_limit_exceeded", "_usage_limit_exceeded")
RETRYABLE_STATUSES = frozenset({408, 409})

# Nothing was sent, hence nothing billed.
_BEFORE_SENDING = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class OpenAiLlm:
    """`base_url` None: OpenAI itself. The client is made on the first call, in the running event loop."""

    def __init__(self, api_key: str, clock: Clock, base_url: str | None = None) -> None:
        self._api_key = api_key
        self._clock = clock
        self._base_url = base_url
        self._client: openai.AsyncOpenAI | None = None

    def __repr__(self) -> str:
        return f"OpenAiLlm({self._base_url or 'OpenAI'})"

    async def complete(self, request: LlmRequest, *, timeout_s: float) -> LlmAnswer:
        """See core.ports.llm. The time limit is the whole attempt's: the SDK's own starts anew with every
        byte that arrives."""
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._create(request, timeout_s)
        except TimeoutError as exc:
            raise LlmError(LlmFault.AMBIGUOUS, f"no answer within {timeout_s:g} s", code="timeout") from exc
        except openai.APIStatusError as exc:
            raise self._answered_with_fault(exc) from exc
        except openai.APIConnectionError as exc:
            raise _connection_fault(exc) from exc
        except (openai.OpenAIError, ValueError) as exc:
            raise _unreadable() from exc
        return _answer(response, request)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _create(self, request: LlmRequest, timeout_s: float) -> object:
        if self._client is None:
            self._client = openai.AsyncOpenAI(api_key=self._api_key, base_url=self._base_url, max_retries=0)
        return await self._client.chat.completions.create(
            **_parameters(request),
            timeout=httpx2.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
        )

    def _answered_with_fault(self, exc: openai.APIStatusError) -> LlmError:
        """The detail names status, code and request, never the provider's sentence: it may quote a prompt or
        a part of the key."""
        code = exc.code or exc.type
        retry_after_ms = self._retry_after_ms(exc.response.headers)
        if _is_quota(exc.code) or _is_quota(exc.type):
            fault = LlmFault.QUOTA
        elif exc.status_code == 429:
            fault = LlmFault.RATE_LIMITED
        elif exc.status_code in RETRYABLE_STATUSES or exc.status_code >= 500:
            fault = LlmFault.RETRYABLE
        else:
            fault = LlmFault.REJECTED
        detail = f"{exc.status_code} {code or ''} param={exc.param} request={exc.request_id}"
        return LlmError(fault, detail, status=exc.status_code, code=code, retry_after_ms=retry_after_ms)

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


def _parameters(request: LlmRequest) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "model": request.model,
        "messages": cast(
            "list[ChatCompletionMessageParam]",
            [{"role": message.role, "content": message.content} for message in request.messages],
        ),
        request.output_limit: request.max_tokens,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": request.schema_name, "schema": request.schema, "strict": True},
        },
        # The prices and the worst case are the default tier's; a project may be set to another one.
        "service_tier": "default",
        "store": False,
    }
    optional = {
        "temperature": request.temperature,
        "reasoning_effort": request.reasoning_effort,
        "prompt_cache_key": request.cache_key,
    }
    return parameters | {name: value for name, value in optional.items() if value is not None}


def _answer(response: object, request: LlmRequest) -> LlmAnswer:
    """An answer without text (a refusal, a content filter, no choice at all) is billed, hence an answer: its
    content is empty and `finish_reason` says why."""
    if not isinstance(response, ChatCompletion):
        raise _unreadable()
    content, finish_reason = "", "no_choice"
    try:
        for choice in response.choices[:1]:
            refused = bool(choice.message.refusal)
            content = "" if refused else choice.message.content or ""
            finish_reason = "refusal" if refused else str(choice.finish_reason)
        return LlmAnswer(
            content=content,
            usage=_usage(response.usage),
            model=response.model or request.model,
            finish_reason=finish_reason,
            service_tier=response.service_tier,
            request_id=response._request_id,  # noqa: SLF001  public, says the SDK
        )
    except (AttributeError, TypeError) as exc:
        # The SDK does not check responses: what the API left out is None.
        raise _unreadable() from exc


def _unreadable() -> LlmError:
    """It said 200, so it was billed, but what came is not an answer."""
    return LlmError(LlmFault.AMBIGUOUS, "the response can't be read", code="unreadable")


def _usage(usage: CompletionUsage | None) -> Usage | None:
    """As the provider counted; None if it did not say."""
    read = usage.prompt_tokens if usage else None
    written = usage.completion_tokens if usage else None
    if usage is None or read is None or written is None:
        return None
    details = usage.prompt_tokens_details
    return Usage(
        input=read,
        output=written,
        cached=(details.cached_tokens if details else None) or 0,
        cache_write=(details.cache_write_tokens if details else None) or 0,
    )


def _connection_fault(exc: openai.APIConnectionError) -> LlmError:
    if isinstance(exc.__cause__, _BEFORE_SENDING):
        return LlmError(LlmFault.RETRYABLE, "no connection to the provider", code="no_connection")
    timed_out = isinstance(exc, openai.APITimeoutError)
    code = "timeout" if timed_out else "connection_lost"
    return LlmError(LlmFault.AMBIGUOUS, "the request was sent and no answer came", code=code)


def _is_quota(code: str | None) -> bool:
    return code is not None and (code in QUOTA_CODES or code.endswith(QUOTA_CODE_ENDINGS))


def _bounded(wish_ms: float) -> int:
    """Raises ValueError for what is no number."""
    return min(max(round(wish_ms), 0), LONGEST_RETRY_AFTER_MS)


def _date_ms(header: str | None) -> int | None:
    try:
        return round(parsedate_to_datetime(header or "").timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
