"""Pictures scaled down with Pillow, which is loaded with the first of them; one at a time, in a thread.

What a picture takes in memory is known from its header, before a pixel is decoded.
"""

from __future__ import annotations

import asyncio
import io
import warnings
from typing import TYPE_CHECKING, Final

from core.domain.media import MediaState
from core.domain.prompt import PICTURE_SIDE, Picture
from core.ports.content import ContentError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS: Final = 25_000_000
"""Of what is decoded whole: 100 MB. A JPEG that is not progressive is decoded smaller than it is."""
MAX_JPEG_PIXELS: Final = 120_000_000
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_QUALITY: Final = 85


class PillowPictures:
    def __init__(self) -> None:
        self._one = asyncio.Lock()

    async def scaled(self, data: bytes) -> Picture:
        """See the port."""
        async with self._one:
            return await asyncio.to_thread(_scaled, data)


def _scaled(data: bytes) -> Picture:
    from PIL import Image, ImageOps  # noqa: PLC0415  30 ms and 8 MB that a turn without pictures does without

    if not data:
        raise ContentError(MediaState.UNREADABLE, "it is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limits are lower than Pillow's
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                _check(image)
                image.draft("RGB", _least(image))
                image.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0)
                upright = ImageOps.exif_transpose(image)
                return Picture(_jpeg(upright))
    except ContentError:
        raise
    except Image.DecompressionBombError as exc:
        raise ContentError(MediaState.TOO_LARGE, "more pixels than Pillow opens") from exc
    except Exception as exc:  # whatever a decoder says of what somebody made up
        raise ContentError(MediaState.UNREADABLE, type(exc).__name__) from exc


def _least(image: Image) -> tuple[int, int]:
    """A JPEG is decoded at the least of 1/2, 1/4 and 1/8 that has as many pixels: a quarter less than is
    sent, since a photograph's usual 4,032 pixels are 1,008 at 1/4."""
    share = 0.75 * PICTURE_SIDE / max(*image.size, PICTURE_SIDE)
    return max(1, round(image.width * share)), max(1, round(image.height * share))


def _check(image: Image) -> None:
    """By its header alone. Raises ContentError."""
    if getattr(image, "is_animated", False):
        raise ContentError(MediaState.UNREADABLE, "it moves")
    width, height = image.size
    whole = image.format != "JPEG" or bool(image.info.get("progressive"))
    if width * height > (MAX_PIXELS if whole else MAX_JPEG_PIXELS):
        raise ContentError(MediaState.TOO_LARGE, f"{width} × {height} pixels")


def _jpeg(image: Image) -> bytes:
    """Without anything but the pixels; what is transparent is white."""
    from PIL import Image as Images  # noqa: PLC0415

    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Images.new("RGB", layer.size, "white")
        image.paste(layer, mask=layer.getchannel("A"))
    elif image.mode != "RGB":
        image = image.convert("RGB")
    written = io.BytesIO()
    image.save(written, "JPEG", quality=_QUALITY)
    return written.getvalue()
