"""The content of arrays and frames of numpy and pandas, and of trees over arrays. None of the
libraries is imported here.

An array that owns its memory is identified by a digest of it, and restored from a copy that is
taken before somebody may change it. The digest of a large array is computed only when it is
compared, or before a step that can reach it runs: most arrays that a step makes are never compared.
A view holds nothing but the array it refers to. A frame holds its axes and the arrays of its
columns.
"""

# What numpy and pandas give has no types here: they need not be installed.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import itertools
import sys
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable
from functools import partial
from operator import itemgetter
from typing import Any, Final, cast

from lorimer.esg.values.content import (
    MAIN,
    Content,
    Fleeting,
    Held,
    Inline,
    Kind,
    Rigid,
    Seen,
    fields_of,
    home_of,
    unknown,
)
from lorimer.esg.values.definitions import Make
from lorimer.esg.values.quick import Data
from lorimer.esg.values.remembering import Remembering

_CACHES: Final = frozenset({
    "_cache", "_id", "_references", "_item_cache", "_engine", "_cacher", "_is_copy",
    "_accessors", "_name_cache",
})  # fmt: skip
SMALL: Final = 64 * 1024
"""Arrays up to this many bytes have their digest computed at once, and are copied whatever the code
of the step says."""
_CYTHON: Final = frozenset({"memoryview", "_memoryviewslice"})
"""Views of memory from which Cython code (pandas, scikit-learn) makes arrays."""
_OFFSETS: Final = "pandas._libs.tslibs.offsets"


def kind_of(kind: type[Any], make: Make) -> Kind | None:
    """The kind of a type of numpy or pandas, or of a subclass; None for others."""
    for each in kind.__mro__:
        home = home_of(each).partition(".")[0]
        if home == "numpy" and each.__name__ in _NUMPY:
            return _NUMPY[each.__name__]
        if each.__name__.startswith("BinaryTree") and home == "sklearn":
            return _TREE if kind.__module__ == each.__module__ else None
        if home == "pandas":
            if each.__name__ in _PANDAS or each.__module__ == _OFFSETS:
                return _PANDAS.get(each.__name__, _SCALAR)
            if each.__name__ in ("Index", "ExtensionArray", "ExtensionDtype"):
                return make(kind, partial(Remembering, hidden=_CACHES))
    return None


_CLASS: Final = "__class__"
"""Under this name the class of an array is among its attributes, if a step defined the class."""


