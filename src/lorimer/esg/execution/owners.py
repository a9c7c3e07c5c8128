"""The owners of attributes that steps can set (all modules and the classes of libraries), and which
attributes were set.

There may be many thousands of owners, and for every step that sets an attribute all are checked,
before and after. So loops over all of them run in C, and none calls `id`, which audit hooks are
notified of.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, compress, repeat
from operator import contains, is_, itemgetter
from typing import Any, Final, cast

from lorimer.esg.resources.watching import watch
from lorimer.esg.values.content import MAIN, alike, fields_of

NOT_OURS: Final = frozenset(
    {"stdin", "stdout", "stderr", "modules", "path_importer_cache"}
    | {"last_exc", "last_type", "last_value", "last_traceback"}
)
"""In `sys`: what the run of a step sets itself, or what cannot be restored as a whole."""
_KEEPS: Final = ("__defaults__", "__kwdefaults__", "__closure__", "__dict__")
"""Where a function keeps its state."""
_HEAP: Final = 1 << 9
_PART: Final = 256
"""Owners whose attributes fit in a cache of the processor."""
Fields = dict[str, object] | types.MappingProxyType[str, object]
_Owner = tuple[object, Fields]
_held_by = itemgetter(1)


class Missing:
    """Stands for a missing attribute."""


MISSING: Final = Missing()


class Owners:
    """The attributes of owners at the start of one run."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._every: list[_Owner] | None = None
        self._alone: list[object] = []
        self._had: dict[str, dict[int, object]] = {}
        """Attribute -> id of the owner -> its value."""
        self._whole: list[Fields] | None = None
        """The values of each of `_every`."""
        self._places: dict[int, int] | None = None
        """id of an owner -> its index in `_every`."""
        self._listed: dict[str, object] | None = None

    def stands_alone(self, module: types.ModuleType) -> None:
        """A module that is not in `sys.modules`."""
        self._alone.append(module)
        self.loaded()

    def loaded(self) -> None:
        """More owners exist now: they are as their code has made them."""
        if self._every is not None:
            known = {id(owner) for owner, _ in self._every}
            new = [each for each in self._now() if id(each[0]) not in known]
            self._every += new
            self._places = None
            for name, more in _having(new, self._had).items():
                self._had[name] |= more
            if self._whole is not None:
                self._whole += [held.copy() for _, held in new]
        if self._listed is not None:
            self._listed = {**_listed(), **self._listed}

    def note(self, names: Iterable[str]) -> None:
        """These attributes may be set from now on."""
        new = [name for name in names if name not in self._had]
        if new:
            self._had |= _having(self._all(), new)

    def note_all(self) -> None:
        """Any attribute may be set."""
        if self._whole is None:
            self._whole = [held.copy() for _, held in self._all()]

    def note_modules(self) -> None:
        """Items of `sys.modules` may be set."""
        if self._listed is None:
            self._listed = {**_listed()}

    def was_set(self, owner: object, name: str) -> bool:
        """Whether this attribute has been set since it was noted."""
        now = fields(owner).get(name, MISSING)
        if name in self._had and self._had[name].get(id(owner), MISSING) is not now:
            return True
        whole = self._whole_of(owner)
        return whole is not None and whole.get(name, MISSING) is not now

    def _whole_of(self, owner: object) -> Fields | None:
        if self._whole is None:
            return None
        if self._places is None:
            self._places = {id(each): at for at, (each, _) in enumerate(self._all())}
        place = self._places.get(id(owner))
        return None if place is None else self._whole[place]

    def moved(self) -> Iterator[tuple[object, str, object]]:
        """(owner, attribute, earlier value) for everything that was set."""
        every = self._every or []
        having = _having(every, self._had)
        for name, had in self._had.items():
            if not _alike(had, having[name]):
                for owner, held in every:
                    before = had.get(id(owner), MISSING)
                    if held.get(name, MISSING) is not before and not _settled(owner, name):
                        yield owner, name, before
        for (owner, held), whole in zip(every, self._whole or (), strict=False):
            if not _alike(whole, held):
                for name, before in _other(whole, held):
                    if not _unnamed(owner, name):
                        yield owner, name, before
        if self._listed is not None:
            for name, before in _other(self._listed, _listed()):
                loaded = getattr(_listed().get(name), "__spec__", None) is not None
                if before is not MISSING or not loaded:
                    yield sys.modules, name, before

    def _all(self) -> list[_Owner]:
        if self._every is None:
            self._every = self._now()
        return self._every

    def _now(self) -> list[_Owner]:
        alone = [(each, fields(each)) for each in self._alone]
        return [*self._known.now(), *alone]


