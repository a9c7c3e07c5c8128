"""What cases share: how to time and how to check. Imports nothing of Lorimer: floors are measured
in processes without it."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from statistics import median
from time import process_time_ns
from typing import Final

WARM_UP: Final = 3
"""Runs before the clock starts: imports, caches, compiled checks."""


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
