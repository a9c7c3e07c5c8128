"""Read a file, page by page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from lorimer.core.jsonable import JSON
from lorimer.core.media import SNIFFED, image_type
from lorimer.core.messages import ImageBlock
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.rooted import FILE_PATH, Failed, in_files, is_binary
from lorimer.world.files import RootedFiles

DEFAULT_LINES: Final = 2000
MAX_BYTES: Final = 4_194_304
"""Most bytes of a file that are read; larger images are not shown."""
MAX_LINE_CHARS: Final = 2000
"""Longer lines are truncated."""

_ROOM_FOR_NOTE: Final = 300
_PIECE: Final = 98_304
"""Bytes of an image read at once; divisible by 3, so the pieces' base64 texts can be joined."""

_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "file_path": FILE_PATH,
        "offset": {
            "type": "integer",
            "minimum": 1,
            "description": "First line to read, counted from 1",
        },
        "limit": {
            "type": "integer",
            "minimum": 1,
            "description": f"How many lines to read (default {DEFAULT_LINES})",
        },
    },
    "required": ["file_path"],
    "additionalProperties": False,
}


class Read(Tool):
    """Reads lines of a text file, numbered; shows images as images, and other binary files by their
    size."""

    name = "Read"
    description = (
        "Read a file. Text comes back with line numbers, from line `offset` on, at most `limit` "
        f"lines (default {DEFAULT_LINES}); lines longer than {MAX_LINE_CHARS} characters are cut. "
        "PNG, JPEG, GIF and WebP images are shown. Use Glob to see what is in a folder."
    )
    input_schema = _SCHEMA
    effects = frozenset({"read"})
    concurrency_safe = True
    early = True
    share_safe = True
    subject = "file_path"
    paths = frozenset({"file_path"})
    rooted = True

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. A file that cannot be read is an error result."""
        path: str = input["file_path"]
        offset: int = input.get("offset", 1)
        limit: int = input.get("limit", DEFAULT_LINES)

        def read(files: RootedFiles, where: Path) -> ToolResult:
            with files.open(where) as file:
                media_type = image_type(file.read(SNIFFED))
                if media_type and (picture := _encoded(file)):
                    return ToolResult([ImageBlock(media_type, picture)])
            data, more = files.read_bytes(where, MAX_BYTES)
            if media_type or is_binary(data):
                return _described(path, media_type, files.stat(where).size)
            return _page(path, data, more, offset, limit, context.max_result_chars)

        try:
            return await in_files(context, path, read)
        except Failed as failed:
            return failed.result


def _encoded(file: BinaryIO) -> str:
    """A file in base64; "": it is too large. It is read in pieces, to avoid having several copies
    of the whole image in memory."""
    file.seek(0)
    encoded = bytearray()
    rest = b""
    left = MAX_BYTES
    while piece := file.read(min(_PIECE, left + 1)):
        left -= len(piece)
        if left < 0:
            return ""
        rest += piece
        cut = len(rest) - len(rest) % 3
        encoded += b64encode(rest[:cut])
        rest = rest[cut:]
    encoded += b64encode(rest)
    return encoded.decode("ascii")


def _described(path: str, media_type: str, size: int) -> ToolResult:
    if not media_type:
        return ToolResult(f"{path} is a binary file of {size:,} bytes.")
    return ToolResult(f"{path} is an image of {size:,} bytes; at most {MAX_BYTES:,} can be shown.")


def _page(
    path: str, data: bytes, more: bool, offset: int, limit: int, max_chars: int
) -> ToolResult:
    if not data:
        return ToolResult(f"{path} is empty.")
    total = data.count(b"\n") + (not data.endswith(b"\n"))
    if offset > total:
        return ToolResult(
            f"{path} has {total:,} lines{' or more' if more else ''}; offset {offset} is past its "
            "end.",
            is_error=True,
        )
    left = max(max_chars - _ROOM_FOR_NOTE, 1)
    shown: list[str] = []
    for number, line in _lines(data, offset, limit):
        text = f"{number:>6}\t{_shortened(line)}"
        left -= len(text) + 1
        if left < 0 and shown:
            break
        shown.append(text)
    last = offset + len(shown) - 1
    if last < total:
        shown.append(
            f"[lines {offset}-{last} of {total:,}{'+' if more else ''}; go on with "
            f"offset={last + 1}]"
        )
    elif more:
        shown.append(f"[only the first {MAX_BYTES:,} bytes of this file can be read; Grep finds]")
    return ToolResult("\n".join(shown))


def _lines(data: bytes, offset: int, limit: int) -> Iterator[tuple[int, bytes]]:
    """Lines `offset` and following, without decoding or copying the rest of the file."""
    start = 0
    for number in range(1, offset + limit):
        if start >= len(data):
            return
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        if number >= offset:
            yield number, data[start : min(end, start + 4 * MAX_LINE_CHARS + 4)]
        start = end + 1


def _shortened(line: bytes) -> str:
    text = line.decode("utf-8", "replace").removesuffix("\r")
    return text if len(text) <= MAX_LINE_CHARS else f"{text[:MAX_LINE_CHARS]}… [line cut]"
