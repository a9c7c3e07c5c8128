"""The lines of the table: what is measured, against which floors, and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement: a function of a module below `benchmarks`, which gives named figures."""

    function: str
    by: str = "lorimer"
    """Who does the work; cases of one group by the same one share a process."""
    fresh: bool = False
    """In a process of its own each time."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table."""

    row: int
    """Of the table in DESIGN section 12, from 1."""
    what: str
    unit: str
    figure: str
    """Which of its figures the cases are compared by."""
    ours: Case
    floors: tuple[Case, ...] = field(default=())
    """The ratio is to the last one, which has Lorimer's own shape."""
    most: float | None = None
    """What it may be, in `unit`."""
    most_times: float | None = None
    """What it may be, as a multiple of the last floor."""
    group: str = ""
    """Lines of one group share their processes."""


def _case(function: str, *, fresh: bool = False) -> Case:
    return Case(f"rows.{function}", fresh=fresh)


def _floors(function: str) -> tuple[Case, ...]:
    return tuple(Case(f"floors:{by}_{function}", by) for by in ("raw", "raw21"))


_TOOL_RUNS: Final = _floors("tool_runs")
_LONG: Final = _case("growth:long_runs")
_CHAT: Final = _case("growth:chat")

LINES: Final = (
    Line(
        1,
        "run of one iteration, 21 stages",
        "us",
        "us",
        _case("loops:one_run"),
        _floors("one_run"),
        most=40,
        group="loops",
    ),
    Line(
        2,
        "model call in a run of 10 tool iterations",
        "us",
        "us",
        _case("loops:tool_runs"),
        _TOOL_RUNS,
        most=40,
        group="loops",
    ),
    Line(
        2,
        "... a rule decides each call of a tool that writes",
        "us",
        "us",
        _case("loops:ruled_runs"),
        _TOOL_RUNS,
        most=60,
        group="loops",
    ),
    Line(
        2,
        "... and a handler hears of each",
        "us",
        "us",
        _case("loops:watched_runs"),
        _TOOL_RUNS,
        most=60,
        group="loops",
    ),
    Line(
        3,
        "last of 1,000 iterations / the tenth",
        "x",
        "short_growth",
        _LONG,
        _floors("long_runs"),
        most=1.2,
        group="growth",
    ),
    Line(
        3,
        "last of 10,000 iterations / the tenth",
        "x",
        "long_growth",
        _LONG,
        _floors("long_runs"),
        most=1.2,
        group="growth",
    ),
    Line(
        3,
        "turn 500 of a chat / turn 10",
        "x",
        "short_growth",
        _CHAT,
        _floors("chat"),
        most=1.2,
        group="growth",
    ),
    Line(
        3,
        "turn 5,000 of a chat / turn 10",
        "x",
        "long_growth",
        _CHAT,
        _floors("chat"),
        most=1.2,
        group="growth",
    ),
    Line(
        4,
        "1,000 tool iterations, total",
        "ms",
        "short_ms",
        _LONG,
        _floors("long_runs"),
        most=60,
        group="growth",
    ),
)
