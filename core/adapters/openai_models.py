"""Which models the provider's key may use: `GET /v1/models`."""

from __future__ import annotations

import openai

from core.domain.errors import UnavailableError
from core.ports.llm import LlmError, LlmFault


async def list_models(
    api_key: str, base_url: str | None = None, *, timeout_s: float = 10.0
) -> frozenset[str]:
    """Names of the models. Raises LlmError REJECTED (401: not a key; 403: a key that may not list models)
    and UnavailableError. Never repeats the provider's sentence, which quotes parts of the key."""
    async with openai.AsyncOpenAI(
        api_key=api_key, base_url=base_url, max_retries=1, timeout=timeout_s
    ) as client:
        try:
            return frozenset([model.id async for model in client.models.list()])
        except openai.APIStatusError as exc:
            code = exc.code or exc.type or "refused"
            if exc.status_code in {401, 403}:
                detail = f"{exc.status_code} {code}"
                raise LlmError(LlmFault.REJECTED, detail, status=exc.status_code, code=exc.code) from None
            raise UnavailableError(f"the provider answered {exc.status_code} {code}") from None
        except openai.OpenAIError as exc:
            raise UnavailableError(f"the provider does not answer: {type(exc).__name__}") from exc
