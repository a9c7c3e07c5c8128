"""Where JSON that comes in pieces is whole, without parsing it again and again."""

from __future__ import annotations


class Brackets:
    """Follows the brackets of one JSON object or list; each character is looked at once."""

    __slots__ = ("_depth", "_escaped", "_in_text", "closed")

    def __init__(self) -> None:
        self._depth = 0
        self._in_text = False
        self._escaped = False
        self.closed = False
        """The bracket that was opened first is closed. Whether that is JSON is for a parser."""

    def look(self, piece: str) -> None:
        """The next piece. Once it is closed it stays so."""
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
