"""Text forms of a patch, written and read: unified diff, search/replace blocks, JSON.

Input may have been written by a model or changed on the way. It is checked against the code of the
steps, and a patch that does not fit raises StepError, which says why.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lorimer.core import linediff
from lorimer.esg.graph.questions import StepError

if TYPE_CHECKING:
    from lorimer.esg.patching.patches import Move

_STEP: Final = re.compile(r"step: (.+)")
_MOVE: Final = re.compile(r"move: (.+) after: (.+)")
_OPEN: Final = re.compile(r"(<{7,}) SEARCH\s*")
_HUNK: Final = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of a step, and their replacement. They must occur in it exactly once."""

    step: str
    search: str
    replace: str


def unified(step: str, old: str, new: str) -> str:
    """The change of a step as a unified diff."""
    before, after = ([f"{line}\n" for line in text.split("\n")] for text in (old, new))
    return "".join(linediff.unified(before, after, _written(step)))


def block_of(step: str, old: str, new: str) -> Block:
    """The change of a step as one block, with as many lines around it as make it unique."""
    before, after = old.split("\n"), new.split("\n")
    head, tail = linediff.same_ends(before, after)

    def wider(by: int) -> Block:
        first, last = max(head - by, 0), max(tail - by, 0)
        stop, end = len(before) - last, len(after) - last
        return Block(step, "\n".join(before[first:stop]), "\n".join(after[first:end]))

    def is_only(by: int) -> bool:
        found = wider(by)
        return bool(found.search and found.replace) and len(_places(old, found.search)) == 1

    # with more context, a unique block remains unique
    return wider(bisect_left(range(max(head, tail)), True, key=is_only))


def blocks_text(blocks: Sequence[Block], moves: Sequence[Move] = ()) -> str:
    """Search/replace blocks, each under the name of its step. The marks are longer if the code of a
    step contains some itself."""
    parts = [move_line(each) for each in moves]
    for each in blocks:
        size = 7
        while any(sign * size in each.search + each.replace for sign in "<=>"):
            size += 1
        parts += [
            f"step: {_written(each.step)}",
            f"{'<' * size} SEARCH",
            *([each.search] if each.search else []),
            "=" * size,
            *([each.replace] if each.replace else []),
            f"{'>' * size} REPLACE",
        ]
    return "".join(f"{part}\n" for part in parts)


def move_line(move: Move) -> str:
    return f"move: {_written(move.step)} after: {_written(move.after)}"


def read_moves(text: str) -> Iterator[tuple[str, str]]:
    """(step, after) for the moves in a text."""
    for line in text.split("\n"):
        if moved := _MOVE.fullmatch(line.rstrip()):
            yield _read(moved[1]), _read(moved[2])


def read_blocks(text: str) -> list[Block]:
    """The blocks in a text; other lines are skipped. Raises StepError."""
    blocks, step = list[Block](), ""
    lines = iter(text.split("\n"))
    for line in lines:
        if named := _STEP.fullmatch(line.rstrip()):
            step = _read(named[1])
        elif opened := _OPEN.fullmatch(line):
            size = len(opened[1])
            if not step:
                raise StepError("a block stands under no 'step: ...' line")
            search = _until(lines, "=" * size)
            replace = _until(lines, f"{'>' * size} REPLACE")
            blocks.append(Block(step, search, replace))
    return blocks


def range_of(block: Block, source: str) -> tuple[int, int, str]:
    """The characters that a block replaces, and the replacement. Raises StepError."""
    lines, search = source.split("\n"), block.search.split("\n")
    for form in (_as_it_is, _bare):
        places = _places(form(source), form(block.search))
        if len(places) == 1 and (block.search or not source):
            start = sum(len(line) + 1 for line in lines[: places[0]])
            size = sum(len(line) + 1 for line in lines[places[0] :][: len(search)]) - 1
            if not block.replace and start + size < len(source):
                size += 1  # the line is gone, and so is its end
            return start, start + size, block.replace
        if len(places) > 1 and block.search:
            raise StepError(f"step {block.step!r} has these lines at least 2 times: give more")
    if block.search and source.count(block.search) == 1:
        start = source.index(block.search)
        return start, start + len(block.search), block.replace
    raise StepError(f"step {block.step!r} has no such lines: {block.search.strip()[:80]!r}")


def read_diff(text: str, sources: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(step, new code) for each step of a unified diff. Raises StepError if it does not fit."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        if not (lines[at].startswith("--- ") and at + 1 < len(lines)):
            at += 1
            continue
        step = _read(lines[at][4:].rstrip())
        if step not in sources:
            raise StepError(f"the diff is of a step {step!r}, which is not there")
        at += 2
        old, new, done = sources[step].split("\n"), list[str](), 0
        while at < len(lines) and (hunk := _HUNK.match(lines[at])):
            begin, count = int(hunk[1]), int(hunk[2] or 1)
            more = int(hunk[4] or 1)
            at += 1
            first = begin - 1 if count else begin
            if not done <= first <= len(old):
                raise StepError(f"step {step!r} is not as the diff has it: line {begin}")
            new += old[done:first]
            done = first
            while (count or more) and at < len(lines):
                sign, line = lines[at][:1] or " ", lines[at][1:]
                if sign in " -" and (done >= len(old) or old[done] != line):
                    raise StepError(f"step {step!r} is not as the diff has it: line {done + 1}")
                if sign in " -":
                    done, count = done + 1, count - 1
                if sign in " +":
                    new.append(line)
                    more -= 1
                at += 1
            if count or more:
                raise StepError(f"the diff of step {step!r} ends too early")
        yield step, "\n".join([*new, *old[done:]])


def _until(lines: Iterator[str], mark: str) -> str:
    found = list[str]()
    for line in lines:
        if line.rstrip() == mark:
            return "\n".join(found)
        found.append(line)
    raise StepError(f"a block does not end: there is no line {mark!r}")


def _places(text: str, part: str) -> list[int]:
    """The line indexes, from 0, at which a text has exactly these lines; at most the first two."""
    text, part, found, at = f"\n{text}\n", f"\n{part}\n", list[int](), -1
    while len(found) < 2 and (at := text.find(part, at + 1)) >= 0:
        found.append(text.count("\n", 0, at))
    return found


def _as_it_is(text: str) -> str:
    return text


def _bare(text: str) -> str:
    """Without white space at the ends of lines."""
    return "\n".join([line.rstrip() for line in text.split("\n")])


def _written(step: str) -> str:
    """A step's id on one line."""
    plain = step and step.isprintable() and step.strip() == step and not step.startswith('"')
    return step if plain and " after: " not in step else json.dumps(step)


def _read(text: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        raise StepError(f"{text[:80]} is no id of a step") from None
