"""What the OpenAI stand-in says: a Thai answer in the shape the schema asks for, and the tokens it costs."""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.local.openai_pictures import picture_tokens, pictures_in, text_of

QUOTE_OPEN: Final = "«"
QUOTE_CLOSE: Final = "»"
_OPENING = "สวัสดีค่ะ ได้รับข้อความแล้วนะคะ"
_CLOSING = "ทางคลินิกยินดีให้ข้อมูลและนัดหมายให้ได้เลยค่ะ สะดวกวันไหนคะ"
_MAX_QUOTED = 700
_CACHE_BLOCK = 128
_CACHE_MINIMUM = 1024


def token_count(text: str) -> int:
    """About four ASCII characters or two others a token; never more than the UTF-8 bytes."""
    ascii_letters = len(text.encode("ascii", "ignore"))
    others = len(text) - ascii_letters
    return (ascii_letters + 3) // 4 + (others + 1) // 2


def prompt_tokens(messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any] | None) -> int:
    """Three tokens around each message and before the answer (OpenAI cookbook), and the schema."""
    texts = sum(token_count(text_of(m.get("content"))) + token_count(str(m["role"])) + 3 for m in messages)
    texts += sum(picture_tokens(data) for data, _ in pictures_in(messages))
    return texts + 3 + (token_count(json.dumps(schema)) if schema else 0)


def last_words(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the customer has said last."""
    return next((text_of(m["content"]) for m in reversed(messages) if m["role"] == "user"), "")


def reply_text(
    messages: Sequence[Mapping[str, Any]], opening: str = _OPENING, closing: str = _CLOSING
) -> str:
    """Quotes the customer's last words, line by line, so that the far side shows what was answered."""
    last = last_words(messages)
    quoted: list[str] = []
    room = _MAX_QUOTED
    for line in reversed([line.strip() for line in last.splitlines() if line.strip()]):
        shown = line[: max(0, room)]
        if not shown:
            break
        quoted.insert(0, f"{QUOTE_OPEN}{shown}{QUOTE_CLOSE}")
        room -= len(shown)
    return "\n".join([opening, *quoted, closing])


def instance_of(schema: Mapping[str, Any], reply: str) -> Any:
    """The least that satisfies `schema`: null where it may be, first enum value, empty lists.

    A string property named `reply` is `reply`.
    """
    return _instance(schema, schema, reply, "")


def _instance(schema: Mapping[str, Any], root: Mapping[str, Any], reply: str, name: str) -> Any:
    schema = _resolved(schema, root)
    if "const" in schema or "enum" in schema:
        legal = schema.get("enum", [schema.get("const")])
        return None if None in legal else legal[0]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = "null" if "null" in kind else kind[0]
    if kind == "object":
        properties = schema.get("properties", {})
        return {key: _instance(value, root, reply, key) for key, value in properties.items()}
    if kind == "array":
        return [_instance(schema["items"], root, reply, "") for _ in range(schema.get("minItems", 0))]
    if kind == "string":
        return reply if name == "reply" else "-" * schema.get("minLength", 0)
    low = schema.get("minimum", 0)
    return {"integer": low, "number": low, "boolean": False}.get(str(kind))


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Past references, and into the option that allows null, else the first."""
    while "$ref" in schema or "anyOf" in schema:
        if "$ref" in schema:
            target: Any = root
            for part in str(schema["$ref"]).removeprefix("#").split("/"):
                target = target[part] if part else target
            schema = target
        else:
            options = schema["anyOf"]
            schema = next((o for o in options if o.get("type") == "null"), options[0])
    return schema


@dataclass(frozen=True, slots=True)
class Served:
    """Tokens as they would be billed. `prompt` includes `cached` and `cache_write`."""

    prompt: int
    completion: int
    cached: int = 0
    cache_write: int = 0

    def to_json(self) -> dict[str, Any]:
        """OpenAI's `usage`."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {
                "cached_tokens": self.cached,
                "cache_write_tokens": self.cache_write,
                "audio_tokens": 0,
            },
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }


class PromptCache:
    """Prefixes of at least 1,024 tokens are kept, in steps of 128, per model and cache key.

    Source: platform.openai.com/docs/guides/prompt-caching.
    """

    def __init__(self, keys: int = 10_000, prompts_a_key: int = 4) -> None:
        self._keys = keys
        self._prompts_a_key = prompts_a_key
        self._seen: OrderedDict[tuple[str, str], deque[str]] = OrderedDict()

    def look_up(self, model: str, key: str, prompt: str, tokens: int) -> tuple[int, int]:
        """(cached, written) tokens of a prompt of `tokens`, which is remembered."""
        seen = self._seen.setdefault((model, key), deque(maxlen=self._prompts_a_key))
        self._seen.move_to_end((model, key))
        if len(self._seen) > self._keys:
            self._seen.popitem(last=False)
        shared = max((_shared(prompt, other) for other in seen), default=0)
        seen.append(prompt)
        cacheable = tokens // _CACHE_BLOCK * _CACHE_BLOCK if tokens >= _CACHE_MINIMUM else 0
        cached = min(token_count(prompt[:shared]) // _CACHE_BLOCK * _CACHE_BLOCK, cacheable)
        cached = cached if cached >= _CACHE_MINIMUM else 0
        return cached, cacheable - cached


def _shared(one: str, other: str) -> int:
    """Length of the common prefix."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
