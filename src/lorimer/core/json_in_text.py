"""Finds the JSON in a model's answer, among words, code fences and thoughts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_FENCE: Final = re.compile(r"```[\w-]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_THOUGHT_ENDS: Final = "</think>"
_THOUGHT_BEGINS: Final = "<think>"


def json_texts(text: str, *, lists: bool = False) -> Iterator[str]:
    """The parts of a text that may be JSON, likeliest first: all of it, the fenced parts, and from
    the first brace to the last; with `lists` also from bracket to bracket. If the text begins with
    thoughts (`<think>...</think>`, which some servers leave in the text), only what follows them.
    Nothing is parsed."""
    yield text.strip()
    said = after_thoughts(text)
    if said is not text:
        yield said.strip()
    for match in _FENCE.finditer(said):
        yield match[1].strip()
    for first, last in ("{}", "[]") if lists else ("{}",):
        start, end = said.find(first), said.rfind(last)
        if 0 <= start < end:
            yield said[start : end + 1]


def after_thoughts(text: str) -> str:
    """The part of a text that follows the thoughts at its beginning; "": it is still thinking. Some
    servers omit the opening mark."""
    _, mark, said = text.rpartition(_THOUGHT_ENDS)
    if mark:
        return said
    return "" if text.lstrip().startswith(_THOUGHT_BEGINS) else text
