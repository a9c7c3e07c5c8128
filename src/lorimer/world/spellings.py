"""Other ways to spell a path that lead to the same file on some file system: macOS tells neither
capitals nor ways to compose a letter apart, HFS+ sees no signs without width, Windows and VFAT drop
dots and blanks at the end of a name, and NTFS names streams behind a colon.

For what forbids: to say that two names are the same here is to be too careful, never too lax.
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
"""What the next two are about; nearly no path has any."""
_SHORT_GIT: Final = re.compile(r"(?<![^/])git~[0-9](?=/|\Z)")


def folded(path: str) -> str:
    """The plainest spelling of what a path may lead to, in small letters."""
    if not path.isascii():
        path = normalize("NFC", _UNSEEN.sub("", path).casefold())
    path = path.lower()
    if _ODD.search(path) is not None:
        path = _SHORT_GIT.sub(".git", _AT_THE_END.sub("", path))
    return path


def spellings(path: str) -> tuple[str, ...]:
    """A path in small letters, and its plainest spelling where that is another."""
    low, plain = path.lower(), folded(path)
    return (low,) if low == plain else (low, plain)
