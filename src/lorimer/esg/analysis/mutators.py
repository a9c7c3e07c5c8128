"""Calls known to change an argument in place. A guess from names, corrected by the run."""

from __future__ import annotations

from typing import Final

METHODS: Final = frozenset(
    "add append appendleft clear difference_update discard extend extendleft insert "
    "intersection_update move_to_end pop popitem popleft remove reverse rotate setdefault "
    "setflags sort subtract symmetric_difference_update update write writelines".split()
)
"""`x.append(1)` changes x: methods of the standard containers, and of arrays."""

AT_MOST_ONE: Final = frozenset({"add", "subtract"})
"""With more arguments these are functions of other modules (`numpy.add`)."""

FIRST_ARGUMENT: Final = frozenset(
    "copyto delattr fill_diagonal heapify heappop heappush heappushpop heapreplace insort "
    "insort_left insort_right next place put putmask setattr shuffle".split()
)
"""`shuffle(x)` changes x: functions, also as attributes of a module."""

SUPPRESSORS: Final = frozenset({"suppress", "raises", "warns"})
"""Context managers that suppress an exception."""
