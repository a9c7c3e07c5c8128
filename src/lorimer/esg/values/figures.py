"""Hidden state of matplotlib's objects, and what all of them share.

If all they hold counted, no figure could be restored: they count callbacks and keep what was drawn
last. If everything reachable counted as the figure's own, objects that the library shares between
figures (lists of its parameters, paths of markers, tables of colours) would connect all figures
with the first. matplotlib is not imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache, partial
from typing import Any, Final, cast

from lorimer.esg.values.content import Kind, Seen, home_of
from lorimer.esg.values.definitions import Instance, Make, Partly

_HIDDEN: Final[Mapping[str, frozenset[str]]] = {
    "CallbackRegistry": frozenset({"_cid_gen"}),
    "_AxesStack": frozenset({"_counter"}),
    "Text": frozenset({"_renderer"}),
    "FigureCanvasAgg": frozenset({"renderer", "_lastKey"}),
}


def kind_of(kind: type[Any], make: Make) -> Kind | None:
    """The kind of a class of matplotlib that needs special treatment; None for others."""
    for each in kind.__mro__:
        if home_of(each).partition(".")[0] != "matplotlib":
            continue
        if each.__name__ == "_AxesBase":
            return make(kind, Axes)
        hidden = _HIDDEN.get(each.__name__)
        if hidden is not None:
            return make(kind, partial(Partly, hidden=hidden))
    return None


class Axes(Instance):
    """Axes, and those they share an axis or a place with: their class keeps these groups."""

    def attributes(self, value: Any, /) -> dict[str, object]:
        found = super().attributes(value)
        for name, groups in _groups(value):
            for number, each in enumerate(_siblings(groups, value)):
                found[f"{name} {number}"] = each
        return found

    def put_attributes(self, value: Any, wanted: dict[str, object], /) -> None:
        own = {name: each for name, each in wanted.items() if " " not in name}
        super().put_attributes(value, own)
        for name, groups in _groups(value):
            siblings = [each for key, each in wanted.items() if key.startswith(f"{name} ")]
            if {*map(id, siblings)} != {*map(id, _siblings(groups, value))}:
                for each in (value, *siblings):
                    groups.remove(each)
                if siblings:
                    groups.join(*siblings)


def _groups(value: Any) -> list[tuple[str, Any]]:
    """The groups of the axes of one class: those with a common axis, by its name, and twins."""
    kind = cast("type[object]", type(value))
    shared: Mapping[str, Any] = getattr(kind, "_shared_axes", None) or {}
    twins: Any = getattr(kind, "_twinned_axes", None)
    return [*shared.items(), *([] if twins is None else [("twins", twins)])]


def _siblings(groups: Any, value: Any) -> list[Any]:
    """All members of a group, including itself, in the order of the figure; none if it is alone."""
    found: list[Any] = [*groups.get_siblings(value)] if value in groups else []
    if len(found) < 2:
        return []
    every: list[object] = getattr(value.figure, "axes", [])
    places = {id(each): place for place, each in enumerate(every)}
    return sorted(found, key=lambda each: (places.get(id(each), len(places)), id(each)))


class Shared:
    """The objects that matplotlib shares between all figures. One per process."""

    kind: Final[Kind] = Seen(repr)

    def __init__(self) -> None:
        self._own: dict[int, object] = {}  # kept, so that no other object gets the id
        self._maps = 0

    def __contains__(self, value: object) -> bool:
        return id(value) in self._own

    def renew(self) -> None:
        """Look for those that exist now."""
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
        """The tables of the registered colour maps: what `get_cmap` returns uses the same
        objects."""
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
    """The instance of this process."""
    return Shared()
