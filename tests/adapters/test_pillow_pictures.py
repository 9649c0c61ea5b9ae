"""Pictures as they are sent to a model: small, upright, without what a camera writes beside them."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from core.adapters import pillow_pictures
from core.adapters.pillow_pictures import PillowPictures
from core.domain.media import MediaState
from core.domain.prompt import PICTURE_SIDE
from core.ports.content import ContentError
from tests.support.pictures import animation, bomb, encoded, heic, photo


async def scaled(data: bytes) -> Image.Image:
    picture = await PillowPictures().scaled(data)
    assert picture.jpeg.startswith(b"\xff\xd8\xff")
    assert "jpeg" not in repr(picture)
    return Image.open(io.BytesIO(picture.jpeg))


@pytest.mark.parametrize(
    ("width", "height"),
    [(4032, 3024), (3024, 4032), (1024, 1024), (5000, 40), (40, 5000), (1, 1), (300, 200)],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
async def test_a_picture_keeps_its_shape_within_the_bound(width: int, height: int, form: str) -> None:
    with await scaled(encoded(Image.new("RGB", (width, height), "teal"), form)) as image:
        longest, was = max(image.size), max(width, height)
        assert longest <= PICTURE_SIDE
        assert longest >= min(was, 0.98 * PICTURE_SIDE) or form == "JPEG"
        assert longest >= min(was, 0.75 * PICTURE_SIDE)
        assert abs(image.width * height - image.height * width) <= max(width, height) * 1.5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
async def test_every_kind_of_pixel_becomes_plain_colours(mode: str) -> None:
    form = "TIFF" if mode in {"CMYK", "I;16"} else "PNG"
    with await scaled(encoded(Image.new(mode, (80, 60)), form)) as image:
        assert image.mode == "RGB"


async def test_it_stands_upright_and_does_not_say_where_it_was_taken() -> None:
    image = Image.new("RGB", (400, 200), "white")
    image.paste("red", (0, 0, 40, 40))
    camera = image.getexif()
    camera[0x0112] = 6  # turned by a quarter
    camera[0x010F] = "CANARY"
    with await scaled(encoded(image, "JPEG", exif=camera, comment=b"CANARY")) as upright:
        assert upright.size == (200, 400)
        red = upright.getpixel((190, 10))
        assert isinstance(red, tuple)
        assert red[0] > 200
        assert red[1] < 60
        assert not upright.getexif()
    assert b"CANARY" not in (await PillowPictures().scaled(encoded(image, "JPEG", exif=camera))).jpeg


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (b"", MediaState.UNREADABLE),
        (b"%PDF-1.7", MediaState.UNREADABLE),
        (heic(), MediaState.UNREADABLE),
        (animation(), MediaState.UNREADABLE),
        (photo()[:9_000], MediaState.UNREADABLE),
        (bomb(), MediaState.TOO_LARGE),
    ],
)
async def test_what_is_no_still_picture_is_refused(data: bytes, state: MediaState) -> None:
    with pytest.raises(ContentError) as error:
        await PillowPictures().scaled(data)
    assert error.value.state is state


async def test_a_picture_that_is_decoded_whole_has_a_lower_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pillow_pictures, "MAX_PIXELS", 10_000)
    large: dict[str, Any] = {"PNG": {}, "JPEG": {"progressive": True}}
    for form, options in large.items():
        with pytest.raises(ContentError, match="pixels"):
            await PillowPictures().scaled(encoded(Image.new("RGB", (200, 100)), form, **options))
    with await scaled(encoded(Image.new("RGB", (200, 100)), "JPEG")) as image:
        assert image.size == (200, 100)
