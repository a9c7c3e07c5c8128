"""What steps keep in modules and in classes of libraries: `np.kept = a`, `mod.counter += 1`,
`sys.path.append(...)`.

An attribute that a step has set, or that it may change in place, is a *slot*: a name of the graph
(`module:numpy.kept`) whose versions are kept like those of other names. Before a step runs the
slots that it may read are what they were at its place. Which attributes those are, and which it may
set, its code tells (code_words.py); that it has set one is seen by looking at all modules and
classes before and after. One that the library has itself is read by every later step, for who
knows what the library does with it; one that a step has added to a module by who names it.
"""

from __future__ import annotations

import os
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from lorimer.esg.code_words import READS_ANY, words_of
from lorimer.esg.commit import Commit
from lorimer.esg.content import MAIN, fields_of
from lorimer.esg.loading import Loading
from lorimer.esg.objects import kind_of
from lorimer.esg.store import Lost, Region, VersionStore, Visit
from lorimer.esg.watching import watch

PREFIX: Final = "module:"
_CONTAINERS: Final = frozenset(
    {list, dict, set, bytearray, deque, defaultdict, Counter, OrderedDict}
)
_NOT_OURS: Final = frozenset(
    {"stdin", "stdout", "stderr", "modules", "path_importer_cache"}
    | {"last_exc", "last_type", "last_value", "last_traceback"}
)
"""Of `sys`: what the run of a step sets itself, or what cannot be set back as a whole."""
_REFERENCES: Final = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
_MOST: Final = 20_000
"""Values in a container that is looked into."""
_HEAP: Final = 1 << 9


class _Missing:
    """Stands for no attribute."""


MISSING: Final = _Missing()
_Had = dict[str, dict[int, object]]


@dataclass(slots=True, eq=False)
class Slot:
    """An attribute of a module or class; or, if the owner is `sys.modules`, an item."""

    name: str
    owner: object
    attribute: str
    everyone: bool
    """Every step counts as reading it."""
    written: bool = False

    def get(self) -> object:
        """What it holds, or MISSING."""
        return _fields(self.owner).get(self.attribute, MISSING)

    def put(self, value: object) -> None:
        """Let it hold this."""
        if isinstance(self.owner, type):
            if value is MISSING:
                type.__delattr__(self.owner, self.attribute)
            else:
                type.__setattr__(self.owner, self.attribute, value)
            return
        fields = cast("dict[str, object]", _fields(self.owner))
        if value is MISSING:
            del fields[self.attribute]
        else:
            fields[self.attribute] = value


class Attributes:
    """The slots of one session."""

    def __init__(self, store: VersionStore) -> None:
        self.store = store
        self.slots: dict[tuple[int, str], Slot] = {}

    def add(self, owner: object, attribute: str, before: object) -> tuple[Slot, set[str]]:
        """A new slot, which holds `before` before any step; and steps that have to run again
        because the objects of that are theirs no more."""
        home = _name(owner)
        names = {each.name for each in self.slots.values()}
        name = next(
            each
            for each in (f"{PREFIX}{home}.{attribute}{'~' * more}" for more in range(len(names) + 1))
            if each not in names
        )
        inherited = isinstance(owner, type) or owner is sys or owner is sys.modules
        everyone = before is not MISSING or inherited or attribute.startswith("_")
        slot = self.slots[id(owner), attribute] = Slot(name, owner, attribute, everyone)
        if before is MISSING:
            return slot, set()
        return slot, Commit(Visit(self.store, lambda _: ""), "").give(name, before)

    def first_written(self, names: Container[str]) -> bool:
        """Note which slots a step has set or changed in place; whether one of them is so for the
        first time."""
        new = [each for each in self.slots.values() if each.name in names and not each.written]
        for each in new:
            each.written = True
        return bool(new)


