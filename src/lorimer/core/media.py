"""What kind of picture some bytes are, by themselves: names and declared types may be wrong."""

from __future__ import annotations

from typing import Final

_MARKS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)

SNIFFED: Final = 16
"""Bytes at the beginning that decide it."""


def image_type(data: bytes) -> str:
    """`image/png`, `image/jpeg`, `image/gif`, `image/webp`: what every provider with images takes;
    "" for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for mark, kind in _MARKS if data.startswith(mark)), "")