class Array(Kind):
    """`numpy.ndarray`."""

    def take(self, value: Any, /) -> Content:
        own = self._own(value)
        fields = {**(fields_of(value) or {})}  # a mask
        if type(value).__module__ == MAIN:
            fields[_CLASS] = type(value)
        if not fields:
            return own
        kind, extra, parts = own
        return Content(kind, (tuple(fields), extra), (*fields.values(), *parts))

    def _own(self, value: Any) -> Content:
        place, fixed = value.__array_interface__["data"]  # asking `flags` may warn
        shape = (type(value), value.shape, value.strides, str(value.dtype), not fixed)
        owner = _owner(value)
        if owner is not value and _has_memory(owner):
            offset = place - owner.__array_interface__["data"][0]
            return Content(self, (*shape, offset), (owner,))
        held = () if owner is value else (owner,)
        if not held or not fixed:  # otherwise it shows what another library holds
            gone = partial(_forget, id(value))
            _KNOWN[id(value)] = (place, place + value.nbytes, weakref.ref(value, gone))
        if value.dtype.hasobject:
            return Content(self, shape, (*held, *value.ravel().tolist()))
        late = value.nbytes > SMALL and type(value).__module__ == "numpy" and _plain(value)
        return Content(self, (*shape, Data(value, late=late)), held)

    def keep(self, value: Any, content: Content, /) -> int:
        data = _data(content)
        if data is None or data.copy is not None:
            return 0
        data.copy = value.copy(order="K")
        return data.bytes

    def late(self, content: Content, /) -> Data | None:
        data = _data(content)
        return data if data is not None and data.late else None

    def held(self, content: Content, /) -> int:
        data = _data(content)
        return 0 if data is None or data.copy is None else data.bytes

    def drop(self, content: Content, /) -> None:
        data = _data(content)
        if data is not None:
            _ = data.digest  # the copy may be the only source of the digest
            data.copy = None

    def size(self, content: Content, /) -> int:
        data = _data(content)
        return 0 if data is None else data.bytes

    def lost(self, content: Content, /) -> bool:
        data = _data(content)
        return data is not None and data.copy is None

    def give(self, value: Any, content: Content, /) -> None:
        data = _data(content)
        if data is not None:
            data.copy = value

    def put(self, value: Any, content: Content, /) -> bool:
        extra, parts = cast("tuple[Any, ...]", content.extra), content.parts
        if isinstance(extra[0], tuple):
            names, extra = cast("tuple[tuple[str, ...], tuple[Any, ...]]", extra)
            fields = dict(zip(names, parts, strict=False))
            kind_of_array = fields.pop(_CLASS, type(value))
            if kind_of_array is not type(value):
                object.__setattr__(value, "__class__", kind_of_array)
            if (held := fields_of(value)) is not None:
                held.clear()
                held.update(fields)
            parts = parts[len(names) :]
        _, shape, strides, kind, writeable, *_ = extra
        now = (value.shape, value.strides, str(value.dtype))
        if now != (shape, strides, kind):
            try:
                value.shape = shape
            except (AttributeError, ValueError):
                return False
            if (value.shape, value.strides, str(value.dtype)) != (shape, strides, kind):
                return False
        data = _data(content)
        if data is not None and data.copy is None:
            return False
        try:
            if not value.flags.writeable:
                value.flags.writeable = True
            if data is not None:
                value[...] = data.copy
            elif value.dtype.hasobject and _owner(value) is value:
                for place, each in zip(
                    itertools.product(*map(range, value.shape)), parts, strict=True
                ):
                    value[place] = each
            value.flags.writeable = writeable
        except ValueError:
            return False
        return True


_KNOWN: Final[dict[int, tuple[int, int, weakref.ref[Any]]]] = {}
"""Arrays with memory of their own that were inspected: start and end address. Memory used without
notice is traced by its address."""


def _forget(key: int, _: object) -> None:
    _KNOWN.pop(key, None)


def owners(places: Iterable[int]) -> list[object]:
    """The arrays in whose memory these addresses are, each once."""
    known = sorted([*_KNOWN.values()], key=itemgetter(0))
    starts = [each[0] for each in known]
    found: dict[int, object] = {}
    for place in places if known else ():
        _, end, array = known[bisect_right(starts, place) - 1]
        if starts[0] <= place < end and (value := array()) is not None:
            found[id(value)] = value
    return [*found.values()]


def apart(value: Any) -> tuple[Content, object]:
    """The content of an array, wherever its memory is; and the object that the memory belongs
    to."""
    fields = fields_of(value) or {}
    place, fixed = value.__array_interface__["data"]
    shape = (type(value), value.shape, value.strides, str(value.dtype), not fixed, place % 16)
    held = value.ravel().tolist() if value.dtype.hasobject else ()
    data = None if value.dtype.hasobject else Data(value)
    return Content(_ARRAY, (tuple(fields), shape, data), (*fields.values(), *held)), _owner(value)


class _Generator(Kind):
    """`numpy.random.Generator`, `RandomState`."""

    def take(self, value: Any, /) -> Content:
        shared: Any = getattr(sys.modules.get("numpy.random"), "seed", None)
        if value is getattr(shared, "__self__", None):
            return Content(self, "shared", ())  # a resource (resources.py)
        return Content(self, None, (_bits(value),))

    def put(self, value: Any, content: Content, /) -> bool:
        return content.extra == "shared" or content.same(self.take(value))


