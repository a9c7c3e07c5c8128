"""Reads the data of facts and messages without trusting their shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from lorimer.core.jsonable import JSON
from lorimer.core.request import NO_USAGE, Usage
from lorimer.core.spend import whole

Object: TypeAlias = Mapping[str, JSON]


def objects(value: JSON) -> list[Object]:
    """The objects in a JSON list; none in any other value."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return []
    return [item for item in value if isinstance(item, Mapping)]


def texts(value: JSON) -> tuple[str, ...]:
    """The items of a JSON list as texts; none of any other value."""
    return tuple([str(each) for each in value]) if isinstance(value, list | tuple) else ()


def uses_of(reply: Object) -> list[Object]:
    """The calls that a model.reply makes, in order."""
    return [b for b in objects(reply.get("content")) if b.get("type") == "tool_use"]


def text_of(reply: Object) -> str:
    """The text of a model.reply."""
    texts = [b for b in objects(reply.get("content")) if b.get("type") == "text"]
    return "\n".join([str(block.get("text", "")) for block in texts])


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
    parts = [str(b.get("text") or f"[{b.get('type')}]") for b in objects(content)]
    return "\n".join(parts)
