"""Finds the kind of a value (content.py)."""

from __future__ import annotations

import _thread
import builtins
import datetime
import decimal
import enum
import fractions
import gc
import pickle  # noqa: TID251 - only to compare: nothing is ever loaded
import random
import re
import sys
import types
import typing
import uuid
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import PurePath
from typing import Any, Final, cast

from lorimer.esg.values import arrays, columnar, figures, symbolic
from lorimer.esg.values.containers import Buffer, Cell, Deque, Dice, Dict, List, Raised, Set
from lorimer.esg.values.content import (
    ATOMS,
    MAIN,
    UNKNOWN,
    Content,
    Fleeting,
    Inline,
    Kind,
    OfSession,
    OfSteps,
    Opaque,
    Rigid,
    Seen,
    fields_of,
    home_of,
    referents,
    unknown,
)
from lorimer.esg.values.definitions import IGNORED, Class, Function, Instance, Maker, stands_alone

_IMMUTABLE: Final[frozenset[type]] = ATOMS | {
    type(Ellipsis), type(NotImplemented), range, datetime.date, datetime.datetime,
    datetime.time, datetime.timedelta, datetime.timezone, decimal.Decimal, fractions.Fraction,
    uuid.UUID,
}  # fmt: skip
_REFERENCES: Final = (
    types.ModuleType, types.WrapperDescriptorType, types.MethodDescriptorType,
    types.ClassMethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType,
    types.TracebackType, types.FrameType, OfSession,
)  # fmt: skip
_NAMELESS: Final = (OfSteps, types.TracebackType, types.FrameType)
_LOADED: Final = (types.ModuleType, types.FunctionType, type)
_Tuple = tuple[object, ...]
_Frozen = frozenset[object]
_HEAP: Final = 1 << 9
"""`Py_TPFLAGS_HEAPTYPE`: made by a class statement, or by an extension."""


class _Atom(Kind):
    atom = True

    def take(self, value: Any, /) -> Content:
        return Content(self, f"{type(value).__qualname__}:{value!r}", ())


class _Reference(Kind):
    """The same in every run: a module, a class of a library. It is another one after its module was
    reloaded."""

    atom = True

    def take(self, value: Any, /) -> Content:
        if isinstance(value, _NAMELESS):
            return Content(self, str(type(cast("object", value))), ())
        home: object = getattr(value, "__module__", None) or getattr(value, "__objclass__", "")
        name: object = getattr(value, "__qualname__", None) or getattr(value, "__name__", "")
        stays = f":{id(value)}" if isinstance(value, _LOADED) and _named(value) else ""
        return Content(self, f"ref:{type(value).__name__}:{home}:{name}{stays}", ())


class _NamedTuple(Kind):
    inline = True

    def take(self, value: Any, /) -> Content:
        return Content(self, "", (type(value), *_items(value)))


class _Variable(Rigid):
    """A type variable, or (from Python 3.12 on) an alias of the statement `type`: its name, and
    what it leads to."""

    def take(self, value: Any, /) -> Content:
        varies = [getattr(value, f"__{each}__", None) for each in _VARIES]
        return Content(self, (type(value), value.__name__, *varies), referents(value))


class _Lock(Fleeting):
    """A lock that nobody holds is unchanged."""

    def take(self, value: Any, /) -> Content:
        free = repr(value).startswith("<unlocked")  # an `RLock` has no `locked` before Python 3.14
        return Content(self, type(value).__name__, ()) if free else unknown(value)


class _Finalizer(Fleeting):
    """`weakref.finalize`: what it calls is kept by its class. Once called or detached, it is
    gone."""

    def take(self, value: Any, /) -> Content:
        held: tuple[Any, ...] | None = value.peek()
        if held is None:
            return Content(self, (), ())
        of, function, arguments, named = held
        parts = (of, function, *arguments, *named.values())
        return Content(self, (bool(value.atexit), *named), parts)


class _Fixed(Rigid):
    """An object of an extension that nobody can change once it is made. Each is different."""

    def take(self, value: Any, /) -> Content:
        return Content(self, (type(value).__qualname__, id(value)), referents(value))


class _Compiling(Fleeting):
    """An object made by numba. A function goes on compiling, with the values of globals at the
    time, and its objects lead to much of numba itself, which users of numba do not change."""

    def take(self, value: Any, /) -> Content:
        plain: object = getattr(value, "py_func", None)
        return Content(self, Opaque(), () if plain is None else (plain,))


class _Foreign(Fleeting):
    """An object of an extension: its pickle, if it has one and holds nothing that can change."""

    def take(self, value: Any, /) -> Content:
        kind = cast("type[Any]", type(value))
        if walks(kind) or hasattr(kind, "close"):
            return unknown(value)
        held = referents(value)
        if any(not kind_of(each).atom for each in held):
            return unknown(value)
        try:
            data = pickle.dumps(value, protocol=5)
        except Exception:  # noqa: BLE001 - whatever its class raises, it cannot be looked into
            return unknown(value)
        return Content(self, (type(value).__qualname__, blake2b(data, digest_size=12).digest()), ())


