"""The lines of the table: what is measured, against which floors, and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass
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
    floors: tuple[Case, ...] = ()
    """The ratio is to the last one, which has Lorimer's own shape."""
    most: float | None = None
    """What it may be, in `unit`."""
    most_times: float | None = None
    """What it may be, as a multiple of the last floor."""
    group: str = ""
    """Lines of one group share their processes."""
    downloads: bool = False
    """Measured only when asked for, and once: it fetches packages."""


def _ours(function: str, *, fresh: bool = False) -> Case:
    return Case(f"rows.{function}", fresh=fresh)


def _loops(function: str, *, fresh: bool = False) -> tuple[Case, ...]:
    return tuple(Case(f"floors.{function.format(by)}", by, fresh) for by in ("raw", "raw21"))


_ONE: Final = _loops("cases:{}_one_run")
_TOOLS: Final = _loops("cases:{}_tool_runs")
_LONG: Final = _ours("growth:long_runs")
_LONG_LOOPS: Final = _loops("cases:{}_long_runs")
_CHAT: Final = _ours("growth:chat")
_CHAT_LOOPS: Final = _loops("cases:{}_chat")
_COMPACTED: Final = _ours("growth:compacted")
_DURABLE: Final = _ours("durable:long_runs")
_COMMIT: Final = (Case("floors.durable:long_runs", "raw+commit"),)
_CROWD: Final = _ours("crowd:crowd", fresh=True)
_HOSTED: Final = _ours("crowd:hosted", fresh=True)
_CROWD_LOOPS: Final = _loops("cases:{}_crowd", fresh=True)
_START: Final = _ours("start:first_run", fresh=True)
_TOOL_START: Final = _ours("start:first_tool_run", fresh=True)
_START_LOOPS: Final = _loops("start:{}_start", fresh=True)
_INSTALL: Final = _ours("install:fresh_install")


def _engine(row: int, what: str, ours: str, floors: tuple[Case, ...], most: float) -> Line:
    return Line(row, what, "us", "us", _ours(ours), floors, most, group="engine")


def _decision(rules: str, what: str, figure: str, most: float) -> Line:
    ours = _ours(f"policy:{rules}")
    what = what if what.startswith("...") else f"decision, {what}"
    return Line(2, what, "us", figure, ours, most=most, group="policy")


def _growth(what: str, figure: str, ours: Case, floors: tuple[Case, ...]) -> Line:
    return Line(3, what, "x", figure, ours, floors, 1.2, group="growth")


def _call(vendor: str, what: str, case: str) -> Line:
    sdk = (Case(f"floors.sdk:{case}", "sdk"),)
    what = f"call of {vendor}, {what}"
    return Line(6, what, "ms", "ms", _ours(f"wire:{case}"), sdk, most_times=1.05, group="wire")


def _delta(vendor: str, case: str) -> Line:
    sdk = (Case(f"floors.sdk:{case}", "sdk"),)
    what = f"streamed delta of {vendor}"
    return Line(7, what, "us", "us", _ours(f"wire:{case}"), sdk, most_times=1.2, group="wire")


def _crowd(what: str, unit: str, figure: str, most: float, ours: Case = _CROWD) -> Line:
    return Line(8, what, unit, figure, ours, _CROWD_LOOPS, most, group="crowd")


def _start(
    what: str, unit: str, figure: str, most: float | None = None, ours: Case = _START
) -> Line:
    return Line(9, what, unit, figure, ours, _START_LOOPS, most, group="start")


def _durable(
    row: int, what: str, unit: str, figure: str, case: str, most: float | None = None
) -> Line:
    ours = _ours(f"resume:{case}", fresh=True)
    return Line(row, what, unit, figure, ours, most=most, group="resume")


_GRAPH: Final = _ours("esg:added_steps", fresh=True)
_GRAPH_FLOOR: Final = (Case("floors.esg:added_steps", "ast.walk", fresh=True),)
_STEPS: Final = _ours("esg:run_steps")
_ARRAYS: Final = _ours("esg:array_steps", fresh=True)
_CONFINED: Final = _ours("confined:sessions")


def _graph(what: str, unit: str, figure: str, most: float) -> Line:
    return Line(10, what, unit, figure, _GRAPH, most=most, group="esg")


def _confined(what: str, figure: str, most: float | None = None) -> Line:
    return Line(10, what, "ms", figure, _CONFINED, most=most, group="confined")


def _install(what: str, unit: str, figure: str, most: float) -> Line:
    return Line(11, what, unit, figure, _INSTALL, most=most, group="install", downloads=True)


