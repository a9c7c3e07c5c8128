"""Expressions of sympy: they cannot change, and are identified by what they are made of.

An expression caches what it was asked (its hash, `is_real`), and shares its parts with all others
(there is one `pi`). Compared by all that it holds, each would change by being looked at, and all of
them would be one connected object. sympy is not imported here.
"""

from __future__ import annotations

import types
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, cast

from lorimer.esg.values.content import ATOMS, MAIN, Content, Inline, Kind, Seen, home_of

_KEPT: Final = frozenset({"_mhash", "_assumptions"})
"""Caches of an expression."""
_NAME: Final = "name"
_Tuple = tuple[object, ...]
_Dict = dict[object, object]


class _Expression(Kind):
    inline = True

    def take(self, value: Any, /) -> Content:
        walk = _Walk(value)
        digest = blake2b("\n".join(walk.nodes).encode("utf-8", "surrogatepass"), digest_size=12)
        return Content(self, digest.hexdigest(), tuple(walk.leads))


def _of_function(value: Any) -> tuple[object, ...]:
    """The name of an undefined function, its assumptions, and, if it has one, the function that
    computes it."""
    held = cast("dict[str, object]", vars(value))
    assumed = cast("dict[str, object]", held.get("_kwargs") or {})
    computes = held.get("_imp_")
    computes = computes.__func__ if isinstance(computes, staticmethod) else computes
    return (
        value.__name__,
        *sorted(assumed),
        *(assumed[each] for each in sorted(assumed)),
        computes,
    )


FUNCTION: Final = Inline(_of_function)
_EXPRESSION: Final = _Expression()
_DOMAIN: Final = Seen(str)
_KINDS: Final[dict[tuple[str, str], Kind]] = {
    ("sympy.core.basic", "Basic"): _EXPRESSION,
    ("sympy.polys.domains.domain", "Domain"): _DOMAIN,
}


def kind_of(kind: type[Any]) -> Kind | None:
    """The kind of an expression's class, or of a domain of numbers; None for others."""
    for each in kind.__mro__:
        found = _KINDS.get((home_of(each), each.__name__))
        if found is not None:
            return found
    return None


def is_function(kind: type[Any]) -> bool:
    """A class that stands for an undefined function: `Function('f')`."""
    return type(kind).__name__ == "UndefinedFunction" and home_of(type(kind)).startswith("sympy.")


@lru_cache(maxsize=1024)
def _is_expression(kind: type[Any]) -> bool:
    return kind_of(kind) is _EXPRESSION


@lru_cache(maxsize=1024)
def _slots(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (name, slot)
        for each in kind.__mro__
        for name, slot in vars(each).items()
        if isinstance(slot, types.MemberDescriptorType) and name not in _KEPT
    )


class _Walk:
    """An expression as a list of nodes, each represented by its class, its slots and the numbers of
    its parts, which come before it. Equal nodes have one number, so it does not matter which of
    them are the same object."""

    def __init__(self, root: object) -> None:
        self.nodes: dict[str, int] = {}
        self.leads: list[object] = []
        """What it holds that is not an expression and may change: classes defined by a step, ..."""
        self._places: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._waiting = [root]  # handles deep ones
        while self._waiting:
            value = self._waiting[-1]
            text = self._told(value)
            if self._waiting[-1] is value:
                self._numbers[id(value)] = self.nodes.setdefault(text, len(self.nodes))
                self._waiting.pop()

    def _told(self, value: Any) -> str:
        """A node; incomplete if parts have to get their number first."""
        kind = cast("type[Any]", type(value))
        texts = [self._part(kind)]
        for name, slot in _slots(kind):
            try:
                held: object = slot.__get__(value)
            except AttributeError:
                continue
            texts.append(f"{name}={self._part(held)}")
            if name == _NAME:  # a symbol: its assumptions belong to it
                texts.append(self._part(getattr(value._assumptions, "_generator", None)))
        return "|".join(texts)

    def _part(self, value: object) -> str:
        kind = type(value)
        if kind in ATOMS:
            return repr(value)
        if kind is tuple or kind is list:
            return f"({','.join([self._part(each) for each in cast('_Tuple', value)])})"
        if kind is dict:
            return self._part([*cast("_Dict", value).items()])
        if _is_expression(kind):
            if id(value) not in self._numbers:
                self._waiting.append(value)
            return f"#{self._numbers.get(id(value))}"
        if isinstance(value, type) and home_of(value) not in (MAIN, ""):
            return f"{home_of(value)}.{value.__qualname__}"
        if home_of(kind) == "gmpy2":
            return repr(value)
        place = self._places.setdefault(id(value), len(self.leads))
        if place == len(self.leads):
            self.leads.append(value)
        return f"&{place}"
