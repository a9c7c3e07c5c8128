"""What a value is like: a digest of all that can be reached from it, and what of that can change.

Two values with one fingerprint are taken for equal by replay, so it covers types, the code of
classes and functions, dtypes, indexes and sharing inside the value. What cannot be looked into
without a risk (iterators, generators, files, locks) is *opaque*: it has no fingerprint but a token
of its own, and any use of it counts as a change.

Nothing here runs code of the value's class: attributes are read from `__dict__` and slots. Objects
of extension types that are not known are asked for their pickle, which is never loaded.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import marshal  # noqa: TID251 - only to compare: nothing is ever loaded
import pickle  # noqa: TID251 - only to compare: nothing is ever loaded
import re
import types
import uuid
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePath
from typing import Final, cast

from lorimer.esg import frames

MAIN: Final = "__main__"
"""The module that steps run as: their classes are looked into, those of libraries are not."""

_IMMUTABLE: Final[frozenset[type]] = frozenset(
    {
        int, float, complex, bool, str, bytes, type(None), type(Ellipsis), type(NotImplemented),
        range, slice, datetime.date, datetime.datetime, datetime.time, datetime.timedelta,
        datetime.timezone, decimal.Decimal, fractions.Fraction, uuid.UUID, re.Pattern,
    }
)  # fmt: skip
_ATOMS: Final = frozenset({int, float, complex, bool, str, bytes, type(None)})
_MANY: Final = 16
"""From so many elements on it pays to look at their types first."""
_IGNORED: Final = frozenset({"__dict__", "__weakref__", "__slotnames__", "__doc__", "__module__"})
_OF_CLASS: Final = _IGNORED | {
    "__annotations__", "__firstlineno__", "__static_attributes__", "__abstractmethods__",
    "_abc_impl", "__orig_bases__", "__parameters__", "__annotate__", "__annotate_func__",
    "__annotations_cache__", "__conditional_annotations__",
}  # fmt: skip
_BY_REFERENCE: Final = (
    types.ModuleType,
    types.BuiltinFunctionType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.MethodWrapperType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)


@dataclass(frozen=True, slots=True)
class Seen:
    """One value, looked at."""

    digest: str
    parts: frozenset[int]
    """Ids of all objects in it that can change; empty: nothing can."""
    opaque: bool
    """Some of it cannot be looked into."""
    copyable: bool
    """A copy made by `copy.deepcopy` is as good: nothing is opaque, no function, no view."""
    size: int
    """Roughly, in bytes."""


def look(value: object, token: Callable[[], str]) -> Seen:
    """Look at a value. `token`: gives what stands for an opaque object, new at each call."""
    walk = _Look(token)
    try:
        walk.add(value)
    except RecursionError:  # nested too deep to be looked through
        walk.unknown(type(value))
    return Seen(
        walk.hash.hexdigest(),
        frozenset(walk.parts),
        walk.opaque,
        walk.copyable and not walk.opaque,
        walk.size,
    )


class _Look:
    def __init__(self, token: Callable[[], str]) -> None:
        self.hash: blake2b = blake2b(digest_size=12)
        self.parts: dict[int, int] = {}  # id -> order of the first visit
        self.kept: list[object] = []  # so that no id is used twice meanwhile
        self.opaque = False
        self.copyable = True
        self.size = 0
        self._token = token

    def add(self, value: object) -> None:
        kind = type(value)
        if kind in _IMMUTABLE:
            self._simple(kind, value)
        elif (handler := _HANDLERS.get(kind)) is not None:
            if kind is tuple or kind is frozenset or self._first(value):
                handler(self, value)
        elif isinstance(value, _BY_REFERENCE):
            self._put("ref", getattr(value, "__name__", ""), str(getattr(value, "__self__", "")))
        elif isinstance(value, type):
            self._class(value)
        elif frames.is_scalar(kind, value) or isinstance(value, enum.Enum | PurePath):
            self._put("value", kind.__qualname__, repr(value))
        elif frames.is_global(value):
            self._put("ref", "numpy.random")
        elif self._first(value):
            self._object(kind, value)

    # ------------------------------------------------------------- kinds of value

    def _simple(self, kind: type, value: object) -> None:
        text = repr(value) if kind is not str and kind is not bytes else value
        data = text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogatepass")
        self.size += len(data) + 24
        self._put(kind.__name__, str(len(data)))
        self.hash.update(data)

    def sequence(self, value: list[object] | tuple[object, ...] | deque[object]) -> None:
        self._put(type(value).__name__, str(len(value)), str(getattr(value, "maxlen", "")))
        self.size += 56 + 8 * len(value)
        if len(value) > _MANY and _ATOMS.issuperset(map(type, value)):
            data = marshal.dumps([*value], 2)  # this version writes equal values alike
            self.size += len(data)
            self.hash.update(data)
            return
        for each in value:
            self.add(each)

    def mapping(self, value: dict[object, object]) -> None:
        self._put(type(value).__name__, str(len(value)))
        self.size += 64 + 100 * len(value)
        if isinstance(value, defaultdict):
            self.add(value.default_factory)
        for key, each in value.items():
            self.add(key)
            self.add(each)

    def unordered(self, value: set[object] | frozenset[object]) -> None:
        """A set: the digests of its members, sorted."""
        self._put(type(value).__name__, str(len(value)))
        self.size += 200 + 32 * len(value)
        for digest in sorted(self._apart(each) for each in value):
            self._put(digest)

    def buffer(self, value: bytearray) -> None:
        self._put("bytearray", str(len(value)))
        self.size += len(value)
        self.hash.update(value)

    def function(self, value: types.FunctionType) -> None:
        self.copyable = False
        self.code(value.__code__)
        self._put("function", value.__qualname__)
        self.add(value.__defaults__)
        self.add(value.__kwdefaults__)
        for cell in value.__closure__ or ():
            self._cell(cell)
        if value.__dict__:
            self.mapping({**value.__dict__})

    def method(self, value: types.MethodType) -> None:
        self._put("method")
        self.add(value.__func__)
        self.add(value.__self__)

    def wrapper(self, value: staticmethod[..., object] | classmethod[object, ..., object]) -> None:
        self._put(type(value).__name__)
        self.add(value.__func__)

    def property_(self, value: property) -> None:
        self._put("property")
        for each in (value.fget, value.fset, value.fdel):
            self.add(each)

    def code(self, code: types.CodeType) -> None:
        self._put("code", code.co_name, *code.co_names, *code.co_varnames, *code.co_freevars)
        self.hash.update(code.co_code)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self.code(constant)
            else:
                self.add(constant)

    def _cell(self, cell: types.CellType) -> None:
        if self._first(cell):
            try:
                self.add(cell.cell_contents)
            except ValueError:
                self._put("empty cell")

    def _class(self, value: type) -> None:
        self._put("class", value.__module__, value.__qualname__)
        if value.__module__ != MAIN:
            return
        self.copyable = False
        if not self._first(value):
            return
        for base in value.__bases__:
            self.add(base)
        for name, each in sorted(vars(value).items()):
            if name not in _OF_CLASS:
                self._put(name)
                self.add(each)

    def _object(self, kind: type, value: object) -> None:
        module = kind.__module__.partition(".")[0]
        if frames.is_array(kind):
            frames.array(self, kind, value)
            if kind.__module__ == MAIN:
                self._instance(kind, value)
        elif module == "pandas":
            frames.pandas(self, kind, value)
        elif kind.__flags__ & _HEAP and not _walks(kind):
            self._instance(kind, value)
        else:
            self._foreign(kind, value)

    def _instance(self, kind: type, value: object) -> None:
        """An object of a class written in Python: its content, its attributes, its class."""
        self._put("object")
        self.add(kind)
        for base, handler in _HANDLERS.items():
            if isinstance(value, base) and base not in (types.FunctionType, types.MethodType):
                handler(self, value)
                break
        else:
            if isinstance(value, int | float | str | bytes | complex):
                self._put(repr(cast("object", value)))
        fields: dict[str, object] = dict(getattr(value, "__dict__", {}))
        for each in kind.__mro__:
            slots = vars(each).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else tuple(slots):
                descriptor = vars(each).get(name)
                if isinstance(descriptor, types.MemberDescriptorType):
                    try:
                        fields[name] = descriptor.__get__(value)
                    except AttributeError:
                        continue
        self.mapping({name: each for name, each in fields.items() if name not in _IGNORED})

    def _foreign(self, kind: type, value: object) -> None:
        """An object of an extension: its pickle, if it has one, else nothing can be said."""
        if _walks(kind) or hasattr(kind, "__next__") or hasattr(kind, "close"):
            self._unknown(kind)
            return
        try:
            data = pickle.dumps(value, protocol=5)
        except Exception:  # noqa: BLE001 - whatever its class raises, it cannot be looked into
            self._unknown(kind)
            return
        self.size += len(data)
        self._put("pickle", kind.__module__, kind.__qualname__)
        self.hash.update(data)

    def _unknown(self, kind: type) -> None:
        self.opaque = True
        self._put("opaque", kind.__qualname__, self._token())

    # ------------------------------------------------------------- for other modules

    def put(self, *texts: str) -> None:
        self._put(*texts)

    def note(self, value: object) -> bool:
        return self._first(value)

    def data(self, data: bytes | memoryview) -> None:
        self.hash.update(data)

    def elements(self, values: Iterable[object]) -> None:
        for each in values:
            self.add(each)

    def foreign(self, value: object) -> None:
        self._foreign(type(value), value)

    def unknown(self, kind: type) -> None:
        self._unknown(kind)

    # ------------------------------------------------------------- means

    def _first(self, value: object) -> bool:
        """Note an object that can change. Whether it was not met before."""
        key = id(value)
        number = self.parts.get(key)
        if number is not None:
            self._put("again", str(number))  # sharing and circles are part of what it is like
            return False
        self.parts[key] = len(self.parts)
        self.kept.append(value)
        return True

    def _apart(self, value: object) -> str:
        outer, self.hash = self.hash, blake2b(digest_size=12)
        self.add(value)
        inner, self.hash = self.hash, outer
        return inner.hexdigest()

    def _put(self, *texts: str) -> None:
        self.hash.update("\x1f".join(texts).encode("utf-8", "surrogatepass"))
        self.hash.update(b"\x1e")


_HEAP: Final = 1 << 9
"""`Py_TPFLAGS_HEAPTYPE`: made by a class statement (or by a newer extension)."""


def _walks(kind: type) -> bool:
    """Its objects are moved on by looking at them."""
    return hasattr(kind, "__next__") or hasattr(kind, "__anext__") or hasattr(kind, "fileno")


_HANDLERS: Final[Mapping[type, Callable[[_Look, object], None]]] = cast(
    "Mapping[type, Callable[[_Look, object], None]]",
    {
        list: _Look.sequence,
        tuple: _Look.sequence,
        deque: _Look.sequence,
        dict: _Look.mapping,
        OrderedDict: _Look.mapping,
        defaultdict: _Look.mapping,
        set: _Look.unordered,
        frozenset: _Look.unordered,
        bytearray: _Look.buffer,
        types.FunctionType: _Look.function,
        types.MethodType: _Look.method,
        staticmethod: _Look.wrapper,
        classmethod: _Look.wrapper,
        property: _Look.property_,
    },
)
