"""Glob patterns over relative paths: `*` and `?` within a name, `**` over folders, `{a,b}`."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from typing import Final

MAX_PATTERN: Final = 500
"""Most characters of a pattern: `translate` takes quadratic time."""
MAX_ALTERNATIVES: Final = 64
"""Most patterns that the braces of one may expand to."""

_BRACES: Final = re.compile(r"\{([^{}]*)\}")


def path_matcher(pattern: str) -> Callable[[str], bool]:
    """A function that tells whether a relative path, with `/` between its parts, matches. Raises
    ValueError for an invalid pattern.

    Matching takes time linear in the path: its parts are visited once, with the set of positions in
    the pattern that may have been reached (simulation of an NFA).
    """
    alternatives = [_compile(each) for each in expand_braces(pattern)]

    def matches(path: str) -> bool:
        parts = path.split("/")
        return any(_match(each, parts) for each in alternatives)

    return matches


def name_or_path_matcher(pattern: str) -> Callable[[str], bool]:
    """Like `path_matcher`, but a pattern without `/` matches the name, in any folder."""
    return path_matcher(pattern if "/" in pattern else f"**/{pattern}")


def expand_braces(pattern: str) -> list[str]:
    """`a.{b,c}` as `a.b`, `a.c`; inner braces first. Raises ValueError for too many."""
    pending, done = [pattern], list[str]()
    while pending:
        each = pending.pop()
        braces = _BRACES.search(each)
        if braces is None:
            done.append(each)
        else:
            head, tail = each[: braces.start()], each[braces.end() :]
            pending += [f"{head}{choice}{tail}" for choice in reversed(braces[1].split(","))]
        if len(pending) + len(done) > MAX_ALTERNATIVES:
            raise ValueError(f"the pattern stands for more than {MAX_ALTERNATIVES} patterns")
    return list(dict.fromkeys(done))


def _compile(pattern: str) -> list[re.Pattern[str] | None]:
    """One regex per part; None for `**`, or for several in a row."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    own = [part for at, part in enumerate(parts) if part != "**" or parts[at - 1 : at] != ["**"]]
    return [None if part == "**" else re.compile(translate(part)) for part in own]


def _match(pattern: list[re.Pattern[str] | None], parts: list[str]) -> bool:
    reached = _skip(pattern, {0})
    for part in parts:
        following: set[int] = set()
        for at in reached:
            if at < len(pattern):
                regex = pattern[at]
                if regex is None:
                    following.add(at)
                elif regex.match(part):
                    following.add(at + 1)
        reached = _skip(pattern, following)
        if not reached:
            return False
    return len(pattern) in reached


def _skip(pattern: list[re.Pattern[str] | None], places: set[int]) -> set[int]:
    """Add the positions that are reached if `**` matches no folder."""
    for at in list(places):
        here = at
        while here < len(pattern) and pattern[here] is None:
            here += 1
            places.add(here)
    return places
