"""Python's own parser, asked about texts that may be no Python."""

from __future__ import annotations

import ast
import re
import threading
import warnings
from functools import cache
from typing import Final

NO_PYTHON: Final = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What the parser and the compiler raise for a text that they do not take: ValueError for a null
byte, the last two for what is nested too deep."""
_ODD_ESCAPE: Final = re.compile(r"""\\[^\n\\'"abfnrtvx]""")
"""One that there is not (`"\\d"`), or that may be too large (`"\\777"`). A raw text has none."""


def tree_of(source: str) -> ast.Module:
    """The tree of a text that is only read. Raises `NO_PYTHON`.

    What the parser warns of in texts (`"\\d"`) is told once, by the run: to whoever reads the
    step's output.
    """
    if "\\" not in source or not _ODD_ESCAPE.search(source):
        return ast.parse(source)
    with _alone(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


@cache
def _alone() -> threading.Lock:
    """What Python warns of is one setting for all threads."""
    return threading.Lock()


def parsed(source: str) -> ast.Module | None:
    """The tree of a text; None if it is no Python."""
    try:
        return tree_of(source)
    except NO_PYTHON:
        return None


def fault_of(error: BaseException) -> str:
    """What is wrong with the text for which one of NO_PYTHON was raised."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}" if error.lineno else error.msg
    if isinstance(error, RecursionError | MemoryError):
        return "it is nested too deep"
    return str(error)
