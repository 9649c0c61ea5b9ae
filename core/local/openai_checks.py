"""What OpenAI's chat completions refuse with a 400, in its own words where they are known.

Source: platform.openai.com/docs/api-reference/chat/create and …/docs/guides/structured-outputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from core.local.openai_pictures import check_parts
from core.local.openai_refused import RefusedError

__all__ = ["MODELS", "RefusedError", "check", "output_limit", "response_schema"]

MODELS: Final = (
    "gpt-6.1-terra",
    "gpt-6-luna",
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-4.1-mini",
)
_PARAMETERS: Final = frozenset(
    {
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "modalities",
        "model",
        "moderation",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    }
)
_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool"})
_FORBIDDEN_KEYWORDS: Final = frozenset({"allOf", "not", "if", "then", "else", "dependentRequired", "oneOf"})
_MAX_TEXT: Final = 10_485_760


def reasons(model: str) -> bool:
    """Reasoning models take other parameters than the older chat models."""
    return model.startswith(("gpt-5", "gpt-6", "o"))


def check(body: Any, models: tuple[str, ...]) -> Mapping[str, Any]:
    """The body, if OpenAI would work on it. Raises RefusedError."""
    if not isinstance(body, dict):
        raise RefusedError("We could not parse the JSON body of your request.")
    for name in body:
        if name not in _PARAMETERS:
            raise RefusedError(f"Unrecognized request argument supplied: {name}")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise RefusedError("you must provide a model parameter")
    if model not in models:
        detail = f"The model `{model}` does not exist or you do not have access to it."
        raise RefusedError(detail, status=404, code="model_not_found")
    if body.get("stream") or (body.get("n") or 1) != 1:
        raise RefusedError("This stand-in answers neither streams nor several choices.", param="stream")
    _check_messages(body.get("messages"))
    _check_sampling(body, model)
    if "response_format" in body:
        _check_response_format(body["response_format"])
    return body


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise RefusedError("Invalid 'messages': empty array.", param="messages", code="empty_array")
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role not in _ROLES:
            detail = f"Invalid value: {role!r}. Supported values are: {', '.join(sorted(_ROLES))}."
            raise RefusedError(detail, param=f"{where}.role", code="invalid_value")
        content = message.get("content")
        if isinstance(content, list) and role == "user":
            check_parts(content, f"{where}.content")
        elif not isinstance(content, str) or len(content) > _MAX_TEXT:
            detail = "This stand-in takes messages whose content is a string, or a user's list of parts."
            raise RefusedError(detail, param=f"{where}.content", code="invalid_type")


def _check_sampling(body: Mapping[str, Any], model: str) -> None:
    temperature = body.get("temperature")
    if temperature is not None and not 0 <= temperature <= 2:
        detail = "Invalid 'temperature': expected a number from 0 to 2."
        raise RefusedError(detail, param="temperature", code="decimal_above_max_value")
    if reasons(model):
        if temperature not in {None, 1}:
            detail = "Unsupported value: 'temperature' does not support this value with this model."
            raise RefusedError(detail, param="temperature", code="unsupported_value")
        if "max_tokens" in body:
            detail = (
                "Unsupported parameter: 'max_tokens' is not supported with this model. "
                "Use 'max_completion_tokens' instead."
            )
            raise RefusedError(detail, param="max_tokens", code="unsupported_parameter")
    elif "reasoning_effort" in body:
        detail = "Unrecognized request argument supplied: reasoning_effort"
        raise RefusedError(detail, param="reasoning_effort")
    limit = output_limit(body)
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        detail = "Invalid 'max_completion_tokens': integer below minimum value. Expected a value >= 1."
        raise RefusedError(detail, param="max_completion_tokens", code="integer_below_min_value")


def output_limit(body: Mapping[str, Any]) -> Any:
    return body.get("max_completion_tokens", body.get("max_tokens"))


def response_schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Of a checked body: the schema the answer must follow, None for free text."""
    response_format = body.get("response_format") or {}
    schema: Mapping[str, Any] | None = response_format.get("json_schema", {}).get("schema")
    return schema


def _check_response_format(response_format: Any) -> None:
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind not in {"text", "json_object", "json_schema"}:
        raise RefusedError(
            "Invalid value: response_format.type", param="response_format", code="invalid_value"
        )
    if kind != "json_schema":
        return
    wrapper = response_format.get("json_schema")
    name = wrapper.get("name") if isinstance(wrapper, dict) else None
    if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
        detail = "Missing or invalid 'response_format.json_schema.name'."
        raise RefusedError(
            detail, param="response_format.json_schema.name", code="missing_required_parameter"
        )
    schema = wrapper.get("schema")
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise _schema_error(name, (), "schema must be a JSON Schema of 'type: \"object\"'")
    if wrapper.get("strict"):
        _check_strict(name, schema, ())


def _schema_error(name: str, path: tuple[str, ...], problem: str) -> RefusedError:
    detail = f"Invalid schema for response_format '{name}': In context={path!r}, {problem}."
    return RefusedError(detail, param="response_format")


def _check_strict(name: str, schema: Any, path: tuple[str, ...]) -> None:
    """Objects close themselves and require every property, at every depth."""
    if not isinstance(schema, dict):
        raise _schema_error(name, path, "expected a schema object")
    for keyword in _FORBIDDEN_KEYWORDS & schema.keys():
        raise _schema_error(name, path, f"'{keyword}' is not permitted")
    if not schema.keys() & {"type", "anyOf", "enum", "const", "$ref"}:
        raise _schema_error(name, path, "schema must have a 'type' key")
    kinds = schema.get("type")
    if kinds == "object" or (isinstance(kinds, list) and "object" in kinds):
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False:
            problem = "'additionalProperties' is required to be supplied and to be false"
            raise _schema_error(name, path, problem)
        missing = [p for p in properties if p not in schema.get("required", [])]
        if missing:
            problem = (
                "'required' is required to be supplied and to be an array including every key in properties. "
                f"Missing '{missing[0]}'"
            )
            raise _schema_error(name, path, problem)
        for key, value in properties.items():
            _check_strict(name, value, (*path, "properties", key))
    if kinds == "array" or (isinstance(kinds, list) and "array" in kinds):
        if "items" not in schema:
            raise _schema_error(name, path, "array schema missing items")
        _check_strict(name, schema["items"], (*path, "items"))
    for i, option in enumerate(schema.get("anyOf", ())):
        _check_strict(name, option, (*path, "anyOf", str(i)))
    for key, value in schema.get("$defs", {}).items():
        _check_strict(name, value, (*path, "$defs", key))
