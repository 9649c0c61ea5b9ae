"""Pictures as phones and people make them, and as they should not be."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any

from PIL import Image, ImageDraw, ImageFilter

from core.domain.event import EventKind
from core.local.simulator import Sent
from tests.support.fault_scene import FaultScene, Row


@cache
def photo(width: int = 1200, height: int = 900, *, quality: int = 85, mark: str = "") -> bytes:
    """A JPEG with some grain; `mark` is drawn on it and makes it another one."""
    image = Image.effect_noise((width, height), 40).filter(ImageFilter.GaussianBlur(1)).convert("RGB")
    ImageDraw.Draw(image).text((width // 3, height // 3), mark, fill="red", font_size=max(12, height // 8))
    return encoded(image, "JPEG", quality=quality)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, form, **options)
    return written.getvalue()


def heavy(megabytes: float) -> bytes:
    """A JPEG of at least so many bytes, the rest of which is nothing."""
    data = photo(4000, 3000, quality=70)
    missing = max(0, round(megabytes * 1_000_000) - len(data))
    filler = b"".join(b"\xff\xfe\xff\xfd" + bytes(65_531) for _ in range(-(-missing // 65_535)))
    return data[:2] + filler + data[2:]


def bomb() -> bytes:
    """A PNG of some hundred bytes that says it has 900 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def animation() -> bytes:
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "green", "blue")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)


def heic() -> bytes:
    return b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(2_000)


def a_picture(scene: FaultScene, row: Row, data: bytes, user: str = "a", **content: Any) -> Sent:
    """A customer's, not delivered yet; LINE has its bytes."""
    return _sent(scene, row, EventKind.IMAGE, data, user, {}, content)


def a_voice(
    scene: FaultScene, row: Row, data: bytes, user: str = "a", ms: int = 4_000, **content: Any
) -> Sent:
    content = {"media_type": "audio/x-m4a", **content}
    return _sent(scene, row, EventKind.AUDIO, data, user, {"duration": ms}, content)


def _sent(
    scene: FaultScene,
    row: Row,
    kind: EventKind,
    data: bytes,
    user: str,
    fields: dict[str, Any],
    content: dict[str, Any],
) -> Sent:
    sent = scene.sim.message(row.clinic, scene.sim.user(row.clinic, user), kind.value, **fields)
    scene.stack.line.add_content(sent.event["message"]["id"], data, **content)
    row.sent.append(sent)
    return sent
