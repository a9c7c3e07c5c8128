"""Where the JSON is in what a model has answered: words, fences and thoughts stand round it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_FENCE: Final = re.compile(r"```[\w-]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_THOUGHT_ENDS: Final = "</think>"
_THOUGHT_BEGINS: Final = "<think>"


def json_texts(text: str, *, lists: bool = False) -> Iterator[str]:
    """The parts of a text that may be JSON, the likeliest first: all of it, what is fenced, and
    from the first brace to the last one, with `lists` also from bracket to bracket. Of a text that
    thinks first (`<think>...</think>`, as of servers that leave thoughts in the text) it is what
    comes behind that. None of them is read."""
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
    """What of a text comes behind the thoughts with which it begins; "": it still thinks. Some
    servers leave out the mark at the beginning."""
    _, mark, said = text.rpartition(_THOUGHT_ENDS)
    if mark:
        return said
    return "" if text.lstrip().startswith(_THOUGHT_BEGINS) else text
