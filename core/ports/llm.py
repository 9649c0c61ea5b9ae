"""The language model: one chat completion, one attempt; whoever calls it decides about retries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from core.domain.errors import FairlaneError
from core.domain.prices import OutputLimit
from core.domain.prompt import Message


@dataclass(frozen=True, slots=True)
class LlmRequest:
    """One call. `schema` is a strict JSON schema named `schema_name`; parameters a model does not take are
    None, and `output_limit` names the one that bounds its answer (the table is in core.domain.prices).
    `cache_key` routes equal prefixes to the same cache."""

    model: str
    messages: Sequence[Message]
    max_tokens: int
    schema_name: str
    schema: Mapping[str, Any]
    temperature: float | None = None
    reasoning_effort: str | None = None
    output_limit: OutputLimit = "max_completion_tokens"
    cache_key: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them. `input` includes `cached` and `cache_write`."""

    input: int
    output: int
    cached: int = 0
    cache_write: int = 0


@dataclass(frozen=True, slots=True)
class LlmAnswer:
    """`usage` None: the provider left it out, so nobody knows what it billed."""

    content: str
    usage: Usage | None
    model: str
    finish_reason: str
    service_tier: str | None = None
    request_id: str | None = None


class LlmFault(StrEnum):
    """Why an attempt failed, by what can be done about it."""

    RETRYABLE = "retryable"  # 408, 409, 500, 502, 503, 504: answered, not billed
    AMBIGUOUS = "ambiguous"  # time-out, connection lost: may have been billed
    RATE_LIMITED = "rate_limited"  # 429 that passes
    QUOTA = "quota"  # 429 with a quota or spend-limit code: needs an operator
    NO_MODEL = "no_model"  # 404 model_not_found: retired, or never was
    REJECTED = "rejected"  # 400, 401, 403, 404, 422: will never work as it is

    @property
    def is_providers(self) -> bool:
        """Another provider may do better."""
        return self in {LlmFault.RETRYABLE, LlmFault.AMBIGUOUS, LlmFault.QUOTA, LlmFault.NO_MODEL}


class LlmError(FairlaneError):
    def __init__(
        self,
        fault: LlmFault,
        detail: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.fault = fault
        self.status = status
        self.code = code
        self.retry_after_ms = retry_after_ms


class Llm(Protocol):
    async def complete(self, request: LlmRequest, *, timeout_s: float) -> LlmAnswer:
        """One attempt, ended after `timeout_s` in all. Raises LlmError."""
        ...

    async def close(self) -> None: ...