class Known:
    """All modules, and all classes that can be changed and do not belong to steps. One per
    session."""

    def __init__(self) -> None:
        self._listed: list[object] = []
        self._modules: list[_Owner] = []
        self._seen: dict[int, type[Any]] = {}
        self._classes: dict[int, tuple[type[Any], Fields]] = {}

    def now(self) -> list[_Owner]:
        """The present owners."""
        listed = [*_listed().values()]
        if not alike(listed, self._listed):
            self._listed = listed
            every = {id(each): each for each in listed}.values()
            modules = (each for each in every if isinstance(each, types.ModuleType))
            self._modules = [(each, fields(each)) for each in modules]
        seen = _all_classes()
        if seen.keys() != self._seen.keys():
            for place in self._classes.keys() - seen.keys():
                del self._classes[place]
            for place in seen.keys() - self._seen.keys():
                kind = seen[place]
                if kind.__flags__ & _HEAP and kind.__module__ != MAIN:
                    self._classes[place] = kind, fields(kind)
            self._seen = seen
        return [*self._modules, *self._classes.values()]


def _all_classes() -> dict[int, type[Any]]:
    """By their addresses: a metaclass may make its classes unhashable, or equal to others."""
    found: dict[int, type[Any]] = {}
    below: Collection[type[Any]] = [object]
    while below:
        listed: list[type[Any]] = [*chain.from_iterable(map(type.__subclasses__, below))]
        new: dict[int, type[Any]] = dict(zip(map(object.__hash__, listed), listed, strict=True))
        for place in new.keys() & found.keys():
            del new[place]
        found |= new
        below = new.values()
    return found


def fields(owner: object) -> Fields:
    """Its attributes; for `sys.modules` its items; for a function its state."""
    if isinstance(owner, types.FunctionType):
        return {name: getattr(owner, name) for name in _KEEPS}
    if isinstance(owner, type):
        return cast("Fields", type.__getattribute__(owner, "__dict__"))
    return _listed() if owner is sys.modules else fields_of(owner) or {}


def put(owner: object, attribute: str, value: object) -> None:
    """Set an attribute; MISSING: remove it."""
    if isinstance(owner, type):
        if value is MISSING:
            type.__delattr__(owner, attribute)
        else:
            type.__setattr__(owner, attribute, value)
        return
    if isinstance(owner, types.FunctionType):
        if getattr(owner, attribute) is not value:
            setattr(owner, attribute, value)
        return
    held = cast("dict[str, object]", fields(owner))
    if value is MISSING:
        del held[attribute]
    else:
        held[attribute] = value


def name_of(owner: object) -> str:
    """Its name in the names of the graph."""
    if isinstance(owner, type | types.FunctionType):
        return f"{owner.__module__}.{owner.__qualname__}"
    return "sys.modules" if owner is sys.modules else str(fields(owner).get("__name__", ""))


def is_own(owner: object) -> bool:
    """Whether it is a module, or a class of one, that belongs to the user and not to a library."""
    of = isinstance(owner, type | types.FunctionType)
    module = _listed().get(str(owner.__module__)) if of else owner
    if not isinstance(module, types.ModuleType):
        return False
    file, name = fields(module).get("__file__"), name_of(module)
    if not isinstance(file, str) or name == MAIN or name.partition(".")[0] == "lorimer":
        return False
    return not watch().of_a_library(os.path.abspath(file))


def _listed() -> dict[str, object]:
    return cast("dict[str, object]", sys.modules)


def _having(owners: Sequence[_Owner], names: Collection[str]) -> dict[str, dict[int, object]]:
    """Attribute -> id of each owner that has it -> its value. Fetching thousands of owners from
    memory takes longer than searching them: of each part all names are searched at once."""
    found: dict[str, dict[int, object]] = {name: {} for name in names}
    for begin in range(0, len(owners), _PART) if names else ():
        part = owners[begin : begin + _PART]
        fields_of_each = [*map(_held_by, part)]
        for name, having in found.items():
            for owner, held in compress(part, map(contains, fields_of_each, repeat(name))):
                having[id(owner)] = held[name]
    return found


def _alike(one: Mapping[Any, object], other: Mapping[Any, object]) -> bool:
    """The same keys, and the same values by identity, in the same order."""
    return [*one] == [*other] and all(map(is_, one.values(), other.values()))


def _other(before: Fields, now: Fields) -> Iterator[tuple[str, object]]:
    """(name, earlier value) for everything that differs now."""
    for name in before.keys() | now.keys():
        if now.get(name, MISSING) is not before.get(name, MISSING):
            yield name, before.get(name, MISSING)


def _settled(owner: object, name: str) -> bool:
    """Not set by the step: a module was loaded, or the run itself set it."""
    if owner is sys and name in NOT_OURS:
        return True
    value = fields(owner).get(name)
    home = f"{name_of(owner)}.{name}"
    return isinstance(value, types.ModuleType) and sys.modules.get(home) is value


def _unnamed(owner: object, name: str) -> bool:
    """What libraries do by themselves all the time."""
    return name.startswith("_") or name_of(owner).startswith("lorimer.") or _settled(owner, name)
