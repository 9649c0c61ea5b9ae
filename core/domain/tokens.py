"""An upper bound of a prompt's tokens that never undershoots, whatever the language.

Why it holds: the provider's tokenizers are byte-level BPE. They start from the text's UTF-8 bytes, one token
a byte, and every merge replaces two tokens by one; so a text never has more tokens than bytes, and special
tokens written out in a text are ordinary text. A Thai letter has 3 bytes and is about half a token, so the
bound is some six times the truth: holds are too large while a call runs, charges only where a call's usage
never came back.

Around the texts stand the chat format's own tokens: three a message and three before the answer for the
models that publish it (OpenAI cookbook, "How to count tokens"); eight and sixteen are reserved. The rendering
of a response schema is not published: it is counted as twice its ASCII JSON, since it could be indented.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

PER_MESSAGE = 8
PER_REQUEST = 16
PER_SCHEMA = 64


class PromptMessage(Protocol):
    """A chat message (core.ports.llm.Message)."""

    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...


def text_bound(text: str) -> int:
    """Tokens that `text` has at most: its UTF-8 bytes. A lone surrogate counts as three."""
    return len(text.encode("utf-8", errors="surrogatepass"))


def prompt_bound(
    messages: Iterable[PromptMessage], *, schema_name: str = "", schema: Mapping[str, Any] | None = None
) -> int:
    """Tokens that a request has at most as input: messages, chat format, response schema."""
    total = PER_REQUEST
    for message in messages:
        total += PER_MESSAGE + text_bound(message.role) + text_bound(message.content)
    if schema is not None:
        # ensure_ascii writes a Thai letter as six characters, so this also bounds an escaped rendering.
        total += PER_SCHEMA + text_bound(schema_name) + 2 * len(json.dumps(schema))
    return total


def request_estimate(input_bound: int, max_tokens: int) -> int:
    """Tokens that a call is expected to take of the provider's rate: four bytes of a prompt a token, and the
    longest answer. What it really took is counted when it ends."""
    return input_bound // 4 + max_tokens
