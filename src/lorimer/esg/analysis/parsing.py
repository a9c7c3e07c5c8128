"""Python's own parser, applied to texts that may not be Python."""

from __future__ import annotations

import ast
import re
import threading
import warnings
from functools import cache
from typing import Final

NO_PYTHON: Final = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What the parser and the compiler raise for invalid text: ValueError for a null byte, the last two
for too deep nesting."""
_ODD_ESCAPE: Final = re.compile(r"""\\[^\n\\'"abfnrtvx]""")
"""An invalid escape (`"\\d"`), or one that may be too large (`"\\777"`). Raw strings have none."""


def tree_of(source: str) -> ast.Module:
    """The tree of a text that is only read. Raises `NO_PYTHON`.

    Python's warnings about strings (`"\\d"`) are given once, by the run, to whoever reads the
    step's output.
    """
    if "\\" not in source or not _ODD_ESCAPE.search(source):
        return ast.parse(source)
    with _alone(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


@cache
def _alone() -> threading.Lock:
    """The warnings filter of Python is one setting for all threads."""
    return threading.Lock()


def parsed(source: str) -> ast.Module | None:
    """The tree of a text; None if it is not valid Python."""
    try:
        return tree_of(source)
    except NO_PYTHON:
        return None


def fault_of(error: BaseException) -> str:
    """What is wrong with a text for which one of NO_PYTHON was raised."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}" if error.lineno else error.msg
    if isinstance(error, RecursionError | MemoryError):
        return "it is nested too deep"
    return str(error)