def _items(value: Any) -> tuple[object, ...]:
    return (*_Tuple.__iter__(value),)


def walks(kind: type[Any]) -> bool:
    """Looking at its objects advances them."""
    return hasattr(kind, "__next__") or hasattr(kind, "__anext__") or hasattr(kind, "fileno")


def _function(value: types.FunctionType) -> Kind:
    """What a library defines is the same in every run; what a step defines belongs to the step,
    even where it replaces the library's."""
    if isinstance(value.__globals__, OfSteps):
        return FUNCTION
    if value.__closure__:
        return REFERENCE if value.__module__ != MAIN and _named(value) else FUNCTION
    return FUNCTION if stands_alone(value) and not _named(value) else REFERENCE


def _named(value: types.FunctionType | types.ModuleType | type[Any]) -> bool:
    """It is what its module has under its name."""
    if isinstance(value, types.ModuleType):
        return sys.modules.get(value.__name__) is value
    found: object = sys.modules.get(str(value.__module__))
    for name in value.__qualname__.split("."):
        fields = None if found is None else fields_of(found)
        if fields is None and isinstance(found, type):
            fields = vars(found)
        found = None if fields is None else fields.get(name)
    return found is value


def _built_in(value: types.BuiltinMethodType) -> Kind:
    owner: object = value.__self__
    return REFERENCE if owner is None or kind_of(owner).atom else _METHOD


def _bound(value: Any) -> tuple[object, ...]:
    """What a weak method leads to; the method itself is new each time."""
    method = cast("types.MethodType | None", value())
    return (None,) if method is None else (method.__func__, method.__self__)


def _stood_for(value: Any) -> tuple[object, ...]:
    """What a weak proxy stands for; the proxy answers for it, even when asked for its class."""
    try:
        return (value.__reduce_ex__.__self__,)
    except ReferenceError:
        return ()
    except AttributeError:  # a class
        return (value.__mro__[0],)


def _behind(value: Any) -> tuple[object, ...]:
    """What a read-only view shows: a mapping, or the class that `vars` was called with."""
    found = gc.get_referents(value)
    if type(found[0]) is not dict or "__module__" not in found[0]:
        return tuple(found)
    waiting = list[type[Any]]([object])
    seen = set(waiting)
    while waiting:
        each = waiting.pop()
        if gc.get_referents(vars(each))[0] is found[0]:
            return (each,)
        waiting += (new := set(type.__subclasses__(each)) - seen)
        seen |= new
    return tuple(found)


def _fields(value: Any) -> tuple[object, ...]:
    return (*(fields_of(value) or {}).items(),)


_SHARED: Final[object] = getattr(random, "_inst", None)
"""The generator behind the functions of `random`: a resource (resources.py)."""
_BUILTINS: Final = vars(builtins)
"""In every dict that was passed to `exec`."""
ATOM, REFERENCE, FOREIGN, COMPILING = _Atom(), _Reference(), _Foreign(), _Compiling()
VALUE: Final = Seen(str)
FUNCTION, CLASS, LIST = Function(), Class(), List()
TUPLE: Final = Inline(_items)
_METHOD: Final = Inline(lambda value: (value.__name__, value.__self__))
_KINDS: Final[dict[type, Kind]] = {
    list: LIST,
    dict: Dict(dict),
    set: Set(),
    tuple: TUPLE,
    frozenset: Inline(lambda value: (*_Frozen.__iter__(value),)),
    bytearray: Buffer(),
    _thread.LockType: _Lock(),
    _thread.RLock: _Lock(),
    deque: Deque(),
    OrderedDict: Dict(OrderedDict),
    defaultdict: Dict(defaultdict),
    types.CellType: Cell(),
    types.SimpleNamespace: Instance(None, ()),
    types.MethodType: Inline(lambda value: (value.__func__, value.__self__)),
    types.MethodWrapperType: _METHOD,
    types.CodeType: Seen(lambda value: value),
    re.Pattern: Seen(lambda value: (value.pattern, value.flags)),
    re.Match: Seen(lambda value: (value.re.pattern, value.string, value.regs, value.re.flags)),
    weakref.ref: Inline(lambda value: (value(),)),
    weakref.KeyedRef: Inline(lambda value: (value(), value.key)),
    weakref.WeakMethod: Inline(_bound),
    weakref.ProxyType: Inline(_stood_for),
    weakref.CallableProxyType: Inline(_stood_for),
    weakref.finalize: _Finalizer(),
    staticmethod: Inline(lambda value: (value.__func__,)),
    classmethod: Inline(lambda value: (value.__func__,)),
    property: Inline(lambda value: (value.fget, value.fset, value.fdel)),
    partial: Inline(lambda value: (value.func, value.args, value.keywords, fields_of(value))),
    slice: Inline(lambda value: (value.start, value.stop, value.step)),
    types.MappingProxyType: Inline(_behind),
}


