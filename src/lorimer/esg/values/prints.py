"""Fingerprints of a value, and of what the objects of a region hold.

An object is represented by the name of its region and its index there, so equal fingerprints mean
equal values made of the same objects; what cannot change is represented by its value.
"""

from __future__ import annotations

import marshal  # noqa: TID251 - only to compare: nothing is ever loaded
import types
from collections.abc import Callable
from hashlib import blake2b
from itertools import count
from typing import TYPE_CHECKING, Any, Final, cast

from lorimer.esg.values.columnar import Columns
from lorimer.esg.values.content import ATOMS, Content, Opaque
from lorimer.esg.values.objects import kind_of
from lorimer.esg.values.quick import Data

if TYPE_CHECKING:
    from lorimer.esg.values.store import Region

_MANY: Final = 16
"""From this many elements on it pays to look at their types first."""
_FUNCTIONS: Final = (types.FunctionType, types.BuiltinFunctionType)
_OF_CYTHON: Final = "cython_function_or_method"
"""Functions of numpy."""
Owner = Callable[[object], "tuple[Region, int] | None"]


class Printer:
    """Makes one fingerprint. `owner` returns the region of an object, and its index there."""

    def __init__(self, owner: Owner, tokens: count[int], own: Region | None = None) -> None:
        self._hash = blake2b(digest_size=12)
        self._owner = owner
        self._own = own
        self._tokens = tokens
        self.refs: dict[Region, None] = {}
        """The other regions whose objects were met."""
        self.spoken = set[str]()
        """Names of functions that were met; and names that these use, unless an object holds them:
        figures hold many."""
        self.late = False
        """Something that is determined late (`content.Late`) was met: it is not in the
        fingerprint."""

    def text(self) -> str:
        """The fingerprint of everything that was added."""
        return self._hash.hexdigest()

    def content(self, content: Content) -> None:
        """Add what an object holds."""
        self._put(type(content.kind).__name__)
        self._extra(content.extra)
        self.parts(content.parts, ordered=not content.kind.unordered)

    def value(self, value: object) -> None:
        """Add a value."""
        kind = kind_of(value)
        if type(value) in _FUNCTIONS or type(value).__name__ == _OF_CYTHON:
            self.spoken.update(self._spoken(value))
        if not (kind.atom or kind.inline):
            owner = self._owner(value)
            if owner is None:
                self._put(f"gone {next(self._tokens)}")
            elif owner[0] is self._own:
                self._put(f"^{owner[1]}")
            else:
                self.refs[owner[0]] = None
                self._put(f"&{owner[0].name}:{owner[1]}")
            return
        content = kind.take(value)
        self._put(type(value).__name__)
        self._extra(content.extra)
        self.parts(content.parts, ordered=type(value) is not frozenset)

    def _spoken(self, function: Any) -> tuple[str, ...]:
        code: object = None if self._own else getattr(function, "__code__", None)
        return (function.__name__, *(code.co_names if isinstance(code, types.CodeType) else ()))

    def parts(self, parts: tuple[object, ...], *, ordered: bool) -> None:
        self._put(str(len(parts)))
        if not ordered:
            for each in sorted(self._apart(part) for part in parts):
                self._put(each)
        elif len(parts) > _MANY and ATOMS.issuperset(map(type, parts)):
            atoms: Any = parts
            self._hash.update(marshal.dumps(atoms, 2))  # this version writes equal values alike
        else:
            for each in parts:
                self.value(each)

    def _apart(self, value: object) -> str:
        outer, self._hash = self._hash, blake2b(digest_size=12)
        self.value(value)
        inner, self._hash = self._hash, outer
        return inner.hexdigest()

    def _extra(self, extra: object) -> None:
        if isinstance(extra, tuple):
            inside = cast("tuple[object, ...]", extra)
            if ATOMS.issuperset(map(type, inside)):
                self._put("(", *map(repr, inside), ")")
                return
            self._put("(")
            for each in inside:
                self._extra(each)
            self._put(")")
        elif isinstance(extra, type):
            self._put(f"{extra.__module__}.{extra.__qualname__}")
        elif isinstance(extra, types.CodeType):
            self._code(extra)
        elif isinstance(extra, Opaque):
            self._put(f"opaque {next(self._tokens)}")
        elif isinstance(extra, Data):
            if extra.late:
                self.late = True
            else:
                self._hash.update(extra.digest)
        elif isinstance(extra, Columns):
            self.late = True
        elif extra is None or type(extra) in ATOMS:
            self._put(repr(extra))

    def _code(self, code: types.CodeType) -> None:
        self._put("code", code.co_name, *code.co_names, *code.co_varnames, *code.co_freevars)
        self._hash.update(code.co_code)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant)
            else:
                self.value(constant)

    def _put(self, *texts: str) -> None:
        self._hash.update("\x1f".join(texts).encode("utf-8", "surrogatepass"))
        self._hash.update(b"\x1e")