class _Bits(Kind):
    """The source of a generator's bits."""

    def take(self, value: Any, /) -> Content:
        seeds: object = getattr(value, "seed_seq", None)
        return Content(self, (repr(value.state), Held(value.state)), (seeds,))

    def put(self, value: Any, content: Content, /) -> bool:
        extra: Any = content.extra
        value.state = extra[1].value
        return True


class _Seeds(Kind):
    """`numpy.random.SeedSequence`: it counts the sequences spawned from it."""

    def take(self, value: Any, /) -> Content:
        _, made_of, *state = value.__reduce__()
        return Content(self, (repr(value.state), Held(state[0] if state else made_of[-1])), ())

    def put(self, value: Any, content: Content, /) -> bool:
        extra: Any = content.extra
        value.__setstate__(extra[1].value)
        return True


class _NumpyValue(Kind):
    atom = True

    def take(self, value: Any, /) -> Content:
        return Content(self, (type(value).__name__, str(value.dtype), value.tobytes()), ())


class _Record(Rigid):
    """`numpy.void`: a row of a structured array, not a copy of it."""

    def take(self, value: Any, /) -> Content:
        shape, base = (type(value), str(value.dtype)), value.base
        if value.dtype.hasobject:
            return unknown(value)
        if base is None:
            return Content(self, (*shape, value.tobytes()), ())
        place = sys.modules["numpy"].frombuffer(value, "u1").__array_interface__["data"][0]
        offset = place - base.__array_interface__["data"][0]
        return Content(self, (*shape, offset), (base,))


class _Flat(Fleeting):
    """`numpy.flatiter` (`a.flat`), and `numpy.broadcast`, which holds some: they write to their
    arrays, which the garbage collector does not know."""

    def take(self, value: Any, /) -> Content:
        parts = value.iters if hasattr(value, "iters") else (value.base,)
        return Content(self, value.index, parts)


class _Tree(Rigid):
    """`KDTree`, `BallTree` of scikit-learn: its arrays, and its metric. Its statistics of queries
    do not count."""

    def take(self, value: Any, /) -> Content:
        data, places, nodes, bounds, leaf, levels, number, *state = value.__getstate__()
        parts = (data, places, nodes, bounds, *state[4:])
        return Content(self, (type(value), leaf, levels, number), parts)


class _Backed(Rigid):
    """Dates and categories of pandas: an array and a type."""

    def take(self, value: Any, /) -> Content:
        fields = {k: v for k, v in getattr(value, "__dict__", {}).items() if k not in _CACHES}
        return Content(self, tuple(fields), (value._ndarray, value.dtype, *fields.values()))


class _Frame(Kind):
    """`DataFrame`, `Series`. Before pandas 3 a frame caches the columns that it has returned, to
    return the same ones again: they are not parts of it."""

    hides = True
    tied = True

    def shut(self, value: Any, there: Callable[[object], bool], /) -> None:
        cache: dict[object, object] = vars(value).get("_item_cache") or {}
        for name in [name for name, each in cache.items() if not there(each)]:
            del cache[name]

    def take(self, value: Any, /) -> Content:
        manager = value._mgr
        blocks: Any = getattr(manager, "blocks", None)
        if blocks is None:
            return unknown(value)
        places = tuple(bytes(each.mgr_locs.as_array) for each in blocks)
        fields = {k: v for k, v in vars(value).items() if k not in _CACHES and k != "_mgr"}
        saved = _Manager(manager)
        extra = (type(value), type(manager), places, tuple(fields), len(manager.axes), saved)
        parts = (*manager.axes, *fields.values(), *(each.values for each in blocks))
        return Content(self, extra, parts)

    def put(self, value: Any, content: Content, /) -> bool:
        extra: Any = content.extra
        _, kind, places, names, axes, saved = extra
        arrays = content.parts[len(content.parts) - len(places) :]
        manager = kind.from_blocks(saved.blocks(arrays), list(content.parts[:axes]))
        fields = vars(value)
        for name in [each for each in fields if each != "_mgr"]:
            del fields[name]
        fields.update(zip(names, content.parts[axes:], strict=False))
        object.__setattr__(value, "_mgr", manager)
        if "_item_cache" not in fields and hasattr(type(value), "_clear_item_cache"):
            object.__setattr__(value, "_item_cache", {})
        return True

    def retie(self, content: Content, newer: Content, /) -> bool:
        mine: Any = content.extra
        theirs: Any = newer.extra
        mine[-1].value = theirs[-1].value
        return True

    def ties(self, content: Content, /) -> frozenset[int]:
        extra: Any = content.extra
        counts = [how.get("refs") for _, how in extra[-1].value]
        counts += [getattr(axis, "_references", None) for axis in content.parts[: extra[-2]]]
        return frozenset(id(each) for each in counts if each is not None and each.has_reference())


