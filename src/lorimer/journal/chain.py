"""The hash chain over the rows of a stream.

Each row carries a mark: a hash of the mark of the row before it in its stream, its place, and its
body. A row that is changed, moved, swapped or taken out does not fit its neighbours any more. There
is no key in it: it shows damage and careless edits, not somebody who computes all marks anew.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

MARK_BYTES: Final = 12

START: Final = b""
"""What stands for the row before the first one."""


def mark(before: bytes, at: int, body: bytes) -> bytes:
    """The mark of a row after the one with the mark `before`. About 1 us."""
    row = b"%b%b%b" % (before, at.to_bytes(8, "big"), body)
    return blake2b(row, digest_size=MARK_BYTES).digest()
