"""The OpenAI stand-in, seen through OpenAI's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.tokens import text_bound
from core.local.openai_answers import instance_of, token_count
from core.local.openai_api import Latency, LlmFaultKind, LlmTrouble, OpenAiApi

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reply": {"type": "string"},
        "stage": {"type": ["string", "null"], "enum": ["greeting", "done", None]},
        "service": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "tone": {"type": "string", "enum": ["warm", "short"]},
        "facts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"key": {"type": "string"}},
                "required": ["key"],
                "additionalProperties": False,
            },
        },
        "handoff": {"type": "boolean"},
    },
    "required": ["reply", "stage", "service", "tone", "facts", "handoff"],
    "additionalProperties": False,
}


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "turn", "strict": True, "schema": schema}}


def asking(text: str = "ขูดหินปูนราคาเท่าไหร่คะ", **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "persona"}, {"role": "user", "content": text}]
    return {
        "model": "gpt-6.1-terra",
        "messages": messages,
        "max_completion_tokens": 600,
        "response_format": strict(SCHEMA),
        "prompt_cache_key": "bkk-smile",
        **more,
    }


@pytest.fixture
async def api() -> AsyncIterator[OpenAiApi]:
    stand_in = OpenAiApi(latency=Latency(median_s=0.02))
    await stand_in.start()
    yield stand_in
    await stand_in.stop()


@pytest.fixture
async def client(api: OpenAiApi) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=api.url, api_key="sk", max_retries=0, timeout=2.0) as made:
        yield made


async def test_answer_is_thai_quotes_the_customer_and_follows_the_schema(
    api: OpenAiApi, client: openai.AsyncOpenAI
) -> None:
    answer = await client.chat.completions.create(**asking("สวัสดีค่ะ\nอยากนัดวันเสาร์"))
    content = json.loads(answer.choices[0].message.content or "")
    assert "«สวัสดีค่ะ»" in content.pop("reply")
    assert content == {"stage": None, "service": None, "tone": "warm", "facts": [], "handoff": False}
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "gpt-6.1-terra"
    assert answer._request_id == api.calls[0].request_id
    assert (api.calls[0].clinic, api.calls[0].outcome) == ("bkk-smile", "answered")
    assert api.calls[0].last_words == "สวัสดีค่ะ\nอยากนัดวันเสาร์"


async def test_programmed_answer_goes_over_the_generated_one(
    api: OpenAiApi, client: openai.AsyncOpenAI
) -> None:
    api.answer = lambda body: {"handoff": True} if "หมอ" in body["messages"][-1]["content"] else None
    answer = await client.chat.completions.create(**asking("ขอคุยกับหมอ"))
    assert json.loads(answer.choices[0].message.content or "")["handoff"] is True


async def test_usage_counts_a_cached_prefix_from_1024_tokens(
    api: OpenAiApi, client: openai.AsyncOpenAI
) -> None:
    prefix = [{"role": "system", "content": "ราคา " * 1000}]
    usages = []
    for text in ("หนึ่ง", "สอง"):
        messages = [*prefix, {"role": "user", "content": text}]
        usages.append((await client.chat.completions.create(**asking(messages=messages))).usage)
    first, second = usages
    assert first
    assert second
    assert first.prompt_tokens_details
    assert second.prompt_tokens_details
    assert first.prompt_tokens_details.cached_tokens == 0
    assert (first.prompt_tokens_details.cache_write_tokens or 0) >= 1024
    assert (second.prompt_tokens_details.cached_tokens or 0) >= 1024
    assert (second.prompt_tokens_details.cached_tokens or 0) % 128 == 0
    assert second.total_tokens == second.prompt_tokens + second.completion_tokens
    assert api.calls[1].usage
    assert api.calls[1].usage.to_json()["total_tokens"] == second.total_tokens


async def test_answer_ends_at_the_output_limit(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(**asking(max_completion_tokens=10))
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage
    assert answer.usage.completion_tokens <= 10


async def test_calls_at_once_are_counted_in_all_and_by_clinic(
    api: OpenAiApi, client: openai.AsyncOpenAI
) -> None:
    asks = [asking(prompt_cache_key=clinic) for clinic in ("a", "a", "b")]
    await asyncio.gather(*(client.chat.completions.create(**ask) for ask in asks))
    assert (api.most, api.running, dict(api.most_by_clinic)) == (3, 0, {"a": 2, "b": 1})


async def test_call_whose_client_went_away_is_no_longer_running(
    api: OpenAiApi, client: openai.AsyncOpenAI
) -> None:
    api.latency = Latency(median_s=30)
    with pytest.raises(openai.APITimeoutError):
        await client.with_options(timeout=0.1).chat.completions.create(**asking())
    await asyncio.sleep(0.05)
    assert (api.running, api.calls[0].outcome, api.calls[0].usage) == (0, "abandoned", None)


BROKEN = {**SCHEMA, "additionalProperties": True}
OPTIONAL = {**SCHEMA, "required": ["reply"]}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"response_format": strict(BROKEN)}, "response_format"),
        ({"response_format": strict(OPTIONAL)}, "response_format"),
        ({"extra_body": {"max_output": 5}}, None),
        ({"temperature": 0.4}, "temperature"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "customer", "content": "x"}]}, "messages[0].role"),
        ({"model": "gpt-4o-mini", "reasoning_effort": "none"}, "reasoning_effort"),
    ],
)
async def test_wrong_request_is_a_400_that_names_the_parameter(
    api: OpenAiApi, client: openai.AsyncOpenAI, change: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(**asking(**change))
    assert caught.value.param == param
    assert api.calls[0].outcome == "refused"


async def test_unknown_model_and_missing_key_are_refused(api: OpenAiApi, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(**asking(model="gpt-9"))
    assert "gpt-6-luna" in [m.id async for m in client.models.list()]
    with pytest.raises(openai.AuthenticationError):
        await client.models.list(extra_headers={"authorization": ""})


@pytest.mark.parametrize(
    ("kind", "error", "code"),
    [
        (LlmFaultKind.RATE_LIMIT, openai.RateLimitError, "rate_limit_exceeded"),
        (LlmFaultKind.QUOTA, openai.RateLimitError, "insufficient_quota"),
        (LlmFaultKind.ERROR_500, openai.InternalServerError, None),
        (LlmFaultKind.UNAVAILABLE, openai.InternalServerError, None),
        (LlmFaultKind.BAD_REQUEST, openai.BadRequestError, "invalid_value"),
        (LlmFaultKind.UNAUTHORIZED, openai.AuthenticationError, "invalid_api_key"),
    ],
)
async def test_injected_status_is_what_the_client_raises(
    api: OpenAiApi,
    client: openai.AsyncOpenAI,
    kind: LlmFaultKind,
    error: type[openai.APIStatusError],
    code: str | None,
) -> None:
    api.faults.add(LlmTrouble(kind, retry_after_s=3, retry_after_ms=2500))
    with pytest.raises(error) as caught:
        await client.chat.completions.create(**asking())
    assert caught.value.code == code
    assert caught.value.response.headers["retry-after"] == "3"
    assert caught.value.response.headers["retry-after-ms"] == "2500"
    assert (await client.chat.completions.create(**asking())).usage is not None


@pytest.mark.parametrize("kind", [LlmFaultKind.RESET, LlmFaultKind.CUT_BODY])
async def test_injected_broken_connection(
    api: OpenAiApi, client: openai.AsyncOpenAI, kind: LlmFaultKind
) -> None:
    api.faults.add(LlmTrouble(kind))
    with pytest.raises(openai.APIConnectionError):
        await client.chat.completions.create(**asking())
    assert api.calls[0].outcome == kind


async def test_injected_hang_and_drip_outlast_a_deadline(api: OpenAiApi, client: openai.AsyncOpenAI) -> None:
    for kind in (LlmFaultKind.HANG, LlmFaultKind.DRIP):
        api.faults.add(LlmTrouble(kind, drip_s=0.1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.chat.completions.create(**asking()), 0.4)
    await asyncio.sleep(0.05)
    assert api.running == 0


async def test_injected_bad_content_is_billed(api: OpenAiApi, client: openai.AsyncOpenAI) -> None:
    api.faults.add(LlmTrouble(LlmFaultKind.TRUNCATED_JSON))
    api.faults.add(LlmTrouble(LlmFaultKind.WRONG_SCHEMA))
    cut = (await client.chat.completions.create(**asking())).choices[0].message.content or ""
    with pytest.raises(json.JSONDecodeError):
        json.loads(cut)
    other = (await client.chat.completions.create(**asking())).choices[0].message.content or ""
    assert "reply" not in json.loads(other)
    assert all(call.usage for call in api.calls)


async def test_faults_come_by_predicate_and_count(api: OpenAiApi, client: openai.AsyncOpenAI) -> None:
    api.faults.add(LlmTrouble(LlmFaultKind.ERROR_500), times=2, after=1, when=lambda c: c.clinic == "b")
    seen = []
    for clinic in ("b", "a", "b", "b", "b"):
        try:
            await client.chat.completions.create(**asking(prompt_cache_key=clinic))
            seen.append("ok")
        except openai.InternalServerError:
            seen.append("500")
    assert seen == ["ok", "ok", "500", "500", "ok"]


@given(st.text())
def test_tokens_never_exceed_bytes(text: str) -> None:
    assert token_count(text) <= text_bound(text)


def test_references_are_followed() -> None:
    schema = {
        "type": "object",
        "properties": {"state": {"$ref": "#/$defs/state"}},
        "$defs": {"state": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 2}}}},
    }
    assert instance_of(schema, "x") == {"state": {"n": 2}}
