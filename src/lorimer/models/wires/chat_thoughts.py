"""The thoughts of servers with OpenAI's chat API: how they are read, and how they are sent back.

OpenAI itself shows no thoughts on this wire; other servers each have a field for them. Some
(DeepSeek, Kimi) reject a conversation whose calls lack the thoughts behind them, some (OpenRouter)
seal them. So they go back unchanged in the field they came in, and only to the server that sent
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from lorimer.core.jsonable import JSON, dumps
from lorimer.core.messages import Block, ThinkingBlock
from lorimer.models.wires.shared import Text, array, mapping, shallow, string
from lorimer.models.wires.sse import parse_json

FIELDS: Final = ("reasoning_content", "reasoning")
"""Where the text is."""
DETAILS: Final = "reasoning_details"
"""Where it is in parts, which may be sealed; the text is then only for reading."""
_JOINED: Final = {"reasoning.text": "text", "reasoning.summary": "summary"}
"""Kinds of parts that come in pieces, and the field that is cut."""


def origin_of(provider: str) -> str:
    """`ThinkingBlock.origin` of the thoughts of a server."""
    return f"chat:{provider}"


class Thoughts:
    """Those of one answer, under construction."""

    __slots__ = ("_cut", "_details", "_field", "_origin", "_text")

    def __init__(self, provider: str) -> None:
        self._origin = origin_of(provider)
        self._text = Text()
        self._field = ""
        self._details: list[dict[str, JSON]] = []
        self._cut: dict[tuple[str, JSON], tuple[dict[str, JSON], list[str]]] = {}
        """Field and index of a part that comes in pieces -> the part, and its text so far."""

    def take(self, delta: Mapping[str, JSON]) -> str:
        """Add what is in a delta or a message; returns the text that can be shown now."""
        details = delta.get(DETAILS)
        for item in details if isinstance(details, list) else ():
            self._join(mapping(shallow(item)))
        for field in FIELDS:
            if piece := delta.get(field):
                self._field = self._field or field
                return self._text.add(string(piece))
        return ""

    def block(self) -> ThinkingBlock | None:
        """They as a block; None: there are none."""
        text = str(self._text)
        for (name, _), (part, pieces) in self._cut.items():
            if whole := "".join(pieces):
                part[name] = whole
        if self._details:
            return ThinkingBlock(text, dumps(self._details), origin=self._origin, id=DETAILS)
        return ThinkingBlock(text, origin=self._origin, id=self._field) if text else None

    def _join(self, item: dict[str, JSON]) -> None:
        """A seal covers the whole text, so a part that was cut must be sent back in one piece."""
        kind, index = item.get("type"), item.get("index")
        name = _JOINED.get(kind) if isinstance(kind, str) else None
        if name is None or not isinstance(index, int | str):
            self._details.append(item)
            return
        part, pieces = self._cut.setdefault((name, index), (item, []))
        pieces.append(string(item.get(name) or ""))
        if part is item:
            self._details.append(item)
        else:
            part |= {key: value for key, value in item.items() if value is not None}


def sent_back(blocks: Sequence[Block], provider: str) -> dict[str, JSON]:
    """The fields of an assistant message that hold the thoughts among these blocks."""
    out: dict[str, JSON] = {}
    for block in blocks:
        if not isinstance(block, ThinkingBlock) or block.origin != origin_of(provider):
            continue
        if block.id == DETAILS and block.signature:
            out[DETAILS] = [*array(out.get(DETAILS, [])), *array(parse_json(block.signature))]
        elif block.id in FIELDS and block.text:
            earlier = out.get(block.id)
            out[block.id] = f"{earlier}\n{block.text}" if earlier else block.text
    return out
