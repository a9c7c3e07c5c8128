"""The last turns of a run, as the guards of stage 16 look back on them."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Final, TypeAlias

from lorimer.core.jsonable import JSON
from lorimer.core.messages import ImageBlock, TextBlock, ToolResultBlock, ToolUse

LOOKS_BACK: Final = 16
"""Turns that are kept: what repeats itself in longer cycles is not noticed."""

_COMPARED: Final = 64
"""Calls of one turn that are looked for one by one; a turn of more is looked for as a whole."""

Made: TypeAlias = tuple[int, str, str | tuple[TextBlock | ImageBlock, ...], Mapping[str, JSON], str]
"""A call with what it gave: its mark, tool, result, arguments, and those that were no JSON. Each
turn is compared with sixteen: what differs most often, and costs least to compare, stands first."""


class Trail:
    """The last turns in which calls were made, newest last. Belongs to one run; its memory does
    not grow, and neither does the cost of a turn."""

    __slots__ = ("_made", "failures", "polls", "stale", "warned", "turns")

    def __init__(self) -> None:
        # lists: a deque takes 760 bytes for its first element
        self.turns: list[tuple[Made, ...]] = []
        """Calls that wait for something to change are left out."""
        self._made: list[Made] = []
        """The calls of all these turns."""
        self.stale = 0
        """How many turns in a row, up to now, brought nothing new."""
        self.failures = 0
        """How many turns in a row, up to now, had only calls that failed."""
        self.polls = False
        """The newest turn did nothing but wait for something to change."""
        self.warned: set[str] = set()
        """Guards that have warned, and whose reason to still holds."""

    @property
    def advances(self) -> bool:
        """The newest turn brought something new, and not all of its calls failed."""
        return not self.stale and not self.failures

    def add(
        self,
        calls: Sequence[ToolUse],
        results: Sequence[ToolResultBlock],
        polling: Container[str],
    ) -> None:
        """A turn, once its calls were made. `polling` holds the names of tools that are called
        again and again on purpose."""
        worked = fresh = False
        turn: list[Made] = []
        before = self._made
        for call, result in zip(calls, results, strict=True):
            worked = worked or not result.is_error
            if call.name not in polling:
                made = (_mark(call), call.name, result.content, call.input, call.raw)
                if not fresh and len(calls) <= _COMPARED:
                    fresh = made not in before
                turn.append(made)
        if len(calls) > _COMPARED:  # else it takes as long as the square of their number
            fresh = tuple(turn) not in self.turns
        self.failures = 0 if worked else self.failures + 1
        self.polls = not turn
        if self.polls:
            return
        self.stale = 0 if fresh else self.stale + 1
        if len(self.turns) == LOOKS_BACK:
            del before[: len(self.turns.pop(0))]
        self.turns.append(tuple(turn))
        before.extend(turn)

    def repeated(self, period: int) -> int:
        """How many of the newest turns in a row are the same as the one `period` turns before."""
        turns, count = self.turns, 0
        for at in range(len(turns) - 1, period - 1, -1):
            if turns[at] != turns[at - period]:
                break
            count += 1
        return count


def _mark(call: ToolUse) -> int:
    """A hash of its arguments: two calls with different ones need not be looked at further."""
    try:
        return hash(frozenset(call.input.items()))
    except TypeError:  # lists or objects are among them
        return 0
