"""What is sent to a language model: messages by role, and the schema that its answer must follow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

PromptRole = Literal["system", "user", "assistant"]

PICTURE_SIDE: Final = 1_024
"""Pixels. Enough to read a printed page, and a picture has at most 1,024 patches of 32 pixels."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG of at most PICTURE_SIDE pixels a side. Its bytes stand in no representation."""

    jpeg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat. Only `system` content is fairlane's and the clinic's own. `pictures`: each with
    the place in `content` at which it stands, in order."""

    role: PromptRole
    content: str
    pictures: tuple[tuple[int, Picture], ...] = ()

    def parts(self) -> Iterator[str | Picture]:
        """Words and pictures in their order."""
        start = 0
        for place, picture in self.pictures:
            if words := self.content[start:place].strip("\n"):
                yield words
            yield picture
            start = place
        if words := self.content[start:].strip("\n"):
            yield words


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