_ALIASES: Final[tuple[tuple[Any, Inline], ...]] = (
    (type(typing.List[int]), Inline(_fields)),  # noqa: UP006
    (types.GenericAlias, Inline(lambda value: (value.__origin__, value.__args__, repr(value)[0]))),
    (types.UnionType, Inline(lambda value: value.__args__)),
)
"""Types with parameters: `Optional[A]`, `list[A]` (or with a star before it), `A | None`. `typing`
caches those it has made, and returns the same ones to everybody."""
_FORMS: Final = (type(typing.ClassVar), type(typing.List))  # noqa: UP006
"""Forms defined by `typing` itself: `Union`, `Literal`, `Dict`, ..."""
_VARIABLES: Final[tuple[type, ...]] = tuple(
    getattr(typing, name)
    for name in ("TypeVar", "ParamSpec", "TypeVarTuple", "TypeAliasType")
    if sys.version_info >= (3, 12)  # before, they are written in Python
)
_VARIABLE: Final = _Variable()
_VARIES: Final = ("covariant", "contravariant", "infer_variance")
_FIXED: Final = _Fixed()
_VALIDATORS: Final = ("SchemaValidator", "SchemaSerializer")
"""In `pydantic_core`: every model has them."""
_NAMESPACE: Final = Instance(None, ())
_OF_FIGURES: Final = figures.shared()


def kind_of(value: object) -> Kind:
    """The kind of a value."""
    if type(value) in weakref.ProxyTypes:
        return _KINDS[type(value)]
    if type(value) is types.FunctionType:
        return _function(value)
    if type(value) is types.BuiltinMethodType:
        return _built_in(value)
    if value is _SHARED or value is _BUILTINS:
        return REFERENCE
    if type(value) is types.ModuleType and _made_by_hand(value):
        return _NAMESPACE
    if isinstance(value, type):
        if symbolic.is_function(value):
            return symbolic.FUNCTION
        return CLASS if value.__module__ == MAIN else REFERENCE
    return _OF_FIGURES.kind if value in _OF_FIGURES else _kind(type(value))


def _made_by_hand(module: types.ModuleType) -> bool:
    """It was not loaded by an import."""
    held = fields_of(module) or {}
    return held.get("__spec__") is None and held.get("__name__") != MAIN


@lru_cache(maxsize=4096)
def _kind(kind: type[Any]) -> Kind:
    if kind in _IMMUTABLE:
        return ATOM
    if kind in _KINDS:
        return _KINDS[kind]
    if issubclass(kind, _REFERENCES):
        return REFERENCE
    for alias, made in _ALIASES if kind.__module__ != MAIN else ():
        if issubclass(kind, alias):
            return made
    if kind.__module__ == "typing" and issubclass(kind, _FORMS):
        return VALUE
    if issubclass(kind, _VARIABLES):
        return _VARIABLE
    if issubclass(kind, PurePath) or (issubclass(kind, enum.Enum) and kind.__module__ != MAIN):
        return VALUE
    found = arrays.kind_of(kind, instance) or figures.kind_of(kind, instance)
    found = found or columnar.kind_of(kind) or symbolic.kind_of(kind)
    if found is not None:
        return found
    if home_of(kind).partition(".")[0] == "numba":
        return COMPILING
    if kind.__name__ in _VALIDATORS and home_of(kind).startswith("pydantic_core."):
        return _FIXED
    if issubclass(kind, BaseException):
        return Raised()
    if issubclass(kind, random.Random):
        return Dice()
    if not kind.__flags__ & _HEAP:
        return FOREIGN
    return instance(kind)


def _head(kind: type[Any], parent: type[Any]) -> int:
    """Bytes that a Python class adds to its base besides slots: `__dict__`, `__weakref__`."""
    adds_dict = bool(kind.__dictoffset__) and not parent.__dictoffset__
    adds_weak = bool(kind.__weakrefoffset__) and not parent.__weakrefoffset__
    return 8 * (adds_dict + adds_weak)


def _repr_of(base: type[Any]) -> Callable[[Any], object]:
    told = cast("Callable[[Any], str]", base.__repr__)
    return lambda value: told(value)


def instance(kind: type[Any], make: Maker = Instance) -> Kind:
    """The kind of objects of a class written in Python."""
    slots = list[tuple[str, Any]]()
    base: type[Any] | None = None
    for each in kind.__mro__[:-1]:
        own: Any = vars(each).get("__slots__", ())
        named = [own] if isinstance(own, str) else list(own)
        members = [name for name in named if name not in IGNORED]
        if each in _KINDS or not each.__flags__ & _HEAP:
            base = each
            break
        parent = each.__base__ or object
        if each.__basicsize__ - parent.__basicsize__ > 8 * len(members) + _head(each, parent):
            return FOREIGN  # an extension's, with fields of its own
        for name, slot in vars(each).items():
            if isinstance(slot, types.MemberDescriptorType) and name not in IGNORED:
                slots.append((name, slot))
    if base is None:
        return make(None, tuple(slots))
    if base is tuple and not kind.__dictoffset__ and not slots:
        return _NamedTuple()
    if base in _IMMUTABLE:
        return make(Seen(_repr_of(base)), tuple(slots))
    inner = _kind(base)
    return FOREIGN if inner is FOREIGN or inner is UNKNOWN else make(inner, tuple(slots))
