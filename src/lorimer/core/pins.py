"""Which messages of a conversation are pinned, kept up to date at a cost that depends only on what
is new. What pinning means: `stages/s02_compaction.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lorimer.core.excerpt import stands_alone
from lorimer.core.messages import Message

if TYPE_CHECKING:
    from lorimer.core.history import History


class Pins:
    """The pinned messages of one conversation."""

    __slots__ = ("_digest", "_indexes", "_taken", "first", "markers")

    def __init__(self, history: History, first: bool, markers: Sequence[str]) -> None:
        self.first = first
        """Whether the conversation's first message is pinned."""
        self.markers = tuple(markers)
        """User messages that contain one of these are pinned."""
        self._indexes: list[int] = []
        self._taken = 0
        self._digest = history.digest_at(0)

    def before(self, history: History, end: int) -> list[int]:
        """Their indexes before `end`, ascending."""
        if history.digest_at(self._taken) != self._digest:  # some of it was replaced
            self._taken, self._indexes = 0, []
        for index in range(self._taken, end):
            if self._pins(history[index], index):
                self._indexes.append(index)
        self._taken = max(self._taken, end)
        self._digest = history.digest_at(self._taken)
        return [index for index in self._indexes if index < end]

    def _pins(self, message: Message, index: int) -> bool:
        if message.role != "user" or not stands_alone(message):
            return False
        if index == 0 and self.first:
            return True
        return any(marker in message.text for marker in self.markers)


def pins(history: History, first: bool, markers: Sequence[str]) -> Pins:
    """The pins of this conversation, by these rules."""
    known = history.pins
    if known is None or (known.first, known.markers) != (first, tuple(markers)):
        known = history.pins = Pins(history, first, markers)
    return known
