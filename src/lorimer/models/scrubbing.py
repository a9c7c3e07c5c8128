"""Removes secrets from one answer of a model, and from its pieces on their way to listeners.

A secret may be split over several pieces, so the end of a piece that could be the beginning of one
is held back until the next piece. What counts as a secret: `core/redaction.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from lorimer.core.jsonable import JSON
from lorimer.core.messages import Block, ThinkingBlock
from lorimer.core.redaction import Redactor
from lorimer.core.request import (
    Response,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
    response_from_json,
)

Piece: TypeAlias = TextDelta | ThinkingDelta | ToolInputDelta


class Scrubber:
    """Scrubs one answer."""

    __slots__ = ("_held", "_redactor")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held: Piece | None = None

    def take(self, item: Piece) -> list[Piece]:
        """The pieces that can be passed on, given `item`."""
        out: list[Piece] = []
        if self._held is not None:
            if _together(self._held, item):
                item = _with(self._held, _said(self._held) + _said(item))
            else:
                out.append(self._held)
            self._held = None
        in_json = isinstance(item, ToolInputDelta)
        if in_json:
            text = self._redactor.json_text(_said(item))
        else:
            text = self._redactor.text(_said(item), deep=False)
        kept = self._redactor.held_back(text, in_json=in_json)
        if kept:
            self._held = _with(item, text[-kept:])
            text = text[:-kept]
        if text or not kept:
            out.append(_with(item, text))
            if kept and isinstance(self._held, ToolInputDelta):
                self._held = replace(self._held, name="")
        return out

    def rest(self) -> list[Piece]:
        """Everything still held back, at the end."""
        held, self._held = self._held, None
        return [] if held is None else [held]

    def answer(self, response: Response, plain: dict[str, JSON]) -> dict[str, JSON]:
        """Remove secrets from an answer; returns its plain form without them. Signed reasoning that
        contained one loses its signature, and so is not sent back."""
        # arguments that could not be parsed are still JSON text, with escapes
        raw = any(call.raw for call in response.tool_calls)
        clean = self._redactor.json(plain, deep=raw)
        if clean is plain:
            return plain
        blocks: list[Block] = []
        for block, before in zip(response_from_json(clean).content, response.content, strict=True):
            if isinstance(block, ThinkingBlock) and block != before:
                place = "" if block.signature else block.id
                block = ThinkingBlock(block.text, origin=block.origin, id=place)
            blocks.append(block)
        response.content = tuple(blocks)
        response.extra = self._redactor.json(response.extra)
        return response.to_json()


def _said(item: Piece) -> str:
    return item.partial_json if isinstance(item, ToolInputDelta) else item.text


def _with(item: Piece, text: str) -> Piece:
    if isinstance(item, ToolInputDelta):
        return ToolInputDelta(item.index, text, item.name)
    return type(item)(text)


def _together(one: Piece, other: Piece) -> bool:
    if isinstance(one, ToolInputDelta) and isinstance(other, ToolInputDelta):
        return one.index == other.index
    return type(one) is type(other)
