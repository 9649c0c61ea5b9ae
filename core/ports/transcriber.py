"""A model that writes down what is said: one recording, one attempt."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from core.ports.llm import Usage


@dataclass(frozen=True, slots=True)
class Transcript:
    """`seconds` or `usage`, as the model is billed; neither: the provider left it out."""

    text: str
    seconds: Decimal | None = None
    usage: Usage | None = None


class Transcriber(Protocol):
    async def transcribe(self, model: str, audio: bytes, *, timeout_s: float) -> Transcript:
        """One attempt, ended after `timeout_s` in all. Raises core.ports.llm.LlmError."""
        ...

    async def close(self) -> None: ...
