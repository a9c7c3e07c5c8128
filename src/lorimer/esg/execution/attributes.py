"""What steps store in modules and in classes of libraries: `np.kept = a`, `mod.counter += 1`,
`sys.path.append(...)`.

An attribute that a step has set, or may change in place, is a *slot*: a name of the graph
(`module:numpy.kept`) whose versions are kept like those of other names. Before a step runs, the
slots that it may read are restored to their state at its place. Its code tells which attributes
these are and which it may set (code_words.py); whether it has set one is found by comparing all
modules and classes before and after. A slot of the library itself is read by every later step,
since the library may do anything with it; one that a step added to a module is read by the steps
that name it.
"""

from __future__ import annotations

import dis
import sys
import types
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from weakref import ProxyTypes

from lorimer.esg.analysis.code_words import READS_ANY, words_of
from lorimer.esg.execution.commit import Commit
from lorimer.esg.execution.loading import Loading
from lorimer.esg.execution.owners import (
    MISSING,
    NOT_OURS,
    Known,
    Owners,
    fields,
    is_own,
    name_of,
    put,
)
from lorimer.esg.values.objects import kind_of
from lorimer.esg.values.store import Lost, VersionStore, Visit

PREFIX: Final = "module:"
_CONTAINERS: Final = frozenset(
    {list, dict, set, bytearray, deque, defaultdict, Counter, OrderedDict}
)
_REFERENCES: Final = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
_OF_WARNINGS: Final = frozenset(
    {"filterwarnings", "simplefilter", "resetwarnings", "catch_warnings", "filters"}
)
"""Code that uses one of these names may change which warnings are shown."""
_BY_CALLS: Final[Mapping[str, frozenset[str]]] = {"copyreg": frozenset({"dispatch_table"})}
"""Module -> attributes that its functions change without the caller naming them."""
_STORES_CELL: Final = dis.opmap["STORE_DEREF"]
_MOST: Final = 20_000
"""Containers with more values are not inspected."""


@dataclass(slots=True, eq=False)
class Slot:
    """An attribute of a module, class or function; if the owner is `sys.modules`, an item."""

    name: str
    owner: object
    attribute: str
    everyone: bool
    """Every step counts as reading it."""
    written: bool = False

    def get(self) -> object:
        """Its present value, or MISSING."""
        return fields(self.owner).get(self.attribute, MISSING)

    def put(self, value: object) -> None:
        """Set its value."""
        put(self.owner, self.attribute, value)


class Attributes:
    """The slots of one session."""

    def __init__(self, store: VersionStore) -> None:
        self.store = store
        self.slots: dict[tuple[int, str], Slot] = {}
        self.known = Known()

    def add(self, owner: object, attribute: str, before: object) -> tuple[Slot, set[str]]:
        """A new slot, which holds `before` before any step; and the steps that have to run again
        because they no longer own the objects in it."""
        names = {each.name for each in self.slots.values()}
        name = f"{PREFIX}{name_of(owner)}.{attribute}"
        while name in names:  # two modules with the same name
            name += "~"
        inherited = isinstance(owner, type) or owner is sys or owner is sys.modules
        everyone = before is not MISSING or inherited or attribute.startswith("_")
        slot = self.slots[id(owner), attribute] = Slot(name, owner, attribute, everyone)
        if before is MISSING:
            return slot, set()
        return slot, Commit(Visit(self.store, lambda _: ""), "").give(name, before)

    def forget(self, modules: Iterable[types.ModuleType]) -> None:
        """These modules are about to be reloaded."""
        gone, names = {*map(id, modules)}, {name_of(each) for each in modules}
        for key, slot in [*self.slots.items()]:
            of = isinstance(slot.owner, type | types.FunctionType)
            home = str(slot.owner.__module__) if of else ""
            loads = slot.owner is sys.modules and slot.attribute in names
            if id(slot.owner) in gone or home in names or loads:
                del self.slots[key]

    def first_written(self, names: Container[str]) -> bool:
        """Note which slots a step has set or changed in place. Returns whether one of them is so
        for the first time."""
        new = [each for each in self.slots.values() if each.name in names and not each.written]
        for each in new:
            each.written = True
        return bool(new)


