"""What matplotlib's objects keep that nobody can see, and what all of them share.

Taken for what they hold, no figure could be put back into what it was: they count callbacks and
keep what was drawn last. Taken for the figure's own, what the library lends to every figure (lists
of its parameters, paths of markers, tables of colours) would make all figures hang on the first.
matplotlib is not imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, cast

from lorimer.esg.values.content import Kind, Seen, home_of

_HIDDEN: Final[Mapping[str, frozenset[str]]] = {
    "CallbackRegistry": frozenset({"_cid_gen"}),
    "_AxesStack": frozenset({"_counter"}),
    "Text": frozenset({"_renderer"}),
    "FigureCanvasAgg": frozenset({"renderer", "_lastKey"}),
}


def kind_of(kind: type[Any], partly: Callable[[type[Any], frozenset[str]], Kind]) -> Kind | None:
    """The sort of a class of matplotlib's of which some attributes do not count; None for others.

    `partly`: makes it.
    """
    for each in kind.__mro__:
        if each.__name__ in _HIDDEN and home_of(each).partition(".")[0] == "matplotlib":
            return partly(kind, _HIDDEN[each.__name__])
    return None


class Shared:
    """The objects that matplotlib lends to all figures. One for the process."""

    kind: Final[Kind] = Seen(repr)

    def __init__(self) -> None:
        self._own: dict[int, object] = {}  # kept, so that no other object gets the id
        self._maps = 0

    def __contains__(self, value: object) -> bool:
        return id(value) in self._own

    def renew(self) -> None:
        """Look for those that there are now."""
        library: Any = sys.modules.get("matplotlib")
        if library is None or not hasattr(library, "rcParams"):
            return
        for each in dict[str, object].values(library.rcParams):
            if type(each) is list:
                self._own[id(cast("object", each))] = cast("object", each)
        for name, kind in _LENDERS:
            module = sys.modules.get(f"matplotlib.{name}")
            for home in (module, cast("object", getattr(module, kind, None))):
                for each in vars(home).values() if home is not None else ():
                    if type(each).__name__ in ("Path", "ndarray"):
                        self._lent(each)
        self._colours(library)

    def _lent(self, value: object) -> None:
        """A path, whose transformed copies have the same codes; or an array."""
        held = vars(value).values() if type(value).__name__ == "Path" else ()
        for each in (value, *held):
            if type(each).__name__ in ("Path", "ndarray"):
                self._own[id(each)] = each

    def _colours(self, library: Any) -> None:
        """The tables of the colour maps that are registered: what `get_cmap` gives has the very
        same."""
        maps = cast("dict[str, object]", getattr(getattr(library, "colormaps", None), "_cmaps", {}))
        if len(maps) != self._maps:
            self._maps = len(maps)
            for each in maps.values():
                for table in (vars(each).get(name) for name in ("colors", "_segmentdata")):
                    if table is not None:
                        self._own[id(table)] = table


_LENDERS: Final = (
    ("path", "Path"),
    ("markers", "MarkerStyle"),
    ("transforms", "IdentityTransform"),
)
"""Modules of matplotlib and classes in them whose paths and matrices all figures use."""


@cache
def shared() -> Shared:
    """The one of this process."""
    return Shared()
