"""What matplotlib's objects keep that nobody can see: counters of callbacks, what was drawn last.

Taken for what they hold, no figure could be put back into what it was. matplotlib is not imported
here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from lorimer.esg.content import Kind

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
        if each.__name__ in _HIDDEN and each.__module__.partition(".")[0] == "matplotlib":
            return partly(kind, _HIDDEN[each.__name__])
    return None
