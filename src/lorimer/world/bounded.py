"""A buffer that keeps the beginning and the end of everything written to it."""

from __future__ import annotations


class BoundedOutput:
    """Bytes of a program's output, of which at most `limit` are kept.

    The first half and the last half are kept, because a program reports what it does at the
    beginning and why it failed at the end. Memory use is at most `limit` plus one chunk, and no
    more than was written.

    Raises ValueError for a negative limit.
    """

    __slots__ = ("_at", "_head", "_head_limit", "_limit", "_tail", "_tail_limit", "_total")

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"limit must not be negative, got {limit}")
        self._limit = limit
        self._head_limit = limit // 2
        self._tail_limit = limit - self._head_limit
        self._head = bytearray()
        self._tail = bytearray()
        self._at = 0
        self._total = 0

    @property
    def total(self) -> int:
        """Bytes written so far, kept or not."""
        return self._total

    @property
    def complete(self) -> bool:
        """Whether everything written is still there."""
        return self._total <= self._limit

    def write(self, chunk: bytes) -> None:
        """Append `chunk`; bytes that do not fit are only counted."""
        self._total += len(chunk)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        if len(chunk) >= self._tail_limit:
            self._tail[:] = chunk[len(chunk) - self._tail_limit :]
            self._at = 0
            return
        grow = chunk[: self._tail_limit - len(self._tail)]
        self._tail += grow
        rest = chunk[len(grow) :]
        # The tail is full: a ring buffer whose oldest byte is at `_at`.
        first = rest[: self._tail_limit - self._at]
        self._tail[self._at : self._at + len(first)] = first
        second = rest[len(first) :]
        self._tail[: len(second)] = second
        if rest:
            self._at = (self._at + len(rest)) % self._tail_limit

    def content(self) -> bytes:
        """Everything that was written, or head and tail around a line that says how much is
        missing.

        Never longer than the limit, including the marker line, which is omitted if the limit is too
        small for it.
        """
        tail = bytes(self._tail[self._at :] + self._tail[: self._at])
        if self.complete:
            return bytes(self._head) + tail
        room = self._limit - len(_marker(self._total))
        if room <= 0:
            return bytes(self._head) + tail
        head_room = room // 2
        tail_room = room - head_room
        marker = _marker(self._total - room)
        return bytes(self._head[:head_room]) + marker + tail[len(tail) - tail_room :]


def _marker(missing: int) -> bytes:
    return b"\n... %d bytes left out ...\n" % missing
