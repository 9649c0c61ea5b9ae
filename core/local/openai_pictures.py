"""Pictures in a user's message as OpenAI takes and counts them: data URLs of still pictures, by patches.

Source: platform.openai.com/docs/guides/images-vision.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

from core.local.openai_refused import RefusedError

_MAX_BYTES: Final = 20 * 1024 * 1024
_PATCH, _MOST, _A_PATCH = 32, 2_500, 1.2
_KINDS: Final = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG\r\n", "image/webp": b"RIFF"}


def check_parts(parts: list[Any], where: str) -> None:
    """Raises RefusedError as OpenAI's 400 does."""
    if not parts:
        raise RefusedError("Invalid content: empty array.", param=where, code="empty_array")
    for i, part in enumerate(parts):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            continue
        if kind != "image_url":
            raise RefusedError(f"Invalid value: {kind!r}.", param=f"{where}[{i}].type", code="invalid_value")
        shown = part.get("image_url")
        if not isinstance(shown, Mapping) or picture_of(shown.get("url")) is None:
            detail = "You uploaded an unsupported image. Please make sure your image is valid."
            raise RefusedError(detail, param=f"{where}[{i}].image_url", code="invalid_image_format")


def picture_of(url: Any) -> bytes | None:
    """The bytes of a data URL that is a picture of a kind that OpenAI takes."""
    head, _, encoded = str(url).partition(";base64,")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    magic = _KINDS.get(head.removeprefix("data:"))
    return data if magic and data.startswith(magic) and len(data) <= _MAX_BYTES else None


def pictures_in(messages: Any) -> Iterator[tuple[bytes, str]]:
    """Every picture of a checked body, and the detail that is asked for."""
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if part["type"] == "image_url":
                yield picture_of(part["image_url"]["url"]) or b"", part["image_url"].get("detail", "auto")


def picture_tokens(data: bytes) -> int:
    """By the patches that cover it, at most as many as `detail: high` has."""
    width, height = _size(data)
    patches = math.ceil(width / _PATCH) * math.ceil(height / _PATCH)
    return math.ceil(min(patches, _MOST) * _A_PATCH)


def _size(data: bytes) -> tuple[int, int]:
    """Of a JPEG, by its frame header; the largest of anything else."""
    at = 2
    while data.startswith(b"\xff\xd8") and at + 9 < len(data):
        marker, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + length
    return _PATCH * 50, _PATCH * 50


def text_of(content: Any) -> str:
    """A message's words, one part a line; a picture is nothing of them."""
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if part.get("type") == "text")
    return str(content or "")
