"""Messages as text: for recaps, for whoever writes them, and for whoever reads them back."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, assert_never

from lorimer.core.jsonable import JSON, dumps
from lorimer.core.messages import (
    Block,
    DocumentBlock,
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUse,
)

_SPEECH_CHARS: Final = 240
_CALL_CHARS: Final = 120
_RESULT_CHARS: Final = 80
_LEAST_CHARS: Final = 200
"""Of a message in a transcript; of more messages than have room, some are left out."""


def outline(messages: Iterable[Message], before: str, max_chars: int) -> str:
    """One line for each message, call and result, after the lines of `before`. Beyond `max_chars`,
    lines after the first quarter are left out."""
    lines = before.splitlines()
    for message in messages:
        for block in message.content:
            line = _line(message, block)
            if line:
                lines.append(line)
    if sum([len(line) + 1 for line in lines]) <= max_chars:
        return "\n".join(lines)
    first = _within(lines, max_chars // 4)
    marker = "(...)"
    last = _within(lines[len(first) :][::-1], max_chars - max_chars // 4 - len(marker) - 2)
    return "\n".join([*first, *([] if first[-1:] == [marker] else [marker]), *reversed(last)])


def transcript(messages: Sequence[Message], max_chars: int, *, arguments: bool) -> str:
    """The messages as JSON for a model to read, limited to about `max_chars`: long ones are cut in
    the middle, and of very many those after the first quarter are left out. `arguments`: include
    those of calls. Media and thinking are left out."""
    most = max(1, max_chars // _LEAST_CHARS)
    each = max(_LEAST_CHARS, max_chars // max(1, len(messages)))
    first, last = messages, messages[:0]
    if len(messages) > most:
        first, last = messages[: most // 4], messages[most // 4 - most :]
    told: list[JSON] = [_told(message, each, arguments) for message in first]
    if last:
        told.append(f"(... {len(messages) - most} messages ...)")
    return dumps([*told, *[_told(message, each, arguments) for message in last]])


def _told(message: Message, chars: int, arguments: bool) -> JSON:
    return {"role": message.role, "said": shortened(told_text(message, arguments=arguments), chars)}


def text_of(block: ToolResultBlock) -> str:
    """The text of a result."""
    content = block.content
    if isinstance(content, str):
        return content
    return "\n".join([part.text for part in content if isinstance(part, TextBlock)])


def shortened_line(text: str, chars: int) -> str:
    """The text on one line, limited to so many characters."""
    line = " ".join(text[: 4 * chars].split())
    return line if len(line) <= chars else line[: chars - 3] + "..."


def _line(message: Message, block: Block) -> str:
    match block:
        case TextBlock():
            who = "User" if message.role == "user" else "Assistant"
            said = shortened_line(block.text, _SPEECH_CHARS)
            return f"{who}: {said}" if said else ""
        case ToolUse():
            return f"Called {block.name}({shortened_line(dumps(dict(block.input)), _CALL_CHARS)})"
        case ToolResultBlock():
            sign = "failed: " if block.is_error else ""
            return f"  -> {sign}{shortened_line(text_of(block), _RESULT_CHARS)}"
        case ImageBlock() | DocumentBlock():
            return f"User: (a {block.type})"
        case ThinkingBlock():
            return ""
        case _:
            assert_never(block)


def _within(lines: Sequence[str], chars: int) -> Sequence[str]:
    """As many of the first lines as fit."""
    ends = [*accumulate(len(line) + 1 for line in lines)]
    return lines[: bisect_right(ends, chars)]


def told_text(message: Message, *, arguments: bool = True) -> str:
    """All text of a message, including calls and results; media by name only, without thinking."""
    parts: list[str] = []
    for block in message.content:
        match block:
            case TextBlock():
                parts.append(block.text)
            case ToolUse():
                given = dumps(dict(block.input)) if arguments else "..."
                parts.append(f"[calls {block.name}({given})]")
            case ToolResultBlock():
                failed = "failed" if block.is_error else "gave"
                parts.append(f"[{failed}: {text_of(block)}]")
            case ImageBlock() | DocumentBlock():
                parts.append(f"[a {block.type}]")
            case ThinkingBlock():
                pass
            case _:
                assert_never(block)
    return "\n".join(parts)


def shortened(text: str, chars: int) -> str:
    """The text, cut in the middle if it is longer than so many characters."""
    if len(text) <= chars:
        return text
    half = max(chars, 0) // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]} (... {left_out} characters ...) {text[half + left_out :]}"
