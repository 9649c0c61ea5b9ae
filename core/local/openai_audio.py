"""Transcriptions of the OpenAI stand-in: what a recording "says" is what its bytes say after a mark.

Source: platform.openai.com/docs/api-reference/audio/createTranscription.
"""

from __future__ import annotations

import asyncio
import re
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from core.local.faults import FaultScript
from core.local.http_server import Request, ResetConnectionError, Response
from core.local.multipart import FormField, form_fields
from core.local.openai_faults import LlmFaultKind, LlmTrouble, refusal
from core.local.openai_refused import RefusedError

MODELS: Final = ("gpt-transcribe",)
_SAYS: Final = b"\x00says:"
_ENDS: Final = b"\x00"
_NAMES: Final = re.compile(r".+\.(flac|mp3|mp4|mpeg|mpga|m4a|ogg|wav|webm)")
_MAX_BYTES: Final = 25 * 1024 * 1024


def recording(words: str, *, seconds: float = 4.0) -> bytes:
    """An M4A as far as its header goes, in which `words` are said."""
    header = b"\x00\x00\x00\x18ftypM4A \x00\x00\x00\x00M4A mp42"
    movie = b"mvhd" + bytes(4) + struct.pack(">IIII", 0, 0, 1000, round(seconds * 1000)) + bytes(80)
    body = struct.pack(">I", len(movie) + 4) + movie
    return header + struct.pack(">I", len(body) + 8) + b"moov" + body + _SAYS + words.encode() + _ENDS


@dataclass(frozen=True, slots=True)
class Recording:
    model: str
    data: bytes

    @property
    def words(self) -> str:
        _, found, rest = self.data.partition(_SAYS)
        return rest.partition(_ENDS)[0].decode("utf-8", "replace") if found else ""

    @property
    def seconds(self) -> float:
        at = self.data.find(b"mvhd")
        scale, length = struct.unpack_from(">II", self.data, at + 16) if at >= 0 else (1, 0)
        return float(length / scale)


def checked(body: bytes, content_type: str, models: tuple[str, ...] = MODELS) -> Recording:
    """Raises RefusedError as OpenAI's 400 and 404 do."""
    fields = form_fields(body, content_type)
    for name in fields:
        if name not in {
            "file",
            "model",
            "response_format",
            "language",
            "languages[]",
            "prompt",
            "temperature",
        }:
            raise RefusedError(f"Unrecognized request argument supplied: {name}")
    nothing = FormField("", b"")
    model = fields.get("model", nothing).value.decode("utf-8", "replace")
    if model not in models:
        detail = f"The model `{model}` does not exist or you do not have access to it."
        raise RefusedError(detail, status=404, code="model_not_found")
    name, data = fields.get("file", nothing)
    if not _NAMES.fullmatch(name):
        raise RefusedError("Unrecognized file format.", param="file", code="invalid_value")
    if len(data) > _MAX_BYTES:
        raise RefusedError("Maximum content size limit exceeded.", status=413)
    if b"ftyp" not in data[:64] and not data.startswith((b"OggS", b"RIFF", b"ID3", b"fLaC")):
        raise RefusedError("Audio file might be corrupted or unsupported", param="file", code="invalid_value")
    return Recording(model, data)


@dataclass(slots=True)
class Transcription:
    """One call as the provider saw it. `seconds`: what was billed. `outcome`: running, answered, abandoned
    (the client went away), refused, or the kind of fault."""

    started_ms: int
    model: str = ""
    words: str = ""
    seconds: float = 0.0
    outcome: str = "running"
    status: int | None = None


class OpenAiAudio:
    """`calls`: every one, in order. `faults`: which go wrong; of those that are billed, only DRIP."""

    def __init__(
        self, latency_s: Callable[[], float], count: Callable[[str, int], None], seed: int = 0
    ) -> None:
        self.calls: list[Transcription] = []
        self.faults: FaultScript[LlmTrouble, Transcription] = FaultScript(seed)
        self._latency_s = latency_s
        self._count = count

    async def transcribe(self, request: Request, request_id: str) -> Response:
        """Raises RefusedError, ResetConnectionError."""
        call = Transcription(time.time_ns() // 1_000_000)
        self.calls.append(call)
        self._count("", 1)
        try:
            said = checked(request.body, request.headers.get("content-type", ""))
            call.model, call.words = said.model, said.words
            response = await self._work(call, said, request_id)
        except RefusedError as exc:
            call.outcome, call.status = "refused", exc.status
            raise
        except asyncio.CancelledError:
            call.outcome = "abandoned" if call.outcome == "running" else call.outcome
            raise
        finally:
            self._count("", -1)
        call.status = response.status
        return response

    async def _work(self, call: Transcription, said: Recording, request_id: str) -> Response:
        trouble = self.faults.next(call)
        if trouble is not None and trouble.kind is not LlmFaultKind.DRIP:
            call.outcome = trouble.kind.value
            if trouble.kind is LlmFaultKind.HANG:
                await asyncio.Event().wait()
            if trouble.kind is LlmFaultKind.RESET:
                raise ResetConnectionError
            return refusal(trouble, request_id)
        await asyncio.sleep(self._latency_s())
        call.outcome, call.seconds = "answered", said.seconds
        shown = {
            "text": said.words,
            "languages": [{"code": "th"}] if said.words else [],
            "usage": {"type": "duration", "seconds": said.seconds},
        }
        response = Response.of_json(shown, 200, {"x-request-id": request_id})
        return replace(response, drip_s=trouble.drip_s if trouble else 0.0)
