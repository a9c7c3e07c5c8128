"""Reads the data of facts and of recorded messages, without trusting its shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from lorimer.core.jsonable import JSON, objects_of
from lorimer.core.request import NO_USAGE, Usage
from lorimer.core.spend import whole

Object: TypeAlias = Mapping[str, JSON]


def uses_in(content: JSON) -> list[Object]:
    """The calls in the content of a message, in order."""
    return [block for block in objects_of(content) if block.get("type") == "tool_use"]


def uses_of(reply: Object) -> list[Object]:
    """The calls that a model.reply makes, in order."""
    return uses_in(reply.get("content"))


def text_of(reply: Object) -> str:
    """The text of a model.reply."""
    blocks = objects_of(reply.get("content"))
    return "\n".join(
        [str(block.get("text", "")) for block in blocks if block.get("type") == "text"]
    )


def usage_of(data: Object) -> Usage:
    """The tokens in a fact's data."""
    usage = data.get("usage")
    return Usage.from_json(usage) if isinstance(usage, Mapping) else NO_USAGE


def nano_of(data: Object) -> int:
    """The cost in a fact's data, in nano-dollars."""
    return whole(data.get("cost"))


def use_at(uses: Sequence[Object], key: JSON) -> Object | None:
    """The call that a tool.result with this key answers; None: there is none."""
    text = str(key)
    small = text.isdecimal() and len(text) < 10
    return uses[int(text)] if small and int(text) < len(uses) else None


def result_text(content: JSON) -> str:
    """The content of a tool's result, as text."""
    if isinstance(content, str):
        return content
    parts = [str(block.get("text") or f"[{block.get('type')}]") for block in objects_of(content)]
    return "\n".join(parts)
