"""The last turns of a run, for the guards of stage 16 to look back on."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Final, TypeAlias

from lorimer.core.jsonable import JSON
from lorimer.core.messages import ImageBlock, TextBlock, ToolResultBlock, ToolUse

LOOKS_BACK: Final = 16
"""Number of turns that are kept: repetition in longer cycles is not noticed."""

_COMPARED: Final = 64
"""Most calls of one turn that are compared one by one; a turn with more is compared as a whole."""

Made: TypeAlias = tuple[int, str, str | tuple[TextBlock | ImageBlock, ...], Mapping[str, JSON], str]
"""A call and its result: its mark, tool, result, arguments, and invalid arguments. Each turn is
compared with sixteen others, so what differs most often and is cheapest to compare comes first."""


class Trail:
    """The last turns with tool calls, newest last. Belongs to one run; its memory and the cost of a
    turn do not grow."""

    __slots__ = ("_made", "failures", "polls", "stale", "warned", "turns")

    def __init__(self) -> None:
        # lists: a deque takes 760 bytes for its first element
        self.turns: list[tuple[Made, ...]] = []
        """Turns without the calls that wait for something to change."""
        self._made: list[Made] = []
        """The calls of all these turns."""
        self.stale = 0
        """Number of latest turns in a row that brought nothing new."""
        self.failures = 0
        """Number of latest turns in a row in which every call failed."""
        self.polls = False
        """The latest turn only waited for something to change."""
        self.warned: set[str] = set()
        """Guards that have warned and whose condition still holds."""

    @property
    def advances(self) -> bool:
        """Whether the latest turn brought something new, and not all of its calls failed."""
        return not self.stale and not self.failures

    def add(
        self,
        calls: Sequence[ToolUse],
        results: Sequence[ToolResultBlock],
        polling: Container[str],
    ) -> None:
        """Add a turn after its calls were made. `polling` holds the names of tools that are called
        repeatedly on purpose."""
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
        if len(calls) > _COMPARED:  # else it takes quadratic time
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
        """How many of the latest turns in a row equal the one `period` turns before."""
        turns, count = self.turns, 0
        for at in range(len(turns) - 1, period - 1, -1):
            if turns[at] != turns[at - period]:
                break
            count += 1
        return count


def _mark(call: ToolUse) -> int:
    """A hash of the arguments: calls with different hashes need not be compared further."""
    try:
        return hash(frozenset(call.input.items()))
    except TypeError:  # lists or objects are among them
        return 0
