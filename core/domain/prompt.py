"""What is sent to a language model: messages by role, and the schema that its answer must follow."""

from __future__ import annotations

import hashlib
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

    def digests(self) -> dict[str, str]:
        """Of the part that is the same in all turns of a clinic's day, and of the rest."""
        stable, *rest = self.messages
        return {
            "stable": digest(stable.content),
            "rest": digest("\0".join(part for message in rest for part in (message.role, message.content))),
        }


def digest(text: str) -> str:
    """SHA-256, whatever the text is: half a surrogate pair counts as a question mark."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
