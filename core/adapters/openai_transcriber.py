"""OpenAI's transcriptions: one attempt a call, every fault named as those of the chat completions are."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import httpx2

from core.adapters.openai_llm import (
    CONNECT_TIMEOUT_S,
    OpenAiLlm,
    body_of,
    count_of,
    unreadable,
)
from core.ports.llm import Usage
from core.ports.transcriber import Transcript

_NAMES: Final = (
    (b"OggS", "voice.ogg", "audio/ogg"),
    (b"RIFF", "voice.wav", "audio/wav"),
    (b"ID3", "voice.mp3", "audio/mpeg"),
    (b"\xff\xfb", "voice.mp3", "audio/mpeg"),
    (b"fLaC", "voice.flac", "audio/flac"),
    (b"\x1aE\xdf\xa3", "voice.webm", "audio/webm"),
)
_LINES_OWN: Final = ("voice.m4a", "audio/mp4")
"""The provider knows a recording by its name; LINE's are M4A."""


class OpenAiTranscriber(OpenAiLlm):
    """The same provider, key and faults as of the chat completions."""

    def __repr__(self) -> str:
        return f"OpenAiTranscriber({self._base_url or 'OpenAI'})"

    async def transcribe(self, model: str, audio: bytes, *, timeout_s: float) -> Transcript:
        """See core.ports.transcriber."""
        async with self._attempt(timeout_s):
            response = await self._written_down(model, audio, timeout_s)
        body = body_of(response)
        if not isinstance(body.get("text"), str):
            raise unreadable()
        usage = body.get("usage")
        return Transcript(body["text"], _seconds(usage), _usage(usage))

    async def _written_down(self, model: str, audio: bytes, timeout_s: float) -> httpx2.Response:
        name, media_type = next((named[1:] for named in _NAMES if audio.startswith(named[0])), _LINES_OWN)
        answered = await self._opened().audio.transcriptions.with_raw_response.create(
            model=model,
            file=(name, audio, media_type),
            response_format="json",
            timeout=httpx2.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
        )
        response: httpx2.Response = answered.http_response
        return response


def _seconds(usage: Any) -> Decimal | None:
    """None if the provider does not bill by the second, or says what can't be."""
    seconds = usage.get("seconds") if isinstance(usage, Mapping) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | str):
        return None
    try:
        number = Decimal(str(seconds))
    except InvalidOperation:
        return None
    return number if number.is_finite() and 0 <= number <= 86_400 else None


def _usage(usage: Any) -> Usage | None:
    counts = usage if isinstance(usage, Mapping) else {}
    read, written = count_of(counts.get("input_tokens")), count_of(counts.get("output_tokens"))
    return None if read is None or written is None else Usage(read, written)
