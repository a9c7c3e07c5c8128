"""Input of the `claude` program: command line arguments, and one line on stdin.

It takes a single user message, so a longer conversation is described in that message. It gets no
tools, no settings and no session: it only answers.
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
"""Bytes of one command line argument; the limit of Linux is 128 KiB."""

_USUAL: Final = "Answer the user."
"""Without a system prompt, the program would add its own, of many thousand tokens."""
_TOLD: Final = (
    "Here is our conversation so far, one JSON object for each message, the oldest first. Say what "
    "the assistant says next: answer the last message, and write nothing but that answer.\n\n"
)
_ALWAYS: Final = (
    "--print",
    "--verbose",  # required by the next one
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
    """The command line, without the program. A system prompt that is too long for it goes into the
    input."""
    out = [*_ALWAYS, "--model", request.model]
    out += ["--system-prompt", _USUAL if _is_long(request) else request.system or _USUAL]
    asked = effort_of(request, effort)
    return [*out, "--effort", asked] if asked else out


def line(request: Request) -> bytes:
    """The whole input. Raises TypeError and ValueError for values that JSON cannot represent."""
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
