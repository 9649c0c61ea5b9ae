"""What can be made to go wrong with a call of the OpenAI stand-in, and how OpenAI's errors look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from core.local.http_server import Response
from core.local.openai_checks import RefusedError


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
    TRUNCATED_JSON = "truncated_json"  # a good HTTP answer whose content is cut JSON
    WRONG_SCHEMA = "wrong_schema"  # a good HTTP answer that ignores the schema


BILLED = frozenset(
    {LlmFaultKind.DRIP, LlmFaultKind.CUT_BODY, LlmFaultKind.TRUNCATED_JSON, LlmFaultKind.WRONG_SCHEMA}
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
}


def refusal(trouble: LlmTrouble, request_id: str) -> Response:
    headers = {}
    if trouble.retry_after_s is not None:
        headers["retry-after"] = f"{trouble.retry_after_s:g}"
    if trouble.retry_after_ms is not None:
        headers["retry-after-ms"] = str(trouble.retry_after_ms)
    return error_response(_REFUSALS[trouble.kind], request_id, headers)


def error_response(exc: RefusedError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    error = {"message": str(exc), "type": exc.kind, "param": exc.param, "code": exc.code}
    return Response.of_json({"error": error}, exc.status, {"x-request-id": request_id, **(headers or {})})
