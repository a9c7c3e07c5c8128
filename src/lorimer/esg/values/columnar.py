"""The content of frames, series and expressions of polars. polars is not imported here.

A frame is kept as a clone that shares its memory, because polars copies before it writes to shared
memory. numpy does not: an object that uses the memory of a numpy array is opaque, and leads to that
array. Two frames in the same memory are equal, as their addresses show; otherwise the bytes decide,
and only when they are compared.
"""

# What polars gives has no types here: it need not be installed.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final

from lorimer.esg.values import quick
from lorimer.esg.values.arrays import owners
from lorimer.esg.values.content import (
    Content,
    Fleeting,
    Kind,
    Rigid,
    Seen,
    fields_of,
    home_of,
    unknown,
)

_HELD: Final = {"DataFrame": "_df", "Series": "_s"}
"""Classes of polars, and the attribute through which an object leads to its implementation."""
_HIDDEN_CODE: Final = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PLPY")
"""How a pickle begins: a Python function is in the expression. polars marks most of them, too."""
_VIEWS: Final = (b"vu", b"vz")
"""Formats of strings and bytes; the last of their buffers is created on request."""


def kind_of(kind: type[Any]) -> Kind | None:
    """The kind of a type of polars; None for others, and for those that cannot be inspected."""
    if kind.__module__ == "builtins":
        return _INNER.get(kind.__name__)
    if kind.__name__ in _HELD and home_of(kind).partition(".")[0] == "polars":
        return _OUTER[kind.__name__]
    return None


class Columns:
    """The data of a frame or a series: a clone of it, or only a digest."""

    __slots__ = ("bytes", "kept", "_clone", "_places", "_digests")

    def __init__(self, inner: Any) -> None:
        self._clone: Any = inner.clone()
        self.bytes = int(inner.estimated_size())
        self.kept = False
        """Its memory counts as a copy."""
        self._places: list[object] = []
        self._digests: dict[int, bytes] = {}

    @property
    def gone(self) -> bool:
        """The data were dropped."""
        return self._clone is None

    def clone(self) -> Any:
        """Another object with these data."""
        return self._clone.clone()

    def keep(self, inner: Any) -> None:
        """`inner` has these data: keep them."""
        if self._clone is None:
            self._clone = inner.clone()

    def drop(self) -> None:
        """Drop the data; the digest stays known."""
        if self._clone is not None:
            for place, each in enumerate(_series(self._clone)):
                self._digest(place, each)
        self._clone = None
        self.kept = False

    def _digest(self, place: int, series: Any = None) -> bytes:
        """The digest of one column, 16 bytes."""
        if place not in self._digests:
            series = _series(self._clone)[place] if series is None else series
            data = series.__getstate__()
            numpy: Any = sys.modules.get("numpy")
            self._digests[place] = (
                blake2b(data, digest_size=16).digest()
                if numpy is None
                else quick.digest(numpy.frombuffer(data, dtype="u1"))
            )
        return self._digests[place]

    def settle(self) -> None:
        """Nothing to do: nobody writes to the clone."""

    def doubt(self) -> None:
        """Nothing to do: nobody writes to the clone."""

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Columns):
            return self is other
        mine, theirs = self._told(), other._told()
        return len(mine) == len(theirs) and all(
            (one is not None and one == two) or self._digest(place) == other._digest(place)
            for place, (one, two) in enumerate(zip(mine, theirs, strict=True))
        )

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    @property
    def somewhere(self) -> bool:
        """Whether the addresses of the data are unknown."""
        return None in self._told()

    def places(self) -> Iterator[int]:
        """The addresses of all memory used by the data."""
        waiting = [*self._told()]
        while waiting:
            each = waiting.pop()
            if isinstance(each, tuple):
                waiting += each
            elif isinstance(each, _At):
                yield int(each)

    def _told(self) -> list[object]:
        """Where the data of each column are; None where unknown."""
        if self._clone is None:
            return [None] * len(self._digests)
        if not self._places:
            self._places = [_lie(each) for each in _series(self._clone)]
        return self._places