class Using:
    """What one run does with slots.

    `lend`: gives what a slot holds at the step's place, or MISSING. `earlier`: whether a step comes
    before it.
    """

    def __init__(
        self,
        session: Attributes,
        lend: Callable[[Slot], object],
        earlier: Callable[[str], bool],
    ) -> None:
        self._session = session
        self._lend = lend
        self._earlier = earlier
        self.lent: dict[Slot, object] = {}
        self.displaced: set[str] = set()
        self._names: set[str] = set()
        self._modules: dict[int, types.ModuleType] = {}
        self._owners: list[object] | None = None
        self._had: _Had = {}
        self._whole: dict[int, dict[str, object]] | None = None
        self._listed: dict[str, object] | None = None
        self._wanted: set[str] = set()
        self._loading = Loading(self._loaded)
        self._taken: set[Slot] = set()
        self._begun = False

    def _begin(self) -> None:
        """Before the step runs: what every step reads."""
        self._begun = True
        for slot in [*self._session.slots.values()]:
            if slot.everyone and (slot.written or _own(slot.owner)):
                self._take(slot)

    # ---------------------------------------------------------------- what it may do

    def sees(self, code: types.CodeType) -> None:
        """This code may run from now on."""
        if not self._begun:
            self._begin()
        words = words_of(code)
        new = words.names - self._names
        self._names |= new
        for slot in [*self._session.slots.values()]:
            if words.reads_any or slot.attribute in new:
                self._take(slot)
        for module in [*self._modules.values()]:
            self._look_into(module, new)
        self._imports(words.imports)
        if words.stored:
            self._note(words.stored)
        if words.stores_any:
            self._note_all()
        if "modules" in new and self._listed is None:
            self._listed = cast("dict[str, object]", {**sys.modules})

    def given(self, value: object) -> None:
        """The step has been lent this value."""
        if isinstance(value, types.ModuleType):
            self._see(value)
            return
        if type(value) is types.BuiltinFunctionType and value.__name__ in READS_ANY:
            for slot in [*self._session.slots.values()]:
                self._take(slot)
            self._note_all()
        kind = value if isinstance(value, _REFERENCES) else type(value)
        home = sys.modules.get(str(kind.__module__))
        if home is not None and _own(home):
            self._see(home)

    def reaches(self, regions: Iterable[Region]) -> None:
        """The step can reach these objects."""
        for region in regions:
            if region.functions is None:
                found = (each for each in region.objects if isinstance(each, types.FunctionType))
                region.functions = tuple(found)
            for each in region.functions:
                self.sees(each.__code__)

    def _imports(self, names: Iterable[str]) -> None:
        for name in names:
            module = sys.modules.get(name)
            if module is None:
                self._wanted.add(name)
                self._loading.begin()
            elif isinstance(cast("object", module), types.ModuleType):
                self._see(module)

    def _loaded(self, modules: list[types.ModuleType]) -> None:
        """These are new: nobody has changed them yet."""
        if self._owners is not None:
            known = {*map(id, self._owners)}
            new = [each for each in _owners() if id(each) not in known]
            self._owners += new
            for name, had in self._had.items():
                had |= _having(new, name)
            if self._whole is not None:
                self._whole |= {id(each): {**_fields(each)} for each in new}
        if self._listed is not None:
            self._listed = {**cast("dict[str, object]", sys.modules), **self._listed}
        for each in modules:
            if each.__name__ in self._wanted or _own(each):
                self._see(each)

    def _see(self, module: types.ModuleType) -> None:
        if id(module) not in self._modules:
            self._modules[id(module)] = module
            if self._owners is not None and not any(each is module for each in self._owners):
                self._owners = None  # it stands nowhere
                self._note_again()
            self._look_into(module, self._names)

    def _look_into(self, module: types.ModuleType, names: Iterable[str]) -> None:
        """Find what the step may change in place, or by calling what the module defines."""
        fields, own = _fields(module), _own(module)
        for name in [*fields] if own else [each for each in names if each in fields]:
            value = fields.get(name)
            if name.startswith("__") or (module is sys and name in _NOT_OURS):
                continue
            if isinstance(value, types.ModuleType):
                self._see(value)
            elif own and isinstance(value, type) and value.__module__ == module.__name__:
                for part, inside in [*_fields(value).items()]:
                    if not part.startswith("__") and _data(inside):
                        self._found(value, part, inside)
            elif (own and _data(value)) or (type(value) in _CONTAINERS and _plain(value)):
                self._found(module, name, value)

    def _found(self, owner: object, attribute: str, value: object) -> None:
        slot = self._session.slots.get((id(owner), attribute))
        if slot is None:
            slot, displaced = self._session.add(owner, attribute, value)
            self._displace(slot, displaced)
        self._take(slot)

    def _displace(self, slot: Slot, steps: set[str]) -> None:
        before = sorted(filter(self._earlier, steps))
        self.displaced |= steps
        if before:
            raise Lost(slot.name, before[0])

    def _take(self, slot: Slot) -> None:
        """Let it hold what it holds at the step's place."""
        if slot not in self._taken:
            self._taken.add(slot)
            value = self._lend(slot)
            if slot.get() is not value:
                slot.put(value)
            self.lent[slot] = value

    # ---------------------------------------------------------------- what it has done

    def _note(self, names: Iterable[str]) -> None:
        owners = self._all()
        for name in names:
            if name not in self._had:
                self._had[name] = _having(owners, name)

    def _note_all(self) -> None:
        if self._whole is None:
            self._whole = {id(each): {**_fields(each)} for each in self._all()}

    def _note_again(self) -> None:
        """With the modules that stand nowhere else."""
        known = self._all()
        for name, had in self._had.items():
            had |= {each: value for each, value in _having(known, name).items() if each not in had}

    def _all(self) -> list[object]:
        if self._owners is None:
            found = {id(each): each for each in (*_owners(), *self._modules.values())}
            self._owners = [*found.values()]
        return self._owners

    def end(self) -> dict[Slot, object]:
        """What the step has set: what the slots hold now."""
        self._loading.end()
        found = {slot: now for slot, was in self.lent.items() if (now := slot.get()) is not was}
        for owner, attribute, before in [*self._moved()]:
            slot = self._session.slots.get((id(owner), attribute))
            if slot in self.lent:
                continue
            now = _fields(owner).get(attribute, MISSING)
            if slot is None:
                slot, displaced = self._session.add(owner, attribute, before)
                self.lent[slot] = before
                self._displace(slot, displaced)
            self.lent[slot], found[slot] = before, now
        return found

    def undo(self) -> None:
        """Set back what the step has set."""
        self._loading.end()
        for slot, value in self.lent.items():
            if slot.get() is not value:
                slot.put(value)

    def _moved(self) -> Iterator[tuple[object, str, object]]:
        """(owner, attribute, what it was) for all that was set."""
        for owner in self._owners or ():
            fields, key = _fields(owner), id(owner)
            for name, had in self._had.items():
                before = had.get(key, MISSING)
                if fields.get(name, MISSING) is not before and not _settled(owner, name):
                    yield owner, name, before
            whole = None if self._whole is None else self._whole.get(key)
            for name in () if whole is None else fields.keys() | whole.keys():
                before = whole.get(name, MISSING) if whole else MISSING
                if fields.get(name, MISSING) is not before and not _unnamed(owner, name):
                    yield owner, name, before
        if self._listed is not None:
            now = cast("dict[str, object]", sys.modules)
            for name in now.keys() | self._listed.keys():
                before, value = self._listed.get(name, MISSING), now.get(name, MISSING)
                loaded = before is MISSING and getattr(value, "__spec__", None) is not None
                if value is not before and not loaded:
                    yield sys.modules, name, before


