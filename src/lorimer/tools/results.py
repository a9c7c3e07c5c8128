"""What the model is shown of a result: rendered, cut to size, the rest spilled to a file.

The only place that decides on truncation and spilling; built-in tools only page. The output of a
program, which may be endless, goes to a file as it arrives: `overflow.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias, cast

from lorimer.core.errors import LorimerError
from lorimer.core.jsonable import JSON, clean
from lorimer.core.messages import ImageBlock, TextBlock, content_to_json
from lorimer.core.redaction import Redactor, logger
from lorimer.tools.base import ToolContext, ToolResult
from lorimer.tools.encode import readable, text_of

Spill: TypeAlias = Callable[[str, str], Awaitable[str]]
"""Stores a text under a key of letters, digits, `-`, `_`; returns the path to read it from."""

MAX_SPILL_CHARS: Final = 4_000_000
"""Most characters of one result that are stored in a file; the rest is dropped."""
MAX_IMAGE_CHARS: Final = 6_000_000
"""Most base64 characters of one image; a larger one is replaced by a note."""

MAX_IMAGES_CHARS: Final = 4 * MAX_IMAGE_CHARS
"""Most base64 characters of all images in one result."""
MAX_PARTS: Final = 100
"""Most texts and images in one result; further texts are joined into one."""
SPILL_DIR: Final = ".lorimer/results"
"""Where the default spill writes, below the working directory."""

_HEAD: Final = 2 / 3
_LINE_SLACK: Final = 200

_log = logger("lorimer.tools")


async def told(
    result: ToolResult,
    limit: int,
    spill: Spill | None,
    key: str,
    redactor: Redactor | None = None,
) -> dict[str, JSON]:
    """The data of `tool.result` for a tool's result, with at most `limit` characters of text (plus
    markers for what is left out). Secrets are removed here from texts that are cut or spilled; the
    run removes them from the others."""
    content = result.content
    if result.spilled:
        spill = None
    blocks = _blocks(content)
    if blocks is None:
        return marked(result, await shorten(text_of(content), limit, spill, key, redactor))
    return marked(result, content_to_json(await _parts(blocks, limit, spill, key, redactor)))


def marked(result: ToolResult, content: JSON) -> dict[str, JSON]:
    """The data of `tool.result` with this content."""
    data: dict[str, JSON] = {"content": content}
    if result.is_error is True:
        data["is_error"] = True
    if result.error is not None:
        data["error"] = result.error.value
    return data


def failed(error: LorimerError) -> dict[str, JSON]:
    """The data of `tool.result` for a call that produced no result of its own."""
    text = f"ERROR {error.code.value}: {readable(error.message)}"
    if error.hint:
        text = f"{text} {readable(error.hint)}"
    return {"content": text, "is_error": True, "error": error.code.value}


async def shorten(
    text: str, limit: int, spill: Spill | None, key: str, redactor: Redactor | None = None
) -> str:
    """The text if it has at most `limit` characters, else its head and tail around a marker that
    says how much is missing and where the whole text is."""
    if len(text) <= limit:
        return readable(text)
    gone = 0
    if redactor is not None:  # before cutting: half a secret would not be recognized
        text, gone = _clean(text, limit, redactor)
    place = await _spill(text, spill, key) if spill is not None else ""
    total = len(text) + gone
    marker = _marker(total, total, place)
    room = max(limit - len(marker), 0)
    head = _to_line_end(text, int(room * _HEAD))
    tail = _from_line_start(text, len(text) - (room - head))
    marker = _marker(total, tail - head + gone, place)
    return readable(f"{text[:head]}{marker}{text[tail:]}")[: max(limit, len(marker))]


def _clean(text: str, limit: int, redactor: Redactor) -> tuple[str, int]:
    """The text without secrets, and how many characters were left out of its middle. Only of a text
    that is too long to store: nobody will read those, and searching them would take long."""
    edge = redactor.longest  # at the cut, part of a secret may remain
    gone = len(text) - MAX_SPILL_CHARS - limit
    if gone <= 2 * edge:
        return redactor.text(text), 0
    first, last = text[: MAX_SPILL_CHARS + edge], text[-limit - edge :]
    return redactor.text(first)[:-edge] + redactor.text(last)[edge:], gone


def _marker(total: int, missing: int, place: str) -> str:
    where = ""
    if place:
        kept = "All of it" if total <= MAX_SPILL_CHARS else f"Its first {MAX_SPILL_CHARS:,}"
        where = f" {kept} is in {place}: Read it with offset and limit, or Grep it."
    return f"\n\n[... {missing:,} of {total:,} characters left out.{where} ...]\n\n"


def into_files(context: ToolContext) -> Spill | None:
    """The default spill: a file below the host's working directory; None without files."""
    files = context.files
    if files is None or spill_place(context, "") is None:
        return None

    async def spill(key: str, text: str) -> str:
        place = spill_place(context, key)
        assert place is not None
        await context.in_thread(lambda: files.write_bytes(place[0], text.encode()))
        return place[1]

    return spill


