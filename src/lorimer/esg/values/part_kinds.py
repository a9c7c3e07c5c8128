"""Which values have parts that can be compared on their own (parts.py): containers of Python,
arrays and frames, and objects with plain attributes."""

# What numpy and pandas give has no types here: they need not be installed.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lorimer.esg.analysis.parts import NO_KEY, Path
from lorimer.esg.values.content import fields_of, home_of

_SIZES: Final = frozenset({"shape", "ndim", "size", "dtype"})
_ATTRIBUTES: Final[Mapping[str, frozenset[str]]] = {
    "ndarray": _SIZES,
    "Index": _SIZES | {"name"},
    "RangeIndex": _SIZES | {"name"},
    "DatetimeIndex": _SIZES | {"name"},
    "Series": _SIZES | {"name", "index"},
    "DataFrame": frozenset({"shape", "ndim", "size", "index", "columns", "dtypes"}),
}
"""Types of numpy and pandas whose parts are supported, and their attributes that are parts."""


def fits(value: Any, paths: tuple[Path, ...]) -> bool:
    """Whether these can be parts of a value."""
    kind: type[Any] = type(value)
    if kind in (dict, list, tuple):
        return all(not path.attribute for path in paths)
    if home_of(kind).partition(".")[0] not in ("numpy", "pandas"):
        return kind.__getattribute__ is object.__getattribute__ and _attributes(value, paths)
    known = _ATTRIBUTES.get(kind.__name__)
    return known is not None and all(
        path.attribute in known
        or (path.key is not NO_KEY and _subscripted(kind.__name__, path.attribute))
        or (kind.__name__ == "DataFrame" and path.key is NO_KEY and _column(value, path.attribute))
        for path in paths
    )


def _attributes(value: Any, paths: tuple[Path, ...]) -> bool:
    """Whether these are attributes stored in an object of a class written in Python: getting one
    runs no code of the class."""
    held = fields_of(value)
    return held is not None and all(
        path.key is NO_KEY
        and path.attribute in held
        and not any(path.attribute in vars(each) for each in type(value).__mro__)
        for path in paths
    )


def _subscripted(kind: str, place: str) -> bool:
    return not place or kind in ("Series", "DataFrame")


def _column(value: Any, name: str) -> bool:
    """Whether `value.name` is a column, and not a method or attribute."""
    columns = value.columns
    return (
        type(columns).__name__ == "Index"
        and not hasattr(type(value), name)
        and name not in vars(value)
        and name in columns
    )