def _settled(owner: object, name: str) -> bool:
    """It is no doing of the step: a module has been loaded, the run itself has set it."""
    if owner is sys and name in _NOT_OURS:
        return True
    value = _fields(owner).get(name)
    home = f"{_name(owner)}.{name}"
    return isinstance(value, types.ModuleType) and sys.modules.get(home) is value


def _unnamed(owner: object, name: str) -> bool:
    """What libraries do for themselves all the time."""
    return name.startswith("_") or _name(owner).startswith("lorimer.") or _settled(owner, name)


def _having(owners: Iterable[object], name: str) -> dict[int, object]:
    return {id(each): fields[name] for each in owners if name in (fields := _fields(each))}


def _owners() -> list[object]:
    """All modules, and all classes that can be changed and that are no step's."""
    modules = [each for each in [*sys.modules.values()] if isinstance(each, types.ModuleType)]
    seen, waiting = set[type[Any]](), [object]
    while waiting:
        for each in type.__subclasses__(waiting.pop()):
            if each not in seen:
                seen.add(each)
                waiting.append(each)
    classes = [each for each in seen if each.__flags__ & _HEAP and each.__module__ != MAIN]
    return [*modules, *classes]


def _fields(owner: object) -> Mapping[str, object]:
    if isinstance(owner, type):
        return cast("Mapping[str, object]", type.__getattribute__(owner, "__dict__"))
    if owner is sys.modules:
        return cast("Mapping[str, object]", owner)
    return fields_of(owner) or {}


def _name(owner: object) -> str:
    if isinstance(owner, type):
        return f"{owner.__module__}.{owner.__qualname__}"
    return "sys.modules" if owner is sys.modules else str(_fields(owner).get("__name__", ""))


def _own(owner: object) -> bool:
    """A module, or a class of one, that is no library's: a file of the user's."""
    module = sys.modules.get(owner.__module__) if isinstance(owner, type) else owner
    if not isinstance(module, types.ModuleType):
        return False
    fields = _fields(module)
    file, name = fields.get("__file__"), str(fields.get("__name__", ""))
    if not isinstance(file, str) or name == MAIN or name.partition(".")[0] == "lorimer":
        return False
    return not watch().of_a_library(os.path.abspath(file))


def _data(value: object) -> bool:
    return not isinstance(value, _REFERENCES) and _plain(value)


def _plain(value: object) -> bool:
    """It can be looked into and set back, and is not too large."""
    seen, waiting = set[int](), [value]
    while waiting:
        each = waiting.pop()
        kind = kind_of(each)
        if kind.atom or id(each) in seen:
            continue
        seen.add(id(each))
        content = kind.take(each)
        if content.opaque or kind.lost(content) or len(seen) + len(waiting) > _MOST:
            return False
        waiting += content.parts
    return True
