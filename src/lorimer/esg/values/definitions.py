"""The contents of functions, classes, and objects of classes written in Python."""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from lorimer.esg.values.content import MAIN, Content, Kind, alike, fields_of, unknown

IGNORED: Final = frozenset({"__dict__", "__weakref__", "__slotnames__", "__doc__", "__module__"})
_COMES: Final = frozenset({"__slotnames__", "__annotations_cache__"})
"""What Python adds to a class when an object is copied or annotations are read."""
_OF_CLASS: Final = IGNORED - {"__doc__"} | _COMES | {
    "__firstlineno__", "__static_attributes__", "__abstractmethods__",
    "_abc_impl", "__orig_bases__", "__parameters__",
    "__conditional_annotations__", "__qualname__", "__name__",
}  # fmt: skip

_ANNOTATIONS: Final = "__annotate__" if sys.version_info >= (3, 14) else "__annotations__"
"""From then on a function computes its annotations on demand."""
_Tuple = tuple[object, ...]
Slots = tuple[tuple[str, Any], ...]
"""The slots of a class: name and descriptor."""


class Function(Kind):
    """A function. Its attributes are a separate object, which `vars` returns."""

    def take(self, value: Any, /) -> Content:
        extra = (value.__code__, value.__qualname__, value.__name__)
        held = (value.__defaults__, value.__kwdefaults__, value.__closure__, value.__dict__)
        more = (value.__doc__, getattr(value, _ANNOTATIONS) or None)
        space = (value.__globals__,) if stands_alone(value) else ()
        return Content(self, extra, (*held, *more, *space))

    def put(self, value: Any, content: Content, /) -> bool:
        code, long_name, name = cast("tuple[types.CodeType, str, str]", content.extra)
        defaults, keywords, closure, fields, doc, annotations = content.parts[:6]
        if not alike(cast("_Tuple", closure or ()), value.__closure__ or ()):
            return False
        value.__code__, value.__qualname__, value.__name__ = code, long_name, name
        value.__defaults__, value.__kwdefaults__ = defaults, keywords
        if value.__dict__ is not fields:
            value.__dict__ = fields
        value.__doc__ = doc
        if (getattr(value, _ANNOTATIONS) or None) is not annotations:
            setattr(value, _ANNOTATIONS, annotations)
        return True


def stands_alone(function: types.FunctionType) -> bool:
    """Its globals are not those of a module: it was made by `exec` with a dict of its own."""
    space = function.__globals__
    home = sys.modules.get(str(space.get("__name__")))
    return type(space) is dict and (home is None or fields_of(home) is not space)


class Class(Kind):
    """A class made by a step."""

    def take(self, value: Any, /) -> Content:
        every = {**cast("dict[str, object]", vars(value))}
        fields = [each for name, each in every.items() if name not in _OF_CLASS]
        order = [name for name in every if name not in _COMES]
        names = (str(value.__qualname__), str(value.__name__), *order)
        return Content(self, names, (type(value), value.__bases__, *fields))

    def put(self, value: Any, content: Content, /) -> bool:
        long_name, own_name, *order = cast("tuple[str, ...]", content.extra)
        kind, bases, *values = content.parts
        if kind is not type(value) or not alike(cast("_Tuple", bases), value.__bases__):
            return False
        fields = (name for name in order if name not in _OF_CLASS)
        wanted = dict(zip(fields, values, strict=True))
        now = {**cast("dict[str, object]", vars(value))}
        try:
            value.__qualname__, value.__name__ = long_name, own_name
            for name in now.keys() - wanted.keys() - _OF_CLASS:
                type.__delattr__(value, name)
            for name, each in wanted.items():
                if name not in now or now[name] is not each:
                    type.__setattr__(value, name, each)
        except (AttributeError, TypeError):
            return False
        _put_in_order(value, order)
        return True


def _put_in_order(kind: type[Any], order: Iterable[str]) -> None:
    """Put the attributes of a class in this order: what was deleted and set again is at the end.
    Changes the dict behind `vars`, because `__dict__` and `__doc__` cannot be deleted."""
    held = cast("dict[str, object]", gc.get_referents(vars(kind))[0])
    later = [name for name in order if name in held]
    if later != [name for name in held if name not in _COMES]:
        for name in later:
            held[name] = held.pop(name)


class Instance(Kind):
    """An object of a class written in Python: its class, its slots, the content of its base, and
    its attributes, which are a separate object because `vars` returns it."""

    def __init__(self, base: Kind | None, slots: Slots) -> None:
        self._base = base
        self._slots = slots

    def attributes(self, value: Any, /) -> dict[str, object]:
        """What it holds besides slots, by name."""
        fields = fields_of(value)
        return {} if fields is None else {"__dict__": fields}

    def put_attributes(self, value: Any, wanted: dict[str, object], /) -> None:
        """Restore these attributes."""
        fields = wanted.get("__dict__")
        if fields is not None and fields_of(value) is not fields:
            object.__setattr__(value, "__dict__", fields)

    def take(self, value: Any, /) -> Content:
        held = None if self._base is None else self._base.take(value)
        found = self.attributes(value)
        for name, slot in self._slots:
            try:
                found[name] = slot.__get__(value)
            except AttributeError:
                continue
        kind = cast("type[object]", type(value))
        parts: tuple[object, ...] = (kind, *found.values(), *(held.parts if held else ()))
        extra = (*found, held.extra if held else None)
        if kind.__module__ != MAIN and not _covers(value, parts):
            return unknown(value)
        return Content(self, extra, parts)

    def put(self, value: Any, content: Content, /) -> bool:
        *names, extra = cast("tuple[str, ...]", content.extra)
        kind, parts = content.parts[0], content.parts[1:]
        wanted = dict(zip(names, parts, strict=False))
        if kind is not type(value):
            object.__setattr__(value, "__class__", kind)
        for name, slot in self._slots:
            if name in wanted:
                slot.__set__(value, wanted.pop(name))
            else:
                try:
                    slot.__delete__(value)
                except AttributeError:
                    continue
        self.put_attributes(value, wanted)
        if self._base is None or self._base.atom or self._base.inline:
            return True
        return self._base.put(value, Content(self._base, extra, parts[len(names) :]))


class Partly(Instance):
    """An object of which some attributes do not count: cached results, and counters that nobody can
    see."""

    def __init__(self, base: Kind | None, slots: Slots, hidden: frozenset[str]) -> None:
        super().__init__(base, slots)
        self._hidden = hidden

    def attributes(self, value: Any, /) -> dict[str, object]:
        fields = fields_of(value) or {}
        return {name: each for name, each in fields.items() if name not in self._hidden}

    def put_attributes(self, value: Any, wanted: dict[str, object], /) -> None:
        fields = fields_of(value)
        if fields is not None:
            for name in [each for each in fields if each not in self._hidden]:
                del fields[name]
            fields.update(wanted)


def _covers(value: object, parts: tuple[object, ...]) -> bool:
    """Nothing that the object refers to is left out."""
    fields = fields_of(value)
    known = {id(each) for each in (*parts, fields, type(value), *(fields or {}).values())}
    return all(id(each) in known for each in gc.get_referents(value))


Maker = Callable[[Kind | None, Slots], Instance]
"""Makes the kind of the objects of a class, from the kind of its base and its slots."""
Make = Callable[[type[Any], Maker], Kind]
"""Finds base and slots of a class written in Python, and has its kind made (`objects.instance`)."""
