"""The last turns of a run, as the guards of stage 16 look back on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence
from typing import Final

from lorimer.core.messages import ToolResultBlock, ToolUse
from lorimer.core.record import record

LOOKS_BACK: Final = 16
"""Turns that are kept: what repeats itself in longer cycles is not noticed."""


@record
class Turn:
    """The calls of one reply with their results."""

    calls: tuple[ToolUse, ...]
    results: tuple[ToolResultBlock, ...]
    failed: bool
    """Every call of it failed."""
    known: bool
    """Every call of it was made before, within the trail, with the same result."""

    def repeats(self, other: Turn) -> bool:
        """The same calls with the same results."""
        if len(self.calls) != len(other.calls):
            return False
        return all(
            _same(self.calls[at], self.results[at], other.calls[at], other.results[at])
            for at in range(len(self.calls))
        )


class Trail:
    """The last turns in which calls were made, newest last. Belongs to one run; its memory does
    not grow, and neither does the cost of a turn."""

    __slots__ = ("failures", "polls", "stale", "told", "turns")

    def __init__(self) -> None:
        self.turns: deque[Turn] = deque(maxlen=LOOKS_BACK)
        """Calls that wait for something to change are left out."""
        self.stale = 0
        """How many turns in a row, up to now, brought nothing new."""
        self.failures = 0
        """How many turns in a row, up to now, had only calls that failed."""
        self.polls = False
        """The newest turn did nothing but wait for something to change."""
        self.told: set[str] = set()
        """Guards that have warned, and whose reason to still holds."""

    def add(
        self,
        calls: Sequence[ToolUse],
        results: Sequence[ToolResultBlock],
        polling: Container[str],
    ) -> None:
        """A turn, once its calls were made. `polling` holds the names of tools that are called
        again and again on purpose."""
        failed = all(result.is_error for result in results)
        self.failures = self.failures + 1 if failed else 0
        kept = [at for at, call in enumerate(calls) if call.name not in polling]
        self.polls = not kept
        if self.polls:
            return
        made = tuple([calls[at] for at in kept])
        given = tuple([results[at] for at in kept])
        known = all(self._has(call, given[at]) for at, call in enumerate(made))
        self.stale = self.stale + 1 if known else 0
        self.turns.append(Turn(made, given, failed, known))

    def _has(self, call: ToolUse, result: ToolResultBlock) -> bool:
        name, content = call.name, result.content
        for turn in self.turns:
            for other in turn.results:
                if other.content == content:  # else, as nearly always, no more is compared
                    break
            else:
                continue
            for at, made in enumerate(turn.calls):
                if made.name == name and _same(call, result, made, turn.results[at]):
                    return True
        return False

    def repeated(self, period: int) -> int:
        """How many of the newest turns in a row are the same as the one `period` turns before."""
        turns, count = self.turns, 0
        for at in range(len(turns) - 1, period - 1, -1):
            if not turns[at].repeats(turns[at - period]):
                break
            count += 1
        return count


def _same(
    call: ToolUse, result: ToolResultBlock, other: ToolUse, other_result: ToolResultBlock
) -> bool:
    return (
        call.name == other.name
        and result.content == other_result.content
        and call.input == other.input
        and call.raw == other.raw
    )