def spill_place(context: ToolContext, key: str) -> tuple[Path, str] | None:
    """The file for what is spilled under a key, and how the model is told about it; None without a
    working directory."""
    home = context.home or context.working_dir
    if home is None:
        return None
    path = home / SPILL_DIR / f"{key}.txt"
    return path, str(path.relative_to(home) if home == context.working_dir else path)


async def _spill(text: str, spill: Spill, key: str) -> str:
    try:
        return await spill(key, clean(text[:MAX_SPILL_CHARS]))
    except asyncio.CancelledError:
        raise
    except Exception:  # noqa: BLE001 - no room, no rights: the model still gets head and tail
        _log.warning("the whole result %s could not be kept", key, exc_info=True)
        return ""


def _to_line_end(text: str, at: int) -> int:
    found = text.rfind("\n", max(at - _LINE_SLACK, 0), at)
    return found if found >= 0 else at


def _from_line_start(text: str, at: int) -> int:
    found = text.find("\n", at, at + _LINE_SLACK)
    return found + 1 if found >= 0 else at


async def _parts(
    blocks: list[TextBlock | ImageBlock],
    limit: int,
    spill: Spill | None,
    key: str,
    redactor: Redactor | None,
) -> list[TextBlock | ImageBlock]:
    """The blocks, within all limits: further texts are joined into one, which is shortened."""
    parts: list[TextBlock | ImageBlock] = []
    rest: list[str] = []
    images = MAX_IMAGES_CHARS
    left_out = 0
    for number, block in enumerate(blocks):
        full = len(parts) >= MAX_PARTS
        if isinstance(block, TextBlock):
            if full or limit <= 0:
                rest.append(block.text)
                continue
        elif full or images < len(block.data) + len(block.url):
            left_out += 1
            continue
        part = await _part(block, limit, spill, f"{key}-{number}", redactor)
        if isinstance(part, TextBlock):
            limit -= len(part.text)
        else:
            images -= len(part.data) + len(part.url)
        parts.append(part)
    if rest:
        text = await shorten("\n".join(rest), max(limit, 0), spill, f"{key}-rest", redactor)
        parts.append(TextBlock(text))
    if left_out:
        parts.append(TextBlock(f"[{left_out:,} more images, too many to show]"))
    return parts


async def _part(
    block: TextBlock | ImageBlock,
    limit: int,
    spill: Spill | None,
    key: str,
    redactor: Redactor | None,
) -> TextBlock | ImageBlock:
    if isinstance(block, TextBlock):
        return TextBlock(await shorten(block.text, limit, spill, key, redactor))
    if len(block.data) > MAX_IMAGE_CHARS:
        return TextBlock(f"[an image of {len(block.data) * 3 // 4:,} bytes, too large to show]")
    return block


def _blocks(content: object) -> list[TextBlock | ImageBlock] | None:
    """The content, if it is a list of blocks only; None: some other value."""
    if isinstance(content, TextBlock | ImageBlock):
        return [content]
    if not isinstance(content, list | tuple) or not content:
        return None
    blocks: list[TextBlock | ImageBlock] = []
    for item in cast("list[object]", content):
        block = _block(item)
        if block is None:
            return None
        blocks.append(block)
    return blocks


def _block(item: object) -> TextBlock | ImageBlock | None:
    match item:
        case TextBlock():
            return item
        case ImageBlock() if item.data or item.url:
            return item
        case {"type": "text", "text": str(text)} if len(cast("Mapping[str, object]", item)) == 2:
            return TextBlock(text)
        case {"type": "image", "media_type": str(media_type), "data": str(data)} if data:
            return ImageBlock(media_type, data)
        case {"type": "image", "url": str(url)} if url:
            return ImageBlock(url=url)
        case _:
            return None
