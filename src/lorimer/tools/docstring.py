"""Splits a function's docstring into the descriptions of the function and of its parameters, in the
styles of Google (`Args:`), NumPy (`Parameters`, underlined) and Sphinx (`:param x:`)."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Final

_SECTION: Final = re.compile(r"(?:Args|Arguments|Parameters):\s*$")
_ARGUMENT: Final = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")
_UNDERLINE: Final = re.compile(r"-{3,}\s*$")
_ENTRY: Final = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*)\s*(?::.*)?$")
_FIELD: Final = re.compile(r":(param|type)\s[^:]*?\*{0,2}(\w+)\s*:\s*(.*)$")


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """A docstring as (text outside of its sections about parameters, parameter -> its text)."""
    reader = _Reader()
    lines = text.splitlines()
    for line, following in zip_longest(lines, lines[1:], fillvalue=""):
        if line.strip() and not line[0].isspace():
            reader.begin(line, underlined=_UNDERLINE.match(following) is not None)
        else:
            reader.go_on(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(reader.outside)).strip(), reader.notes


class _Reader:
    """Reads line by line, in one section at a time."""

    def __init__(self) -> None:
        self.outside: list[str] = []
        self.notes: dict[str, str] = {}
        self._part = ""
        """The style of the current section: `google`, `numpy` or `sphinx`; "": it is not about
        parameters."""
        self._names: list[str] = []
        """The parameters that the next lines describe."""
        self._margin = 0

    def begin(self, line: str, *, underlined: bool) -> None:
        """Read a line that is not indented."""
        field = _FIELD.match(line)
        entry = _ENTRY.match(line) if self._part == "numpy" else None
        if _SECTION.match(line) or (underlined and line.strip() == "Parameters"):
            self._part = "numpy" if underlined else "google"
            self._names, self._margin = [], 0
        elif field is not None:
            self._part = "sphinx"
            self._describe([field[2]] if field[1] == "param" else [], field[3])
        elif self._part == "numpy" and not self._names and _UNDERLINE.match(line):
            pass  # below the title
        elif entry is not None and not underlined:
            self._describe([name.lstrip("*") for name in entry[1].split(", ")], "")
        else:
            self._part = ""
            self.outside.append(line)

    def go_on(self, line: str) -> None:
        """Read an indented or empty line."""
        text = line.strip()
        if not self._part:
            self.outside.append(line)
        if not self._part or not text:
            return
        indent = len(line) - len(line.lstrip())
        self._margin = self._margin or indent
        google = self._part == "google" and indent <= self._margin
        argument = _ARGUMENT.match(text) if google else None
        if argument is not None:
            self._describe([argument[1]], argument[2])
        else:
            for name in self._names:
                self.notes[name] = f"{self.notes[name]} {text}".strip()

    def _describe(self, names: list[str], text: str) -> None:
        self._names = names
        for name in names:
            self.notes[name] = text
