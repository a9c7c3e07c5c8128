"""What the bytes of an image say about it: type and size. File names and declared types may be
wrong."""

from __future__ import annotations

from struct import error as StructError  # noqa: N812 - it is one
from struct import unpack_from
from typing import Final

_MARKS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)

SNIFFED: Final = 16
"""Number of bytes at the beginning that are enough to decide."""


def image_type(data: bytes) -> str:
    """`image/png`, `image/jpeg`, `image/gif` or `image/webp`, which every provider with image
    support accepts; "" for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for mark, kind in _MARKS if data.startswith(mark)), "")


def pixels(data: bytes) -> tuple[int, int] | None:
    """Width and height from the header of an image; None: the type is unknown, or `data` is too
    short."""
    try:
        match image_type(data):
            case "image/png":
                width, height = unpack_from(">II", data, 16)
                return width, height
            case "image/gif":
                width, height = unpack_from("<HH", data, 6)
                return width, height
            case "image/webp":
                return _webp(data)
            case "image/jpeg":
                return _jpeg(data)
            case _:
                return None
    except StructError:
        return None


def _webp(data: bytes) -> tuple[int, int] | None:
    """Determined by the first chunk (RFC 9649)."""
    if len(data) < 30:
        return None
    match data[12:16]:
        case b"VP8 ":
            width, height = unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return (
                int.from_bytes(data[24:27], "little") + 1,
                int.from_bytes(data[27:30], "little") + 1,
            )
        case _:
            return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """From segment to segment, up to the frame's own (ITU T.81, table B.1)."""
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = unpack_from(">HH", data, at + 5)
            return width, height
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # without a body
            at += 2
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return None
