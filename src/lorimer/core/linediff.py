"""The differences between two texts, line by line, in time that is bounded for any input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final, Literal, TypeAlias

Opcode: TypeAlias = tuple[Literal["replace", "delete", "insert", "equal"], int, int, int, int]
_COMPARED: Final = 4_000_000
"""Most pairs of lines that are compared, some 0.3 s: difflib's time grows at least with their
number. Beyond that, all lines are reported as replaced."""


def unified(
    before: Sequence[str], after: Sequence[str], name: str, *, context: int = 3, end: str = "\n"
) -> Iterator[str]:
    """The lines of a unified diff, as `difflib.unified_diff` gives them; none if the texts are
    equal. `end` is appended to its own lines."""
    found = _Known(list(opcodes(before, after)))
    for number, group in enumerate(found.get_grouped_opcodes(context)):
        if not number:
            yield f"--- {name}{end}"
            yield f"+++ {name}{end}"
        (_, old, _, new, _), (_, _, old_end, _, new_end) = group[0], group[-1]
        yield f"@@ -{_range(old, old_end)} +{_range(new, new_end)} @@{end}"
        for tag, old, old_end, new, new_end in group:
            if tag == "equal":
                yield from [f" {line}" for line in before[old:old_end]]
            else:
                yield from [f"-{line}" for line in before[old:old_end]]
                yield from [f"+{line}" for line in after[new:new_end]]


class _Known(SequenceMatcher[str]):
    """As `unified`, with the differences already known."""

    def __init__(self, opcodes: list[Opcode]) -> None:
        super().__init__(None, "", "")
        self._known = opcodes

    def get_opcodes(self) -> list[Opcode]:
        """The lines unchanged."""
        return self._known


def opcodes(before: Sequence[str], after: Sequence[str]) -> Iterator[Opcode]:
    """The operations that turn one into the other, as `difflib.SequenceMatcher.get_opcodes` gives
    them."""
    head, tail = same_ends(before, after)
    old, new = len(before) - tail, len(after) - tail
    if head:
        yield "equal", 0, head, 0, head
    if (old - head) * (new - head) > _COMPARED:
        yield "replace", head, old, head, new
    else:
        inner = SequenceMatcher(None, before[head:old], after[head:new])
        for tag, i, j, k, m in inner.get_opcodes():
            yield tag, head + i, head + j, head + k, head + m
    if tail:
        yield "equal", old, len(before), new, len(after)


def same_ends(before: Sequence[str], after: Sequence[str]) -> tuple[int, int]:
    """The number of equal lines at the beginning, and of further ones at the end."""
    same = min(len(before), len(after))
    head = next((n for n in range(same) if before[n] != after[n]), same)
    rest = same - head
    return head, next((n for n in range(rest) if before[-1 - n] != after[-1 - n]), rest)


def _range(first: int, end: int) -> str:
    """Line ranges as unified diffs number them: from 1; an empty range by the line before it."""
    count = end - first
    return f"{first + 1}" if count == 1 else f"{first + bool(count)},{count}"