class _At(int):
    """An address."""


class _Late(Kind):
    """Kinds with `Columns`."""

    lends = True

    def late(self, content: Content, /) -> Columns | None:
        return _columns(content)

    def size(self, content: Content, /) -> int:
        data = _columns(content)
        return 0 if data is None else data.bytes

    def held(self, content: Content, /) -> int:
        data = _columns(content)
        return data.bytes if data is not None and data.kept else 0

    def drop(self, content: Content, /) -> None:
        data = _columns(content)
        if data is not None:
            data.drop()


class _Outer(_Late):
    """`DataFrame`, `Series`, as the only way to a polars implementation object. If something else
    leads to that too (`s.str` that was kept), or it has other attributes, it holds its
    attributes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def take(self, value: Any, /) -> Content:
        kind = type(value).__qualname__
        if _counts(value, self._name) == _ALONE:
            told = _told(getattr(value, self._name))
            used = _used(told)
            if told is not None and not used:
                return Content(self, (kind, told), ())
            if used:
                return _using(value, used)
        fields = fields_of(value)
        return unknown(value) if fields is None else Content(self, kind, (fields,))

    def keep(self, value: Any, content: Content, /) -> int:
        data = _columns(content)
        if data is None or data.kept:
            return 0
        data.keep(getattr(value, self._name))
        data.kept = True
        return data.bytes

    def give(self, value: Any, content: Content, /) -> None:
        self.keep(value, content)

    def lost(self, content: Content, /) -> bool:
        data = _columns(content)
        return data is not None and data.gone

    def put(self, value: Any, content: Content, /) -> bool:
        data = _columns(content)
        if data is not None and data.gone:
            return False
        fields = content.parts[0] if data is None else {self._name: data.clone()}
        object.__setattr__(value, "__dict__", fields)
        return True


class _Inner(Rigid, _Late):
    """`PyDataFrame`, `PySeries`: the implementation objects of polars. Nothing can be put into
    them."""

    def take(self, value: Any, /) -> Content:
        told = _told(value)
        used = _used(told)
        if told is None or used:
            return _using(value, used)
        return Content(self, (type(value).__name__, told), ())

    def lost(self, content: Content, /) -> bool:
        return True


class _Expression(Fleeting):
    """Cannot change, unless it leads to a function."""

    def take(self, value: Any, /) -> Content:
        try:
            data: object = value.__getstate__()
        except Exception:  # noqa: BLE001 - whatever polars raises, it cannot be looked into
            return unknown(value)
        if not isinstance(data, bytes) or any(each in data for each in _HIDDEN_CODE):
            return unknown(value)
        return Content(self, (type(value).__name__, blake2b(data, digest_size=16).digest()), ())


def _columns(content: Content) -> Columns | None:
    extra: Any = content.extra
    return extra[1][-1] if isinstance(extra, tuple) else None


def _told(inner: Any) -> tuple[object, ...] | None:
    """What a `PyDataFrame` or `PySeries` holds; None if unknown."""
    try:
        every = _series(inner)
        kinds = [each.dtype() for each in every]
        if not all(map(_is_plain, kinds)):
            return None
        shape = inner.shape() if hasattr(inner, "shape") else (inner.len(),)
        told = tuple(
            (each.name(), repr(kind), *_flags(each), *each.chunk_lengths())
            for each, kind in zip(every, kinds, strict=True)
        )
        data = Columns(inner)
        return None if data.somewhere else (*shape, *told, data)
    except Exception:  # noqa: BLE001 - another version of polars: it cannot be looked into
        return None


def _used(told: tuple[object, ...] | None) -> list[object]:
    """The numpy arrays in whose memory columns are."""
    last = told[-1] if told else None
    return owners(last.places()) if isinstance(last, Columns) else []


def _using(value: object, used: list[object]) -> Content:
    content = unknown(value)
    return content._replace(parts=(*content.parts, *used))


def _series(inner: Any) -> list[Any]:
    return list(inner.get_columns()) if hasattr(inner, "get_columns") else [inner]


def _flags(series: Any) -> tuple[bool, ...]:
    """What polars knows about the order, which changes how it computes."""
    return (
        series.is_sorted_ascending_flag(),
        series.is_sorted_descending_flag(),
        series.can_fast_explode_flag(),
    )


def _is_plain(kind: Any) -> bool:
    """Whether all values of a polars type are in the memory of the column itself."""
    known = kind if isinstance(kind, type) else type(kind)
    if known.__module__ != "polars.datatypes.classes" or known.__name__ in ("Object", "Unknown"):
        return False
    inside = [each.dtype for each in getattr(kind, "fields", None) or ()]
    if hasattr(kind, "inner"):
        inside.append(kind.inner)
    return all(map(_is_plain, inside))


class _Array(ctypes.Structure):
    """From Arrow's C data interface."""


