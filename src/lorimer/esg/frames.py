"""What arrays of numpy and objects of pandas are like, for the fingerprint. Imports neither.

Only what can be seen by their users counts, so no pickles: these differ with which texts happen to
be one object. Objects that are made only for the look are never noted as parts of the value.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Final, Protocol, cast

_SCALARS: Final = frozenset(
    {"Timestamp", "Timedelta", "Period", "Interval", "NaTType", "NAType", "DatetimeTZDtype"}
)
_OFFSETS: Final = "pandas._libs.tslibs.offsets"
_STORED: Final = ("_ndarray", "_data", "_mask", "_left", "_right", "_sparse_values")
"""Attributes in which pandas' arrays have their content."""


class Look(Protocol):
    """What is used of the walk."""

    copyable: bool
    size: int

    @property
    def parts(self) -> Mapping[int, int]: ...
    def add(self, value: object) -> None: ...
    def note(self, value: object) -> bool: ...
    def put(self, *texts: str) -> None: ...
    def data(self, data: bytes | memoryview) -> None: ...
    def elements(self, values: Iterable[object]) -> None: ...
    def foreign(self, value: object) -> None: ...
    def unknown(self, kind: type) -> None: ...


class _Array(Protocol):
    shape: tuple[int, ...]
    dtype: object
    base: object
    nbytes: int

    def tobytes(self) -> bytes: ...
    def reshape(self, shape: int) -> _Array: ...
    def tolist(self) -> list[object]: ...


def is_array(kind: type) -> bool:
    """An ndarray, or of a class made of it."""
    return any(base.__name__ == "ndarray" and base.__module__ == "numpy" for base in kind.__mro__)


def is_scalar(kind: type, value: object) -> bool:
    """A single value that can never change: a number of numpy, a time of pandas, a dtype."""
    module = kind.__module__
    if module.startswith("numpy"):
        names = {base.__name__ for base in kind.__mro__}
        return "dtype" in names or ("generic" in names and "void" not in names)
    if module.startswith("pandas"):
        return kind.__name__ in _SCALARS or module == _OFFSETS
    return False


def is_global(value: object) -> bool:
    """The generator that `numpy.random` itself draws from: a resource, no value."""
    return value is getattr(sys.modules.get("numpy.random.mtrand"), "_rand", None)


def array(look: Look, kind: type, value: object) -> None:
    """An array of numpy, with what it shares memory with."""
    it = cast("_Array", value)
    look.put("array", kind.__qualname__, str(it.dtype), str(it.shape))
    look.size += it.nbytes
    base = it.base
    while base is not None:
        look.copyable = False  # a copy would no longer share its memory
        look.note(base)
        base = getattr(base, "base", None)
    if "object" in str(it.dtype):
        _objects(look, it.reshape(-1).tolist())
    else:
        look.data(_memory(it))
    mask: object = getattr(value, "_mask", None)
    if mask is not None and is_array(type(mask)):
        look.add(mask)


def pandas(look: Look, kind: type, value: object) -> None:
    """A frame, a series, an index, an array; what else there is keeps caches and is opaque."""
    if hasattr(value, "_mgr"):
        _frame(look, kind, value)
    elif hasattr(value, "levels") and hasattr(value, "codes"):
        look.put(kind.__qualname__)
        for part in ("levels", "codes", "names"):
            _many(look, getattr(value, part))
    elif hasattr(value, "categories") and hasattr(value, "ordered") and not hasattr(value, "codes"):
        look.put(kind.__qualname__, str(getattr(value, "ordered", "")))
        look.add(getattr(value, "categories", None))
    elif hasattr(value, "dtype") and hasattr(value, "nbytes"):
        _stored(look, kind, value)
    else:
        look.unknown(kind)


def _frame(look: Look, kind: type, value: object) -> None:
    look.put("frame", kind.__qualname__)
    viewed = look.copyable
    parts = ("index", "columns") if getattr(value, "ndim", 1) == 2 else ("index", "name")
    for part in parts:
        look.add(getattr(value, part, None))
    _many(look, dict(getattr(value, "attrs", {})).items())
    for block in getattr(getattr(value, "_mgr", None), "arrays", ()):
        before = len(look.parts)
        look.add(block)
        if str(getattr(block, "dtype", "")) == "object" and _inside(look, before, block):
            viewed = False  # its copy has the very objects that are in the cells
    look.copyable = viewed


def _inside(look: Look, before: int, block: object) -> bool:
    """Whether there are objects that can change in the cells of a block."""
    own, base = 1, getattr(block, "base", None)
    while base is not None:
        own, base = own + 1, getattr(base, "base", None)
    return len(look.parts) - before > own


def _stored(look: Look, kind: type, value: object) -> None:
    """An index or an array: its content, wherever the class keeps it."""
    dtype: object = getattr(value, "dtype", None)
    look.put(kind.__qualname__, str(dtype), str(getattr(value, "freq", "")))
    if hasattr(value, "names"):
        _many(look, getattr(value, "names"))  # noqa: B009 - of an unknown class
    if hasattr(dtype, "categories"):
        look.add(dtype)
    if kind.__name__ == "RangeIndex":
        look.put(str(getattr(value, "_range", "")))
        return
    found = [getattr(value, each) for each in _STORED if hasattr(value, each)]
    if not found:
        look.foreign(value)
    for each in found:
        look.add(each)
    if hasattr(value, "sp_index"):
        look.put(repr(getattr(value, "sp_index")))  # noqa: B009 - of an unknown class


def _many(look: Look, values: Iterable[object]) -> None:
    """Some kind of list that is made for each look, or never changes."""
    given = [*values]
    look.put("many", str(len(given)))
    look.elements(given)


def _objects(look: Look, values: list[object]) -> None:
    look.put("objects", str(len(values)))
    look.elements(values)


def _memory(it: _Array) -> memoryview | bytes:
    """The bytes of an array, without a copy where they lie in one piece."""
    try:
        view = memoryview(cast("memoryview", it))
    except (TypeError, ValueError):  # dates have no buffer
        return it.tobytes()
    return view.cast("B") if it.nbytes and view.c_contiguous and view.ndim else it.tobytes()
