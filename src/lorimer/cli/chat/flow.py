"""Breaks prose that arrives in pieces between words, where a terminal would break within one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from unicodedata import combining

_FENCE: Final = "```"
_AS_IT_IS: Final = ("    ", "\t", "|", _FENCE)
"""How lines begin that may be copied, or are laid out already: they are not broken."""
_HEAD: Final = 16
"""Most characters kept of the beginning of a line."""
_BLANKS: Final = " \t"
"""Where prose may be broken; not at a no-break space, of which there are several."""
_GLUE: Final = re.compile("[\u200d\U0001f3fb-\U0001f3ff]")
"""Joins emoji, or changes the one before."""
_ITEM: Final = re.compile(r" *(?:[-*+]|\d+[.)]) +")
"""The beginning of an item of a list: its later rows are indented to its text."""


class Flow:
    """One text. What `feed` returns is shown at once; at most one word is held back."""

    def __init__(self, columns: Callable[[], int]) -> None:
        """`columns`: the width of the terminal, which may change."""
        self._columns = columns
        self._used = 0
        """Columns of the current row that are in use."""
        self._head = ""
        """The beginning of the current line."""
        self._word = ""
        """The word that is not complete yet."""
        self._fenced = False

    def feed(self, text: str) -> str:
        """The text so far, but for what was returned before and the word that may go on."""
        return "".join([self._next(char) for char in text])

    def end(self) -> str:
        """What was held back. The next text begins on a row of its own."""
        rest = self._placed()
        self._used, self._head, self._fenced = 0, "", False
        return rest

    def _next(self, char: str) -> str:
        if char == "\n":
            rest = self._placed()
            self._fenced ^= self._head.lstrip().startswith(_FENCE)
            self._used, self._head = 0, ""
            return f"{rest}\n"
        self._head = f"{self._head}{char}"[:_HEAD]
        if self._fenced or self._head.startswith(_AS_IT_IS):
            return f"{self._placed()}{char}"
        if char not in _BLANKS:
            rest = self._placed() if _may_part(self._word[-1:], char) else ""
            self._word += char
            return rest
        rest = self._placed()
        if self._used >= self._columns():
            return rest  # the break takes the place of the blank
        self._used += 1
        return f"{rest}{char}"

    def _placed(self) -> str:
        """The word that was held back, on the next row if it does not fit on this one."""
        if not self._word:
            return ""
        word, self._word = self._word, ""
        width, columns = _width(word), self._columns()
        item = _ITEM.match(self._head)
        indent = min(len(item[0]) if item else 0, columns // 3)
        before = ""
        fits = indent + width <= columns or self._used >= columns  # a blank may have been there
        if self._used + width > columns and self._used > indent and fits:
            before, self._used = f"\n{' ' * indent}", indent
        self._used += width
        if self._used > columns:  # longer than a row: the terminal breaks it
            self._used %= columns
        return f"{before}{word}"


def _may_part(before: str, char: str) -> bool:
    """Whether there may be a break between these two without a blank: beside letters of two
    columns, as in Chinese, but not within what is shown as one."""
    if before.isascii() and char.isascii():
        return False
    width = _width(char)
    joined = not width or combining(char) or _GLUE.match(char) or _GLUE.match(before)
    return not joined and 2 in (width, _width(before))


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
