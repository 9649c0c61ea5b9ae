"""How providers that speak OpenAI's chat completions differ from OpenAI: one row each, by the host of their
address. Who is not listed is taken for one that is like OpenAI.

The rows are what is known of these APIs, without a page that each was read from; none was tried against its
provider: `fairlane rehearse` with the provider's key shows whether its row holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from core.ports.llm import LlmRequest

_QUOTA: Final = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_hard_limit_reached",
        "billing_not_active",
    }
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """`fixed`: sent with every call. `left_out`: parameters that it refuses or that mean something else
    there. `renamed`: what it calls a parameter. `answers`: how it is told to answer: strictly by the schema,
    or as JSON of which the prompt alone says the form. `quota`, `quota_statuses`: its codes and statuses for
    what only an operator can mend; `no_model`: its codes for a model that it does not have."""

    fixed: Mapping[str, Any] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    answers: Literal["json_schema", "json_object"] = "json_schema"
    quota: frozenset[str] = _QUOTA
    quota_statuses: frozenset[int] = frozenset()
    no_model: frozenset[str] = frozenset({"model_not_found"})

    def parameters(self, request: LlmRequest) -> dict[str, Any]:
        """All but the messages, as this provider takes them."""
        wanted = {
            "model": request.model,
            request.output_limit: request.max_tokens,
            "response_format": self._response_format(request),
            "temperature": request.temperature,
            "reasoning_effort": request.reasoning_effort,
            "prompt_cache_key": request.cache_key,
        }
        kept = {k: v for k, v in wanted.items() if v is not None and k not in self.left_out}
        return {self.renamed.get(k, k): v for k, v in kept.items()} | dict(self.fixed)

    def _response_format(self, request: LlmRequest) -> dict[str, Any]:
        if self.answers == "json_object":
            return {"type": "json_object"}
        schema = {"name": request.schema_name, "schema": request.schema, "strict": True}
        return {"type": "json_schema", "json_schema": schema}


# The prices and the worst case are the default tier's; a project may be set to another one.
OPENAI: Final = Dialect(fixed={"service_tier": "default", "store": False})
_OPENAIS_OWN: Final = frozenset({"prompt_cache_key", "reasoning_effort"})
_NO_CREDIT: Final = frozenset({402})
_SHORT_LIMIT: Final = {"max_completion_tokens": "max_tokens"}

DIALECTS: Final[Mapping[str, Dialect]] = {
    "api.openai.com": OPENAI,
    # Named deployments of one's own; a wrong one is a 404 of its own name.
    "openai.azure.com": Dialect(
        fixed={"store": False}, no_model=frozenset({"model_not_found", "DeploymentNotFound"})
    ),
    "generativelanguage.googleapis.com": Dialect(
        left_out=frozenset({"prompt_cache_key"}), no_model=frozenset({"model_not_found", "404", "NOT_FOUND"})
    ),
    # Its tiers have other names.
    "api.groq.com": Dialect(left_out=_OPENAIS_OWN),
    "api.mistral.ai": Dialect(
        left_out=_OPENAIS_OWN,
        renamed=_SHORT_LIMIT,
        no_model=frozenset({"model_not_found", "invalid_model", "1500"}),
    ),
    "openrouter.ai": Dialect(left_out=frozenset({"prompt_cache_key"}), quota_statuses=_NO_CREDIT),
    # No schemas: the prompt's own words and the parser must do.
    "api.deepseek.com": Dialect(
        left_out=_OPENAIS_OWN, renamed=_SHORT_LIMIT, answers="json_object", quota_statuses=_NO_CREDIT
    ),
}


def dialect_of(base_url: str | None) -> Dialect:
    host = urlsplit(base_url or "").hostname or ""
    parts = host.split(".")
    ways = (".".join(parts[n:]) for n in range(len(parts)))
    return next((DIALECTS[way] for way in ways if way in DIALECTS), OPENAI)