LINES: Final = (
    _engine(1, "run of one iteration, 21 stages", "loops:one_run", _ONE, 40),
    _engine(2, "model call in a run of 10 tool iterations", "loops:tool_runs", _TOOLS, 40),
    _engine(
        2, "... 10 rules decide each call, of a tool that writes", "loops:ruled_runs", _TOOLS, 60
    ),
    _engine(2, "... and a hook is asked about each", "loops:hooked_runs", _TOOLS, 60),
    _decision("few_rules", "10 rules, of a path", "path", 8),
    _decision("few_rules", "... of a command seen before", "again", 8),
    _decision("few_rules", "... of a new command", "new", 12),
    _decision("many_rules", "500 rules, of a path", "path", 50),
    _decision("many_rules", "... of a command seen before", "again", 50),
    _decision("many_rules", "... of a new command", "new", 50),
    _growth("last of 1,000 iterations / the tenth", "short_growth", _LONG, _LONG_LOOPS),
    _growth("last of 10,000 iterations / the tenth", "long_growth", _LONG, _LONG_LOOPS),
    _growth("turn 500 of a chat / turn 10", "short_growth", _CHAT, _CHAT_LOOPS),
    _growth("turn 5,000 of a chat / turn 10", "long_growth", _CHAT, _CHAT_LOOPS),
    _growth("last fifth of 10,000 iterations / the second, not compacted", "none", _COMPACTED, ()),
    _growth("... truncate", "truncate", _COMPACTED, ()),
    _growth("... sliding_window", "sliding_window", _COMPACTED, ()),
    _growth("... summary", "summary", _COMPACTED, ()),
    _growth("... llm_summary", "llm_summary", _COMPACTED, ()),
    Line(4, "1,000 tool iterations", "ms", "short_ms", _LONG, _LONG_LOOPS, most=60, group="growth"),
    Line(5, "durable iteration, unsafe tool", "ms", "ms", _DURABLE, _COMMIT, 0.3, group="durable"),
    Line(
        5, "... on disk, after a checkpoint", "B", "bytes", _DURABLE, _COMMIT, 500, group="durable"
    ),
    Line(
        5, "... last of 1,000 / the tenth", "x", "growth", _DURABLE, _COMMIT, 1.2, group="durable"
    ),
    _call("Anthropic", "in one piece", "anthropic_calls"),
    _call("Anthropic", "streamed", "anthropic_streamed_calls"),
    _call("OpenAI Chat", "in one piece", "openai_calls"),
    _call("OpenAI Chat", "streamed", "openai_streamed_calls"),
    _call("OpenAI Responses", "in one piece", "responses_calls"),
    _call("OpenAI Responses", "streamed", "responses_streamed_calls"),
    _call("Google", "in one piece", "google_calls"),
    _call("Google", "streamed", "google_streamed_calls"),
    _delta("Anthropic", "anthropic_deltas"),
    _delta("OpenAI Chat", "openai_deltas"),
    _delta("OpenAI Responses", "responses_deltas"),
    _delta("Google", "google_deltas"),
    _crowd("1,000 runs at once", "s", "s", 0.4),
    _crowd("... memory of one", "KiB", "kib", 30),
    _crowd("the same by an executor", "s", "s", 0.4, _HOSTED),
    _crowd("... memory of one", "KiB", "kib", 30, _HOSTED),
    _start("import and first run", "s", "s", 0.15),
    _start("... memory", "MiB", "mib", 40),
    _start("... modules", "", "modules"),
    _start("the same with a decorated tool", "s", "s", ours=_TOOL_START),
    Line(10, "10,000 steps added", "s", "s", _GRAPH, _GRAPH_FLOOR, 2, group="esg"),
    _graph("... each of the last 50", "ms", "last_ms", 0.2),
    _graph("... what is stale by the 100th from the end", "ms", "query_ms", 1),
    _graph("... memory", "MiB", "mib", 30),
    Line(10, "a loop over globals / exec", "x", "times", _STEPS, most=1.5, group="steps"),
    Line(10, "a step that does nothing", "ms", "fixed_ms", _STEPS, most=0.3, group="steps"),
    Line(
        10,
        "a vectorised step of 100 MB / exec",
        "x",
        "vectorised",
        _ARRAYS,
        most=1.05,
        group="arrays",
    ),
    Line(10, "... of 25 MB", "x", "vectorised_small", _ARRAYS, group="arrays"),
    Line(10, "another place, 100 MB", "ms", "checkout_ms", _ARRAYS, most=50, group="arrays"),
    _confined("a confined session of a warm zygote", "begin_ms", 10),
    _confined("... each of ten at once", "burst_ms"),
    _confined("... there and back", "round_trip_ms", 0.2),
    _confined("... a step aborts, until the next has run", "aborted_ms", 200),
    _confined("... a step hangs in C, the same after its limit", "hung_ms", 200),
    _durable(12, "synced call, 100 durable runs at once", "us", "us", "synced_effects", 200),
    _durable(12, "... CPU", "us", "cpu_us", "synced_effects"),
    _durable(13, "resume of 1,000 iterations, CPU", "ms", "cpu_ms", "long_resume", 50),
    _durable(13, "... on the wall's clock", "ms", "ms", "long_resume"),
    _durable(14, "1,000 interrupted runs all going on", "s", "s", "pending_runs", 5),
    _install("fresh base install: packages", "", "packages", 20),
    _install("... on disk", "MB", "mb", 36),
)
