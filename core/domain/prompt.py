"""What is sent to a language model: messages by role, and the schema that its answer must follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

PromptRole = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat. Only `system` content is fairlane's and the clinic's own."""

    role: PromptRole
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """`facts_used`: keys of the memory facts that stand in it. `cache_key`: equal for equal prefixes."""

    messages: tuple[Message, ...]
    schema_name: str
    schema: Mapping[str, Any]
    cache_key: str
    facts_used: tuple[str, ...] = ()
