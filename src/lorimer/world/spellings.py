"""Alternative spellings of a path that lead to the same file on some file system: macOS ignores
case and Unicode composition, HFS+ ignores zero-width characters, Windows and VFAT drop trailing
dots and blanks, and NTFS has streams after a colon.

For prohibitions only: treating two names as equal here errs on the side of caution.
"""

from __future__ import annotations

import re
from typing import Final
from unicodedata import normalize

_UNSEEN: Final = re.compile(
    "[\u00ad\u034f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe0f\ufeff]"
)
_AT_THE_END: Final = re.compile(r"(?<=[^/ .])(?::[^/]*|[ .]+)(?=/|\Z)")
_ODD: Final = re.compile(r"[. ](?:/|\Z)|[:~]")
"""The cases that the next two patterns are for; very few paths match."""
_SHORT_GIT: Final = re.compile(r"(?<![^/])git~[0-9](?=/|\Z)")


def folded(path: str) -> str:
    """The simplest spelling of what a path may lead to, in lower case."""
    if not path.isascii():
        path = normalize("NFC", _UNSEEN.sub("", path).casefold())
    path = path.lower()
    if _ODD.search(path) is not None:
        path = _SHORT_GIT.sub(".git", _AT_THE_END.sub("", path))
    return path


def spellings(path: str) -> tuple[str, ...]:
    """A path in lower case, and its simplest spelling if that differs."""
    low = path.lower()
    if path.isascii() and _ODD.search(low) is None:
        return (low,)
    plain = folded(path)
    return (low,) if low == plain else (low, plain)
