"""What can be made to go wrong with a call of the OpenAI stand-in, and how OpenAI's errors look."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from core.local.http_server import Response
from core.local.openai_refused import RefusedError


class LlmFaultKind(StrEnum):
    RATE_LIMIT = "rate_limit"  # 429 that passes
    QUOTA = "quota"  # 429 insufficient_quota
    ERROR_500 = "error_500"
    UNAVAILABLE = "unavailable"  # 503
    BAD_REQUEST = "bad_request"  # 400
    UNAUTHORIZED = "unauthorized"  # 401
    RESET = "reset"  # the connection breaks in the middle of the call
    HANG = "hang"  # accepted, never answered
    DRIP = "drip"  # the answer comes a byte every `drip_s`
    CUT_BODY = "cut_body"  # the HTTP body ends early
    TRUNCATED_JSON = "truncated_json"  # a good HTTP answer whose content is cut within the reply
    WRONG_SCHEMA = "wrong_schema"  # a good HTTP answer that ignores the schema
    REFUSAL = "refusal"  # the model declines: `refusal` is set, the content null
    CONTENT_FILTER = "content_filter"  # the answer was withheld
    NULL_MESSAGE = "null_message"
    TWICE = "twice"  # the whole object, twice
    FENCED = "fenced"  # the object in a Markdown fence, with words behind it
    DAMAGED = "damaged"  # a NUL stands in the reply where a letter was meant
    ERROR_IN_200 = "error_in_200"  # a gateway's error in a good HTTP answer, not billed


BILLED = frozenset(
    {
        LlmFaultKind.DRIP,
        LlmFaultKind.CUT_BODY,
        LlmFaultKind.TRUNCATED_JSON,
        LlmFaultKind.WRONG_SCHEMA,
        LlmFaultKind.REFUSAL,
        LlmFaultKind.CONTENT_FILTER,
        LlmFaultKind.NULL_MESSAGE,
        LlmFaultKind.TWICE,
        LlmFaultKind.FENCED,
        LlmFaultKind.DAMAGED,
    }
)


@dataclass(frozen=True, slots=True)
class LlmTrouble:
    """`late`: after the model's usual time instead of at once. Retry-After goes with 429 and 503."""

    kind: LlmFaultKind
    retry_after_s: float | None = None
    retry_after_ms: int | None = None
    late: bool = False
    drip_s: float = 0.2


_REFUSALS: Mapping[LlmFaultKind, RefusedError] = {
    LlmFaultKind.RATE_LIMIT: RefusedError(
        "Rate limit reached for requests", status=429, kind="requests", code="rate_limit_exceeded"
    ),
    LlmFaultKind.QUOTA: RefusedError(
        "You exceeded your current quota, please check your plan and billing details.",
        status=429,
        kind="insufficient_quota",
        code="insufficient_quota",
    ),
    LlmFaultKind.ERROR_500: RefusedError(
        "The server had an error while processing your request.", status=500, kind="server_error"
    ),
    LlmFaultKind.UNAVAILABLE: RefusedError(
        "The engine is currently overloaded, please try again later.", status=503, kind="server_error"
    ),
    LlmFaultKind.BAD_REQUEST: RefusedError("Invalid request.", code="invalid_value"),
    LlmFaultKind.UNAUTHORIZED: RefusedError(
        "Incorrect API key provided.", status=401, code="invalid_api_key"
    ),
    LlmFaultKind.ERROR_IN_200: RefusedError(
        "Provider returned error", status=200, kind="server_error", code="502"
    ),
}


def spoiled_content(kind: LlmFaultKind, content: str) -> str:
    """What the model wrote, spoiled."""
    match kind:
        case LlmFaultKind.TRUNCATED_JSON:
            return content[: content.find('"reply"') + 12]
        case LlmFaultKind.WRONG_SCHEMA:
            return '{"answer":"ค่ะ"}'
        case LlmFaultKind.TWICE:
            return f"{content}\n{content}"
        case LlmFaultKind.FENCED:
            return f"```json\n{content}\n```\nหวังว่าจะเป็นประโยชน์นะคะ"
        case LlmFaultKind.DAMAGED:
            answer = json.loads(content)
            return json.dumps({**answer, "reply": f"ฟอก\x00e2ฟัน {answer['reply']}"})
        case _:
            return content


def spoiled_choice(kind: LlmFaultKind | None, choice: dict[str, Any]) -> dict[str, Any]:
    """What stands around it, spoiled."""
    match kind:
        case LlmFaultKind.REFUSAL:
            return {**choice, "message": {**choice["message"], "content": None, "refusal": "I can't help."}}
        case LlmFaultKind.CONTENT_FILTER:
            withheld = {**choice["message"], "content": None}
            return {**choice, "message": withheld, "finish_reason": "content_filter"}
        case LlmFaultKind.NULL_MESSAGE:
            return {**choice, "message": None}
        case _:
            return choice


def refusal(trouble: LlmTrouble, request_id: str) -> Response:
    headers = {}
    if trouble.retry_after_s is not None:
        headers["retry-after"] = f"{trouble.retry_after_s:g}"
    if trouble.retry_after_ms is not None:
        headers["retry-after-ms"] = str(trouble.retry_after_ms)
    return error_response(_REFUSALS[trouble.kind], request_id, headers)


def error_response(exc: RefusedError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    error = {"message": str(exc), "type": exc.kind, "param": exc.param, "code": exc.code}
    shown = Response.of_json({"error": error}, exc.status, {"x-request-id": request_id, **(headers or {})})
    return shown if exc.status >= 400 else replace(shown, described=False)
