"""Python's own parser, asked about texts that may be no Python."""

from __future__ import annotations

import ast
from typing import Final

NO_PYTHON: Final = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What the parser and the compiler raise for a text that they do not take: ValueError for a null
byte, the last two for what is nested too deep."""


def parsed(source: str) -> ast.Module | None:
    """The tree of a text; None if it is no Python."""
    try:
        return ast.parse(source)
    except NO_PYTHON:
        return None


def fault_of(error: BaseException) -> str:
    """What is wrong with the text for which one of NO_PYTHON was raised."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}" if error.lineno else error.msg
    if isinstance(error, RecursionError | MemoryError):
        return "it is nested too deep"
    return str(error)
