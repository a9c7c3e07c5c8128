"""Makes pictures smaller with Pillow, which is imported with this module: the extra `images`.

The input is untrusted. Pillow reads five common formats and no others (some of those start
programs), and nothing with more than MAX_PIXELS.
"""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError

from lorimer.core.media import pixels

MAX_PIXELS: Final = 50_000_000
"""200 MB when decoded. A picture that declares more is a decompression bomb, or as bad as one;
Pillow's own bound, MAX_IMAGE_PIXELS, is higher."""
FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP", "BMP")

_SCALES: Final = (1.0, 0.75, 0.5, 0.35, 0.25, 0.125, 0.0625)
_QUALITIES: Final = (85, 60)


class Unreadable(ValueError):
    """The picture cannot be made to fit; says why, in words for the model."""


def shrunk(data: str, side: int, chars: int) -> tuple[str, str]:
    """A picture in base64 as (media type, base64) with at most `side` pixels a side and `chars`
    characters; 0: no limit. Never enlarged.

    Blocks, for up to seconds. Tries PNG first if it was not a JPEG and may fit, then JPEG in two
    qualities, then smaller and smaller sizes. Of an animation, the first frame. Raises Unreadable.
    """
    try:
        raw = base64.b64decode(data)
        _check(pixels(raw))
        with Image.open(BytesIO(raw), formats=FORMATS) as opened:
            _check(opened.size)
            lossy = opened.format in ("JPEG", "MPO")
            if lossy and side:
                opened.draft("RGB", (side, side))  # a large JPEG is then decoded at reduced size
            picture = _plain(opened)
    except Unreadable:
        raise
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,  # for hosts that turn warnings into errors
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        MemoryError,
    ) as error:
        raise Unreadable("it cannot be read") from error
    longest = max(picture.size)
    first = min(1.0, side / longest) if side else 1.0
    # a PNG takes seconds to write: not if it would hardly fit
    as_png = not lossy and (not chars or len(data) * first**2 <= 2 * chars)
    for scale in _SCALES:
        smaller = _scaled(picture, first * scale)
        if scale == 1.0 and as_png and (found := _encoded(smaller, "PNG", 0, chars)):
            return "image/png", found
        for quality in _QUALITIES:
            if found := _encoded(smaller, "JPEG", quality, chars):
                return "image/jpeg", found
    raise Unreadable("it cannot be made small enough")


def _check(size: tuple[int, int] | None) -> None:
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise Unreadable(f"its {size[0]:,} x {size[1]:,} pixels are too many to be read")


def _plain(opened: Image.Image) -> Image.Image:
    """Upright, in three channels, or four if parts are transparent."""
    upright = ImageOps.exif_transpose(opened)
    clear = upright.has_transparency_data
    return upright.convert("RGBA" if clear else "RGB")


def _scaled(picture: Image.Image, scale: float) -> Image.Image:
    if scale >= 1.0:
        return picture
    most = max(1, int(max(picture.size) * scale))
    return ImageOps.contain(picture, (most, most), Image.Resampling.LANCZOS)


def _encoded(picture: Image.Image, format: str, quality: int, chars: int) -> str:
    """In base64; "": too large."""
    if format == "JPEG" and picture.mode == "RGBA":
        ground = Image.new("RGB", picture.size, "white")
        ground.paste(picture, mask=picture.getchannel("A"))
        picture = ground
    out = BytesIO()
    if format == "JPEG":
        picture.save(out, format, quality=quality)
    else:
        picture.save(out, format, compress_level=6)
    if chars and (out.tell() + 2) // 3 * 4 > chars:
        return ""
    return base64.b64encode(out.getvalue()).decode("ascii")
