"""Which attributes code names and stores, and whether it may store some without naming them."""

from __future__ import annotations

import dis
import re
import sys
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

from lorimer.esg.analysis.parts import all_of

STORES_ANY: Final = frozenset(
    {"setattr", "delattr", "vars", "__dict__", "__setattr__", "__delattr__", "reload"}
)
"""Code that uses one of these may set an attribute without naming it."""
READS_ANY: Final = STORES_ANY | {"getattr", "hasattr", "dir", "attrgetter", "getmembers"}
_HAVE_STORED: Final = frozenset(
    {"patch", "update_wrapper"}
    | {f"register_{kind}_accessor" for kind in ("dataframe", "series", "index")}
)
"""Code that uses one of these makes a library set an attribute."""
_OWN: Final = (sys.stdlib_module_names | {"numpy"}) - {"importlib", "pickle", "runpy", "shelve"}
"""Modules that by themselves load no other library."""
_BRINGS: Final = READS_ANY | {
    "__import__", "__loader__", "__subclasses__", "eval", "exec", "get_objects", "import_module",
    "load", "loads", "modules",
}  # fmt: skip
"""Words by which code may get at a library that it does not import."""
_STORES: Final = frozenset({"STORE_ATTR", "DELETE_ATTR"})
_TOLD: Final = frozenset(dis.opmap[name] for name in (*_STORES, "IMPORT_NAME"))
_WORD: Final = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a code object and everything it defines."""

    names: frozenset[str]
    """Names and attributes, and the words in its strings."""
    stored: frozenset[str]
    """Attributes that it sets or deletes."""
    imports: frozenset[str]
    """Modules that it imports."""
    reads_any: bool
    stores_any: bool
    brings: bool
    """Whether it may load a library other than the standard library or numpy."""


@lru_cache(maxsize=4096)
def words_of(code: types.CodeType) -> Words:
    """Read a code object."""
    names, stored, imports, star = set[str](), set[str](), set[str](), False
    for each in all_of(code):
        names.update(each.co_names)
        for constant in each.co_consts:
            star |= constant == ("*",)
            for text in _texts(constant):
                names.update(words_in(text))
        operations = {*each.co_code[::2]}
        if not _TOLD.isdisjoint(operations):
            for one in dis.get_instructions(each):
                if one.opname == "IMPORT_NAME":
                    imports.add(str(one.argval))
                elif one.opname in _STORES:
                    stored.add(str(one.argval))
    return Words(
        frozenset(names),
        frozenset(stored),
        frozenset(imports),
        star or not READS_ANY.isdisjoint(names),
        not (STORES_ANY | _HAVE_STORED).isdisjoint(names),
        not _BRINGS.isdisjoint(names) or any(_root(each) not in _OWN for each in imports),
    )


def words_in(text: str) -> list[str]:
    """The words in a text that may be names."""
    return _WORD.findall(text)


def _root(module: str) -> str:
    return module.partition(".")[0]


def _texts(constant: object) -> Iterator[str]:
    if isinstance(constant, str):
        yield constant
    elif isinstance(constant, tuple | frozenset):
        for each in cast("Iterable[object]", constant):
            yield from _texts(each)
