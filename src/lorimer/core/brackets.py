"""Detects when JSON that arrives in pieces is complete, without parsing it repeatedly."""

from __future__ import annotations


class Brackets:
    """Follows the brackets of one JSON object or list, reading each character once."""

    __slots__ = ("_depth", "_escaped", "_in_text", "closed")

    def __init__(self) -> None:
        self._depth = 0
        self._in_text = False
        self._escaped = False
        self.closed = False
        """The outermost bracket is closed. Whether the text is JSON is for a parser to say."""

    def look(self, piece: str) -> None:
        """Read the next piece. Once closed, it stays closed."""
        for sign in piece:
            if self._escaped:
                self._escaped = False
            elif self._in_text:
                if sign == "\\":
                    self._escaped = True
                elif sign == '"':
                    self._in_text = False
            elif sign == '"':
                self._in_text = True
            elif sign in "{[":
                self._depth += 1
            elif sign in "}]":
                self._depth -= 1
                if not self._depth:
                    self.closed = True
                    return
