"""How Grep searches: files are read below the roots, in batches; regexes run in another process.

A Python regex can take forever, and a thread cannot be stopped. So plain text is searched here, and
regexes in a child process (`grep_worker`) that is killed at its time-out. No system program is
needed, and none is ever given a path.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from lorimer.core.errors import ToolExecutionError
from lorimer.core.world import ProcessLimits
from lorimer.tools.base import ToolContext
from lorimer.tools.builtin import grep_worker
from lorimer.tools.builtin.patterns import name_or_path_matcher
from lorimer.tools.builtin.rooted import Failed, in_files, is_binary, opened
from lorimer.tools.schema import invalid_input
from lorimer.world.files import RootedFiles

MAX_FILE_BYTES: Final = 2_097_152
"""Larger files are left out of a search."""
MAX_NAMED_BYTES: Final = 4_194_304
"""Most bytes searched in a file that is requested by name."""
MAX_ENTRIES: Final = 100_000
"""Most names examined in one search."""
MAX_SEARCH_S: Final = 30.0
"""Most seconds for one search, reading included; matches found until then are returned."""
SKIPPED_FOLDERS: Final = frozenset({".git", ".lorimer"})

_BATCH_BYTES: Final = 2_097_152
_MAX_ANSWER_BYTES: Final = 4_194_304
_SPECIAL: Final = re.compile(r"[\\.^$*+?{}\[\]|()]")


@dataclass(frozen=True, slots=True)
class Query:
    """What to search for, and how much to return."""

    pattern: str
    glob: str = ""
    """A pattern for the files to search; "": all."""
    context: int = 0
    """Lines to return before and after each match."""
    ignore_case: bool = False
    max_lines: int = 0
    """Most matching lines to return; 0: only count them in each file."""
    max_files: int = 500
    """Most files to return, when only counting."""
    regex_s: float = 10.0
    """Most seconds of matching a regex, over all files."""


@dataclass(slots=True)
class Match:
    """One file with matches."""

    name: str
    """The path relative to the root of the search; "": the root itself, a file."""
    count: int
    """How many lines match."""
    lines: Sequence[tuple[int, bool, str]]
    """Number, whether it matches (or is context), text."""


@dataclass(slots=True)
class Found:
    """The matches, and what was left out."""

    matches: list[Match]
    entries_cut: bool = False
    """There were more than `MAX_ENTRIES` names."""
    large: int = 0
    """Files left out for their size."""
    denied: int = 0
    """Files left out because a rule denies this tool for them, or asks."""
    beginning_only: bool = False
    """Only the first `MAX_NAMED_BYTES` of the requested file were searched."""
    unread: int = 0
    """Files not searched because enough was found, or time ran out."""
    regex_too_slow: bool = False
    too_slow: bool = False


async def search(root: str, query: Query, context: ToolContext) -> Found:
    """Search the file `root`, or the files below the folder `root`.

    Raises Failed if `root` does not exist, and `exec.tool.invalid_input` for an invalid pattern.
    """
    found = Found([])
    names = await in_files(
        context,
        root or ".",
        lambda files, where: _candidates(files, where, query, found, context.denied),
    )
    literal = not _SPECIAL.search(query.pattern)
    clock = context.world.monotonic
    began = clock()
    at, regex_s = 0, query.regex_s
    while at < len(names) and _room(found, query) > 0:
        if clock() - began > MAX_SEARCH_S:
            found.too_slow = True
            break
        read = partial(_batch, names=names, at=at, found=found)
        batch, at = await in_files(context, root or ".", read)
        room = _room(found, query) if query.max_lines else 0
        if literal:
            found.matches += await context.in_thread(partial(_words, batch, query, room))
        elif batch:
            before = clock()
            matches = await _regex(batch, query, room, regex_s, context)
            regex_s -= clock() - before
            if matches is None:
                found.regex_too_slow = True
                break
            found.matches += matches
    found.unread = len(names) - at
    return found


def _room(found: Found, query: Query) -> int:
    """How many more lines may be returned (when only counting: files)."""
    if query.max_lines:
        return query.max_lines - sum(match.count for match in found.matches)
    return query.max_files - len(found.matches)


def _candidates(
    files: RootedFiles,
    where: Path,
    query: Query,
    found: Found,
    denied: Callable[[str], bool] | None,
) -> list[str]:
    """The files to search, relative to `where`; "" if that is a file itself."""
    if files.stat(where).kind != "dir":
        return [""]
    try:
        matches = name_or_path_matcher(query.glob) if query.glob else None
    except ValueError as error:
        raise invalid_input(f"input.glob: {error}") from None
    names: list[str] = []
    seen, base = 0, str(files.resolve(where))
    for entry in files.walk(where, MAX_ENTRIES):
        seen += 1
        if entry.kind != "file" or not SKIPPED_FOLDERS.isdisjoint(entry.path.split("/")[:-1]):
            continue
        if matches is None or matches(entry.path):
            if denied is not None and denied(f"{base}/{entry.path}"):
                found.denied += 1
            else:
                names.append(entry.path)
    found.entries_cut = seen >= MAX_ENTRIES
    return names


def _batch(
    files: RootedFiles, where: Path, *, names: list[str], at: int, found: Found
) -> tuple[list[tuple[str, bytes]], int]:
    """The next files, about as many as fit into a batch, and the index in `names` after them."""
    batch: list[tuple[str, bytes]] = []
    size = 0
    while at < len(names) and size < _BATCH_BYTES:
        name = names[at]
        at += 1
        try:
            most = MAX_FILE_BYTES if name else MAX_NAMED_BYTES
            data, more = files.read_bytes(where / name, most)
        except OSError:
            if not name:
                raise
            continue  # deleted meanwhile, or not readable
        if is_binary(data):
            continue
        if more and name:
            found.large += 1
            continue
        found.beginning_only = more
        batch.append((name, data))
        size += len(data)
    return batch, at


def _words(batch: list[tuple[str, bytes]], query: Query, room: int) -> list[Match]:
    """Search for plain text, in time linear in its length."""
    word = query.pattern.lower() if query.ignore_case else query.pattern
    raw = b"" if query.ignore_case else word.encode("utf-8", "replace")

    def matches(line: str) -> bool:
        return word in (line.lower() if query.ignore_case else line)

    found: list[Match] = []
    for name, data in batch:
        if raw not in data:
            continue
        count, lines = grep_worker.search(data, matches, query.context, room)
        if count:
            found.append(Match(name, count, lines))
            room = max(room - count, 0)
    return found


async def _regex(
    batch: list[tuple[str, bytes]], query: Query, room: int, left_s: float, context: ToolContext
) -> list[Match] | None:
    """What the child process found; None: it was killed at its time-out."""
    options = {
        "pattern": query.pattern,
        "ignore_case": query.ignore_case,
        "context": query.context,
        "room": room,
    }
    request = [json.dumps(options).encode(), b"\n"]
    for name, data in batch:
        request += json.dumps([name, len(data)]).encode(), b"\n", data
    try:
        done = await context.world.spawn(
            [sys.executable, "-I", "-S", "-W", "ignore", grep_worker.__file__],
            cwd=opened(context).roots[0],
            stdin=b"".join(request),
            limits=ProcessLimits(max(left_s, 0.1), _MAX_ANSWER_BYTES, context.sandbox),
        )
    except OSError as error:
        raise Failed(f"regular expressions cannot be searched here: {error}") from error
    if done.timed_out:
        return None
    try:
        answer = json.loads(done.output)
    except ValueError as error:
        said = done.output[-500:].decode("utf-8", "replace")
        raise ToolExecutionError(f"the search process failed: {said}") from error
    if "error" in answer:
        raise invalid_input(f"input.pattern: not a regular expression: {answer['error']}")
    return [Match(name, count, lines) for name, count, lines in answer["found"]]
