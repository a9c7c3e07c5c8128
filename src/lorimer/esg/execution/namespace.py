"""The globals of a step: empty at its start, filled by the first access to each name.

A dict subclass with `__missing__`: the first read of a name calls Python once, which logs the read
and supplies the value for the step's place; from then on the interpreter reads the dict at full
speed. One namespace serves all steps of a session, so functions made by one step find their globals
when a later step calls them, as they are at *that* step's place.

What the interpreter looks up without asking `__missing__` has to be supplied before: names in class
bodies, names that are deleted, everything for code that takes the whole namespace (`prepare`).
"""

from __future__ import annotations

import builtins
import dis
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from lorimer.esg.analysis.code_words import words_in, words_of
from lorimer.esg.analysis.parts import Parts, Path, all_of, loads
from lorimer.esg.execution.evaluating import TRACKED
from lorimer.esg.values.content import OfSteps
from lorimer.esg.values.part_kinds import fits

if TYPE_CHECKING:
    from _collections_abc import dict_items, dict_keys, dict_values

SEES_ALL: Final = frozenset({"globals", "locals", "vars", "dir", "exec", "eval"})
"""Code that calls one of these may look at the namespace as a whole."""
_Dict = dict[str, object]
_NAMES: Final = ("__builtins__", "__name__", "__warningregistry__")
_OPTIMIZED: Final = 0x1
"""`CO_OPTIMIZED`: a function. Class bodies and steps do not have it."""
_LOADS: Final = frozenset({"LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_DELETES: Final = frozenset({"DELETE_NAME", "DELETE_GLOBAL"})
_DELETES_ITEM: Final = frozenset({"DELETE_SUBSCR"})
_NO_NAME: Final = frozenset("#:()")
"""Used in the graph's own names: of parts of values, files, settings."""
_QUERIES: Final = "duckdb"
"""A library that looks up names in its texts (`select * from frame`) in the namespace by itself."""
_MOST_USES: Final = 100
"""After so many uses a name is stored in the namespace, and counts as used in whole."""
_DELETE_CODES: Final = frozenset(dis.opmap[name] for name in _DELETES)


class Missing(KeyError):
    """No earlier step makes the name. A step that catches or shows it finds a KeyError."""

    __module__ = "builtins"


Missing.__name__ = Missing.__qualname__ = KeyError.__name__


class TrackedNamespace(dict[str, object], OfSteps):
    """The globals of a session."""

    def __init__(self, name: str = "__main__") -> None:
        super().__init__()
        self._name = name
        self._lend: Callable[[str], object] = _nothing
        self._known: Callable[[], Iterable[str]] = tuple
        self.lent: dict[str, object] = {}
        """Name -> the value supplied to this step."""
        self.parts: dict[str, tuple[Path, ...]] = {}
        """For names of which the step's code uses parts, and which it has not used otherwise so
        far."""
        self._deletable = set[str]()
        self._codes: frozenset[int] = frozenset()
        self._uses = 0
        self._ordered = False
        self._queries = False
        self._sees: Callable[[types.CodeType], None] = _unseen

    def begin(
        self,
        lend: Callable[[str], object] | None = None,
        known: Callable[[], Iterable[str]] = tuple,
        sees: Callable[[types.CodeType], None] | None = None,
    ) -> None:
        """Empty it for a step; without arguments, so that no names exist.

        `lend` returns a name's value at the step's place, or raises Missing; `known` returns all
        names that it could supply; `sees` is called for code that may run.
        """
        _Dict.clear(self)
        _Dict.update(self, __builtins__=builtins, __name__=self._name)
        self.lent, self._lend, self._known = {}, lend or _nothing, known
        self.parts, self._codes, self._uses, self._ordered = {}, frozenset(), 0, False
        self._deletable = set[str]()
        self._queries = _QUERIES in sys.modules
        self._sees = sees or _unseen

    def lend_parts(self, parts: Parts, *codes: types.CodeType) -> None:
        """This code uses only parts of these names. They are not stored in the dict, so that each
        use is seen: a use by other code removes the name from `parts`."""
        self.parts = dict(parts)
        self._codes = frozenset(id(each) for code in codes for each in all_of(code))

    def check(self) -> None:
        """Raises TypeError for a key that is not a name and so cannot be in the graph."""
        for key in _Dict.keys(self):
            if not _is_name(key):
                raise TypeError(f"{key!r} cannot be kept in the namespace: it is no name")

    def end(self) -> dict[str, object]:
        """What the step left, except for what every namespace has and what is not a name. Supplies
        nothing from now on."""
        self._lend, self._known, self._sees = _nothing, tuple, _unseen
        for name in self.parts.keys() & self.lent.keys():
            if _Dict.setdefault(self, name, self.lent[name]) is not self.lent[name]:
                del self.parts[name]
        left = _Dict.items(self)
        return {name: value for name, value in left if name not in _NAMES and _is_name(name)}

    @property
    def deleted(self) -> set[str]:
        """Names that are missing and may have been deleted: names supplied or, before that,
        rebound."""
        gone = self._deletable | self.lent.keys()
        return {name for name in gone if _is_name(name) and not _Dict.__contains__(self, name)}

    def prepare(self, code: types.CodeType, *, whole: bool | None = None) -> None:
        """Supply what this code, and what it defines, looks up without asking.

        `whole`: whether it looks at the namespace as a whole, if known.
        """
        self._sees(code)
        if self._may_query(code):
            self.fetch(words_of(code).names)
        waiting = [code]
        while waiting:
            code = waiting.pop()
            waiting += [each for each in code.co_consts if isinstance(each, types.CodeType)]
            deletes = not SEES_ALL.isdisjoint(code.co_names) and _named(code, _DELETES_ITEM)
            if deletes or whole or (whole is None and _sees_all(code)):
                self.show_all()
                return
            if not code.co_flags & _OPTIMIZED and code.co_name != "<module>":  # a class body
                self.fetch(_named(code, _LOADS))
            if not _DELETE_CODES.isdisjoint(code.co_code[::2]):
                self._deletable.update(names := _named(code, _DELETES))
                self.fetch(names)

    def _may_query(self, code: types.CodeType) -> bool:
        self._queries = self._queries or _QUERIES in words_of(code).imports
        return self._queries

    def lend_for(self, code: types.CodeType, local: Mapping[str, object]) -> None:
        """Supply what an evaluated text looks up, apart from `local`."""
        if not SEES_ALL.isdisjoint(code.co_names):
            self._sees(code)
            self._all()
        else:
            self.fetch([name for name in _named(code, _LOADS) if name not in local])
            self.prepare(code)

    def show_all(self) -> None:
        """Supply every name: the step may do anything with any of them."""
        self._deletable.update(filter(super().__contains__, self._all()))

    def _all(self) -> list[str]:
        """Supply every name; the first time in their order, and before those that the step has
        bound."""
        known = [*self._known()]
        self.fetch(known)
        if not self._ordered:
            self._ordered = True
            order = [*_NAMES, *known, *_Dict.keys(self)]
            order = [name for name in dict.fromkeys(order) if _Dict.__contains__(self, name)]
            if order != [*_Dict.keys(self)]:
                for name in order:
                    _Dict.__setitem__(self, name, _Dict.pop(self, name))
        return known

    def fetch(self, names: Iterable[str]) -> None:
        """Supply those of these names that exist."""
        for name in list(names):
            if not _Dict.__contains__(self, name):
                try:
                    self.__missing__(name)
                except Missing:
                    continue

    def __missing__(self, name: str) -> object:
        if not _is_name(name):
            raise Missing(name)
        if name in self.parts:
            frame = inspect.currentframe()
            if not self._uses_a_part(frame and frame.f_back):
                del self.parts[name]
                if name in self.lent:
                    _Dict.__setitem__(self, name, self.lent[name])
            if name in self.lent:
                return self.lent[name]
        if name in self.lent:  # and the step has deleted it since
            raise Missing(name)
        try:
            value = self._lend(name)
        except Missing:
            if name in TRACKED:  # not stored: nobody is to see it there
                return TRACKED[name]
            raise
        self.lent[name] = value
        if name in self.parts and not fits(value, self.parts[name]):
            del self.parts[name]
        if name not in self.parts:
            _Dict.__setitem__(self, name, value)
        if self._queries and type(value) is str:
            self.fetch(words_in(value))
        return value

    def _uses_a_part(self, frame: types.FrameType | None) -> bool:
        """The step's own code is looking the name up, and not too often."""
        self._uses += 1
        if frame is None or id(frame.f_code) not in self._codes:
            return False
        return self._uses <= _MOST_USES and loads(frame)

    # The ways to look at a dict that bypass `__missing__`.

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str):
            self.fetch([name])
        return _Dict.__contains__(self, name)

    def get(self, name: str, default: object = None) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            return self[name]
        except KeyError:
            return default

    def keys(self) -> dict_keys[str, object]:
        self._all()
        return _Dict.keys(self)

    def values(self) -> dict_values[str, object]:
        self._all()
        return _Dict.values(self)

    def items(self) -> dict_items[str, object]:
        self._all()
        return _Dict.items(self)

    def pop(self, name: str, *default: object) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.fetch([name])
        self._deletable.add(name)
        return _Dict.pop(self, name, *default)

    def setdefault(self, name: str, default: object = None) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.fetch([name])
        return _Dict.setdefault(self, name, default)

    def __bool__(self) -> bool:
        return True  # `__builtins__` exists; counting the names would count as seeing them

    def copy(self) -> TrackedNamespace:
        """For `DataFrame.query`: the copy is asked for names like the namespace itself."""
        twin = TrackedNamespace(self._name)
        _Dict.update(twin, _Dict.items(self))
        twin._lend, twin._known = self.__getitem__, self._known
        return twin

    def __iter__(self) -> Iterator[str]:
        self._all()
        return _Dict.__iter__(self)

    def __reversed__(self) -> Iterator[str]:
        self._all()
        return _Dict.__reversed__(self)

    def __repr__(self) -> str:
        self._all()
        return _Dict.__repr__(self)

    def __len__(self) -> int:
        self._all()
        return _Dict.__len__(self)


def _is_name(key: object) -> bool:
    """Whether a value can be kept under this key; code that has the namespace may use any
    object."""
    return isinstance(key, str) and (key.isidentifier() or _NO_NAME.isdisjoint(key))


def _sees_all(code: types.CodeType) -> bool:
    """Whether it may look at the namespace as a whole. `eval` and `exec` called by name do not
    count."""
    names = SEES_ALL.intersection(code.co_names)
    if not names or not names <= TRACKED.keys() or not code.co_flags & _OPTIMIZED:
        return bool(names)
    found = dis.get_instructions(code)
    return any(each.argval in names and each.opname != "LOAD_GLOBAL" for each in found)


def _named(code: types.CodeType, operations: frozenset[str]) -> list[str]:
    """The names that these operations of a code object use."""
    found = dis.get_instructions(code)
    return [str(each.argval) for each in found if each.opname in operations]


def _unseen(_code: types.CodeType) -> None:
    return


def _nothing(name: str) -> object:
    raise Missing(name)