class _Schema(ctypes.Structure):
    """From Arrow's C data interface."""


_Array._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "nulls", "offset", "buffers", "children")),
    ("places", ctypes.POINTER(ctypes.c_void_p)),
    ("inside", ctypes.POINTER(ctypes.POINTER(_Array))),
    ("dictionary", ctypes.POINTER(_Array)),
    ("release", ctypes.c_void_p),
    ("private", ctypes.c_void_p),
]
_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_void_p),
    ("flags", ctypes.c_int64),
    ("children", ctypes.c_int64),
    ("inside", ctypes.POINTER(ctypes.POINTER(_Schema))),
    ("dictionary", ctypes.POINTER(_Schema)),
    ("release", ctypes.c_void_p),
    ("private", ctypes.c_void_p),
]
_RELEASE: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _lie(series: Any) -> object:
    """Where the data of a column are; None if unknown."""
    try:
        return (*map(_place, series.get_chunks()),)
    except (AttributeError, TypeError):  # another version of polars
        return None


def _place(chunk: Any) -> tuple[object, ...]:
    """Where one chunk of a column is, without a copy."""
    array: Any = _Array()
    schema: Any = _Schema()
    chunk._export_arrow_to_c(ctypes.addressof(array), ctypes.addressof(schema))
    try:
        return _placed(array, schema)
    finally:
        for each in (array, schema):
            _RELEASE(each.release)(ctypes.addressof(each))


def _placed(array: Any, schema: Any) -> tuple[object, ...]:
    count = array.buffers - (schema.format in _VIEWS)
    places = [_At(array.places[each] or 0) for each in range(count)]
    inside = [
        _placed(array.inside[each].contents, schema.inside[each].contents)
        for each in range(array.children)
    ]
    if array.dictionary:
        inside.append(_placed(array.dictionary.contents, schema.dictionary.contents))
    return (schema.format, array.length, array.offset, *places, *inside)


class _Sample:
    def __init__(self) -> None:
        self.inner = object()


def _counts(value: Any, name: str) -> tuple[int, ...]:
    """How many attributes an object has, how many references there are to those, and to one of
    them."""
    fields = value.__dict__
    if name not in fields:
        return ()
    return len(fields), sys.getrefcount(fields), sys.getrefcount(fields[name])


_ALONE: Final = _counts(_Sample(), "inner")
_OUTER: Final[dict[str, Kind]] = {name: _Outer(held) for name, held in _HELD.items()}
_INNER: Final[dict[str, Kind]] = {
    "PyDataFrame": _Inner(),
    "PySeries": _Inner(),
    "PyExpr": _Expression(),
    "PyThen": _Expression(),
    "PyCategories": Seen(lambda value: (value.name(), value.namespace(), repr(value.physical()))),
}