class _Manager(Held):
    """How the arrays of a frame are arranged. No block is kept: pandas copies before writing to
    memory that another live block uses, and ours would be one."""

    def __init__(self, manager: Any) -> None:
        super().__init__([
            (type(block), {"placement": block.mgr_locs, "ndim": block.ndim, **_shared(block)})
            for block in manager.blocks
        ])  # fmt: skip

    def blocks(self, arrays: tuple[object, ...]) -> list[Any]:
        return [kind(array, **how) for (kind, how), array in zip(self.value, arrays, strict=True)]


def _shared(block: Any) -> dict[str, object]:
    """What pandas (from 2 on) uses to count the blocks that share one memory."""
    refs: object = getattr(block, "refs", None)
    return {} if refs is None else {"refs": refs}


def _owner(value: Any) -> Any:
    """The object that the memory of an array belongs to."""
    while (of := _base(value)) is not None:
        value = of
    return value


def _base(value: Any) -> Any:
    if isinstance(value, memoryview):
        return value.obj
    if _has_memory(value) or type(value).__name__ in _CYTHON:
        return value.base
    return None


def _plain(value: Any) -> bool:
    """Numbers in memory of its own, contiguous: a copy has identical bytes."""
    flags = value.flags
    whole = flags.c_contiguous or flags.f_contiguous
    return value.base is None and flags.owndata and whole and value.dtype.kind in "biufc"


def _has_memory(value: Any) -> bool:
    """Whether it is an array: a memory view also has `strides`."""
    return hasattr(value, "__array_interface__") and hasattr(value, "base")


def _data(content: Content) -> Data | None:
    extra: Any = content.extra
    if isinstance(extra, tuple) and isinstance(extra[0], tuple):
        extra = extra[1]
    last: object = extra[-1] if isinstance(extra, tuple) else None
    return last if isinstance(last, Data) else None


def _bits(value: Any) -> Any:
    return getattr(value, "bit_generator", None) or value._bit_generator


_FUNCTION: Final = Inline(lambda value: (value._implementation,))
_ARRAY, _SCALAR = Array(), Seen(repr)
_TREE: Final = _Tree()
_FLAT: Final = _Flat()
_NUMPY: Final[dict[str, Kind]] = {
    "ndarray": _ARRAY,
    "void": _Record(),
    "generic": _NumpyValue(),
    "flatiter": _FLAT,
    "broadcast": _FLAT,
    "dtype": Seen(str),
    "ufunc": Seen(str),
    "_ArrayFunctionDispatcher": _FUNCTION,
    "Generator": _Generator(),
    "RandomState": _Generator(),
    "BitGenerator": _Bits(),
    "SeedSequence": _Seeds(),
}
_PANDAS: Final[dict[str, Kind]] = {
    **dict.fromkeys(("Timestamp", "Timedelta", "NaTType", "NAType", "Period", "Interval"), _SCALAR),
    "PeriodDtype": _SCALAR,
    "SparseIndex": Seen(lambda value: str(value.to_int_index().indices.tolist())),
    "IntervalArray": Inline(lambda value: (value._left, value._right, str(value.dtype))),
    "NDFrame": _Frame(),
    "NDArrayBacked": _Backed(),
}
