"""What each provider is sent, and how its errors are read."""

from __future__ import annotations

import pytest

from core.adapters.openai_dialects import DIALECTS, OPENAI, dialect_of
from core.domain.model_reply import SCHEMA, SCHEMA_NAME
from core.domain.prompt import Message
from core.ports.llm import LlmRequest

REQUEST = LlmRequest(
    "m",
    (Message("user", "hi"),),
    600,
    SCHEMA_NAME,
    SCHEMA,
    temperature=0.4,
    reasoning_effort="none",
    cache_key="k",
)


def test_who_is_not_listed_is_taken_for_openai() -> None:
    assert dialect_of(None) is dialect_of("https://api.openai.com/v1") is OPENAI
    assert dialect_of("http://127.0.0.1:8080/v1") is dialect_of("https://llm.example.com/v1") is OPENAI
    assert dialect_of("https://mine.openai.azure.com/openai/v1") is DIALECTS["openai.azure.com"]
    assert dialect_of("https://notapi.mistral.ai.example.com/v1") is OPENAI


@pytest.mark.parametrize("host", DIALECTS)
def test_every_provider_is_told_the_model_the_limit_and_a_form(host: str) -> None:
    sent = dialect_of(f"https://{host}/v1").parameters(REQUEST)
    assert sent["model"] == "m"
    assert {sent.get("max_tokens"), sent.get("max_completion_tokens")} == {600, None}
    assert sent["response_format"]["type"] in {"json_schema", "json_object"}
    assert None not in sent.values()


def test_what_is_openais_own_is_sent_to_openai_alone() -> None:
    own = {"store", "service_tier", "prompt_cache_key", "reasoning_effort"}
    assert own <= OPENAI.parameters(REQUEST).keys()
    assert not own & DIALECTS["api.mistral.ai"].parameters(REQUEST).keys()
