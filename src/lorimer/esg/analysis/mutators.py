"""Calls that are known to change an argument in place. A guess from names: the run corrects it."""

from __future__ import annotations

from typing import Final

METHODS: Final = frozenset(
    "add append appendleft clear difference_update discard extend extendleft insert "
    "intersection_update move_to_end pop popitem popleft remove reverse rotate setdefault "
    "setflags sort subtract symmetric_difference_update update write writelines".split()
)
"""`x.append(1)` changes x: the standard containers', and those of arrays with these names."""

AT_MOST_ONE: Final = frozenset({"add", "subtract"})
"""Those that are functions of other modules when they have more arguments (`numpy.add`)."""

FIRST_ARGUMENT: Final = frozenset(
    "copyto delattr fill_diagonal heapify heappop heappush heappushpop heapreplace insort "
    "insort_left insort_right next place put putmask setattr shuffle".split()
)
"""`shuffle(x)` changes x: functions, also as attributes of a module."""

SUPPRESSORS: Final = frozenset({"suppress", "raises", "warns"})
"""Context managers that end an exception."""
