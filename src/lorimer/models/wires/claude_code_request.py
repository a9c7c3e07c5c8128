"""What goes to the `claude` program: words of its command line, and one line of input.

It takes one message of a user at a time, so a longer conversation is told in that message. It gets
no tools, no settings and no session: it answers, and does nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lorimer.core.jsonable import JSON, dumps
from lorimer.core.messages import DocumentBlock, ImageBlock, Message, TextBlock
from lorimer.core.request import Request
from lorimer.models.wires.anthropic_request import wire_block
from lorimer.models.wires.shared import effort_of, turns

MAX_WORD: Final = 100_000
"""Bytes of one word of a command line; Linux takes 128 KiB."""

_USUAL: Final = "Answer the user."
"""Without any, the program would bring its own, of many thousand tokens."""
_TOLD: Final = (
    "Here is our conversation so far, one JSON object for each message, the oldest first. Say what "
    "the assistant says next: answer the last message, and write nothing but that answer.\n\n"
)
_ALWAYS: Final = (
    "--print",
    "--verbose",  # else the next one is refused
    "--output-format",
    "stream-json",
    "--input-format",
    "stream-json",
    "--include-partial-messages",
    "--no-session-persistence",
    "--setting-sources",
    "",
    "--strict-mcp-config",
    "--tools",
    "",
    "--max-turns",
    "1",
)


def words(request: Request, effort: str) -> list[str]:
    """The command line, without the program. A system prompt that is too long for one is in the
    input."""
    out = [*_ALWAYS, "--model", request.model]
    out += ["--system-prompt", _USUAL if _is_long(request) else request.system or _USUAL]
    asked = effort_of(request, effort)
    return [*out, "--effort", asked] if asked else out


def line(request: Request) -> bytes:
    """Its whole input. Raises TypeError and ValueError for what JSON cannot hold."""
    content: list[JSON] = []
    if _is_long(request):
        content.append({"type": "text", "text": f"{request.system}\n\n"})
    content += _content(request.messages)
    message: JSON = {"role": "user", "content": content}
    return dumps({"type": "user", "message": message}).encode("utf-8", "replace") + b"\n"


def _is_long(request: Request) -> bool:
    return len(request.system.encode("utf-8", "replace")) > MAX_WORD


def _content(messages: Sequence[Message]) -> list[JSON]:
    said = turns(messages)
    if len(said) == 1:
        return [block for each in said[0].blocks if (block := wire_block(each)) is not None]
    media: list[JSON] = []
    lines: list[str] = []
    for turn in said:
        parts: list[str] = []
        for block in turn.blocks:
            match block:
                case TextBlock():
                    parts.append(block.text)
                case ImageBlock() | DocumentBlock():
                    media.append(wire_block(block))
                    parts.append(f"[attachment {len(media)}]")
                case _:
                    pass  # calls are prose by now, and thoughts are sealed for their own wire
        lines.append(dumps({"role": turn.role, "text": "\n".join(parts)}))
    return [{"type": "text", "text": _TOLD + "\n".join(lines)}, *media]
