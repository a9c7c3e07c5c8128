"""What cases share: how much to do, how to time it, how to check it.

Imports nothing of Lorimer: the floors are measured in processes without it.
"""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import process_time_ns
from typing import Final, TypeAlias

Figures: TypeAlias = dict[str, float]
"""What one case measured, by name."""

WARM_UP: Final = 3
"""Runs before the clock starts: imports, caches, compiled checks."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much one measurement does."""

    batches: int = 5
    """A round's figure is the median over so many."""
    runs: int = 400
    """Runs of one iteration in a batch."""
    tool_runs: int = 40
    """Runs of ten tool iterations in a batch."""
    iterations: tuple[int, int] = (1_000, 10_000)
    """Lengths of the long runs."""
    turns: tuple[int, int] = (500, 5_000)
    """Turns of the chat that are looked at."""
    warm: int = 200
    """Iterations or turns before that."""
    window: int = 41
    """So many neighbours give the median cost of one iteration or turn."""
    durable: tuple[int, int] = (200, 1_000)
    """Iterations of the durable runs; their sizes on disk give the slope."""
    wire_runs: int = 8
    """Runs of ten tool turns over the wire."""
    deltas: int = 2_000
    streams: int = 3
    """Answers of that many deltas."""
    crowd: int = 1_000
    """Runs at once."""


SCALES: Final = {
    "full": Scale(),
    "quick": Scale(batches=3, runs=100, tool_runs=10, wire_runs=3, streams=1),
    "smoke": Scale(2, 2, 1, (16, 24), (14, 18), 3, 3, (30, 60), 1, 20, 1, 5),
}


async def per_unit_us(run: Callable[[], Awaitable[None]], runs: int, units: int) -> float:
    """CPU microseconds a unit, over `runs` runs of `units` units each."""
    gc.collect()
    began = process_time_ns()
    for _ in range(runs):
        await run()
    return (process_time_ns() - began) / (runs * units * 1_000)


def costs(stamps: Sequence[int]) -> list[int]:
    """From points in CPU time to what lies between them."""
    return [after - before for before, after in pairwise(stamps)]


def around(values: Sequence[int], at: int, window: int) -> float:
    """The median of the `window` values that begin with number `at`; of the last ones, when
    there are fewer behind it."""
    first = min(at, len(values) - window)
    return median(values[first : first + window])


def growth(values: Sequence[int], at: int, window: int) -> float:
    """The cost at `at`, as a multiple of the cost at 10."""
    return around(values, at, window) / around(values, 10, window)


def expect(what: str, actual: object, expected: object) -> None:
    """A case did what it should have: raises RuntimeError when it did not."""
    if actual != expected:
        raise RuntimeError(f"{what}: expected {expected!r}, got {actual!r}")


def peak_rss_kib() -> float:
    """The most memory this process ever held."""
    return _status("VmHWM:") or _max_rss_kib()


def rss_kib() -> float:
    """The memory this process holds; where that is not known, the most it ever held."""
    return _status("VmRSS:") or _max_rss_kib()


def _status(field: str) -> float | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = status.read_text(encoding="utf-8").splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith(field)), None)


def _max_rss_kib() -> float:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1024 if sys.platform == "darwin" else float(most)