class Using:
    """What one run does with slots.

    `lend`: returns what a slot holds at the step's place, or MISSING. `earlier`: whether a step
    comes before this one.
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
        self.imported = set[str]()
        """Modules imported by its code."""
        self.spoken = set[str]()
        """Identifiers in code that it may run."""
        self.brings = False
        """It may have loaded a library in this session."""
        self._names: set[str] = set()
        self._modules: dict[int, types.ModuleType] = {}
        self._owners = Owners(session.known)
        self._wanted: set[str] = set()
        self._loading = Loading(self._loaded)
        self._taken: set[Slot] = set()
        self._begun = False

    def _begin(self) -> None:
        """Before the step runs: restore what every step reads."""
        self._begun = True
        for slot in [*self._session.slots.values()]:
            if slot.everyone and (slot.written or is_own(slot.owner)):
                self._take(slot)

    # ---------------------------------------------------------------- what it may do

    def sees(self, code: types.CodeType) -> None:
        """This code may run from now on."""
        if not self._begun:
            self._begin()
        words = words_of(code)
        self.brings |= words.brings
        new = words.names - self._names
        self._names |= new
        self.spoken |= new
        for slot in [*self._session.slots.values()]:
            if words.reads_any or slot.attribute in new:
                self._take(slot)
        for module in [*self._modules.values()]:
            self._look_into(module, new)
        self._imports(words.imports)
        if not _OF_WARNINGS.isdisjoint(new):
            self._found(warnings, "filters", warnings.filters)
        if words.stored:
            self._owners.note(words.stored)
        if words.stores_any:
            self._owners.note_all()
        if "modules" in new:
            self._owners.note_modules()

    def given(self, value: object) -> None:
        """The step has been supplied with this value."""
        if type(value) in ProxyTypes:  # it stands for another object, or for one that is gone
            return
        if isinstance(value, types.ModuleType):
            self._see(value)
            return
        if type(value) is types.BuiltinFunctionType and value.__name__ in READS_ANY:
            for slot in [*self._session.slots.values()]:
                self._take(slot)
            self._owners.note_all()
        kind = value if isinstance(value, _REFERENCES) else type(value)
        home = sys.modules.get(str(kind.__module__))
        if home is not None and (is_own(home) or kind.__module__ in _BY_CALLS):
            self._see(home)

    def _imports(self, names: Iterable[str]) -> None:
        for name in names:
            self.imported.add(name)
            module = sys.modules.get(name)
            if module is None:
                self._wanted.add(name)
                self._loading.begin()
            elif isinstance(cast("object", module), types.ModuleType):
                self._see(module)

    def _loaded(self, modules: list[types.ModuleType]) -> None:
        """These modules are new: nobody has changed them yet."""
        self._owners.loaded()
        for each in modules:
            if each.__name__ in self._wanted or is_own(each):
                self._see(each)

    def _see(self, module: types.ModuleType) -> None:
        if id(module) not in self._modules:
            self._modules[id(module)] = module
            if sys.modules.get(module.__name__) is not module:
                self._owners.stands_alone(module)
            self._look_into(module, self._names)

    def _look_into(self, module: types.ModuleType, names: Iterable[str]) -> None:
        """Find what the step may change in place, or by calling functions of the module."""
        held, own = fields(module), is_own(module)
        names = {*names, *_BY_CALLS.get(module.__name__, ())}
        for name in [*held] if own else [each for each in names if each in held]:
            value = held.get(name)
            if name.startswith("__") or (module is sys and name in NOT_OURS):
                continue
            if isinstance(value, types.ModuleType):
                self._see(value)
            elif not own:  # its functions change only what a step passes to them
                if type(value) in _CONTAINERS and _plain(value):
                    self._found(module, name, value)
            elif isinstance(value, types.FunctionType):
                self._function(value, module)
            elif isinstance(value, type) and value.__module__ == module.__name__:
                self._class(value, module)
            elif _data(value):
                self._found(module, name, value)

    def _class(self, kind: type[Any], module: types.ModuleType) -> None:
        """Find what a class of a module, or a method of it, keeps."""
        for name, value in [*fields(kind).items()]:
            if isinstance(value, types.FunctionType):
                self._function(value, module)
            elif not name.startswith("__") and _data(value):
                self._found(kind, name, value)

    def _function(self, function: types.FunctionType, module: types.ModuleType) -> None:
        """Find what a function of a module keeps: mutable defaults, attributes, variables of
        enclosing functions."""
        if function.__globals__ is not fields(module):
            return
        self.spoken |= words_of(function.__code__).names
        for part, value in fields(function).items():
            cells = part == "__closure__" and _STORES_CELL in function.__code__.co_code[::2]
            if value and (cells or _changes(value)) and _plain(value):
                self._found(function, part, value)

    def _found(self, owner: object, attribute: str, value: object) -> None:
        slot = self._session.slots.get((id(owner), attribute))
        if slot is None:
            if self._owners.was_set(owner, attribute):  # by this step: `end` finds it
                return
            slot, displaced = self._session.add(owner, attribute, value)
            self._displace(slot, displaced)
        self._take(slot)

    def _displace(self, slot: Slot, steps: set[str]) -> None:
        before = sorted(filter(self._earlier, steps))
        self.displaced |= steps
        if before:
            raise Lost(slot.name, before[0])

    def _take(self, slot: Slot) -> None:
        """Restore the slot to its state at the step's place."""
        if slot not in self._taken:
            self._taken.add(slot)
            value = self._lend(slot)
            if slot.get() is not value:
                slot.put(value)
            self.lent[slot] = value

    # ---------------------------------------------------------------- what it has done

    def end(self) -> dict[Slot, object]:
        """The slots that the step has set, with their present values."""
        self._loading.end()
        found = {slot: now for slot, was in self.lent.items() if (now := slot.get()) is not was}
        for owner, attribute, before in [*self._owners.moved()]:
            slot = self._session.slots.get((id(owner), attribute))
            if slot in self.lent:
                continue
            now = fields(owner).get(attribute, MISSING)
            if slot is None:
                slot, displaced = self._session.add(owner, attribute, before)
                self.lent[slot] = before
                self._displace(slot, displaced)
            self.lent[slot], found[slot] = before, now
        return found

    def undo(self) -> None:
        """Undo what the step has set."""
        self._loading.end()
        for owner, attribute, before in [*self._owners.moved()]:
            put(owner, attribute, before)
        for slot, value in self.lent.items():
            if slot.get() is not value:
                slot.put(value)


def _data(value: object) -> bool:
    return not isinstance(value, _REFERENCES) and _plain(value)


def _changes(value: object) -> bool:
    """It, or something in it, can be changed in place, cells aside."""
    kind = kind_of(value)
    if kind.inline or isinstance(value, types.CellType):
        return any(map(_changes, kind.take(value).parts))
    return not kind.atom


def _plain(value: object) -> bool:
    """It can be inspected and restored, and is not too large."""
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
