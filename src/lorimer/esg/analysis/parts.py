"""Which parts of a value a step uses: one column of a frame, one key of a dict, its shape, one
attribute of an object.

A name that the code only uses as `frame["a"]`, `rows[3]` or `fitted.score`, with literal keys, is
*used in parts*: with other values whose parts are equal the step does the same. part_values.py
compares parts.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

_PLACES: Final = frozenset({"loc", "iloc", "at", "iat"})
_PRIVATE: Final = frozenset({"base", "obj"})
"""Attributes that lead from a part to the whole."""
_LOOKING: Final = frozenset({"getattr", "vars", "attrgetter", "gc", "inspect"})
_FOLLOWED: Final = re.compile(r"(?<!\w)([^\W\d]\w*+)\s*+[.\[]")
_LOADS: Final = frozenset(dis.opmap[name] for name in ("LOAD_NAME", "LOAD_GLOBAL"))


NO_KEY: Final = object()
"""No key: only an attribute."""


class Path(NamedTuple):
    """How the code gets to a part: `.attribute`, `[key]`, or `.loc[key]`."""

    attribute: str
    key: object
    text: str
    """As written; distinguishes paths."""

    def of(self, value: Any) -> Any:
        """The part of a value. Raises what the value's type raises."""
        if self.attribute:
            value = getattr(value, self.attribute)
        return value if self.key is NO_KEY else value[self.key]


Parts = Mapping[str, tuple[Path, ...]]
"""Name -> the parts of its value that the code uses, if it uses nothing else of it."""


class _NoLiteral(Exception):
    """The key is computed."""


def followed(source: str) -> set[str]:
    """The words in a text that are followed by `[` or `.`."""
    return {*_FOLLOWED.findall(source)}


def find(tree: ast.AST) -> Parts:
    """The names of which the code uses only parts."""
    uses: dict[str, int] = {}
    found: dict[str, list[Path]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if node.id in _LOOKING:
                return {}
            uses[node.id] = uses.get(node.id, 0) + 1
        elif isinstance(node, ast.Attribute):
            if _private(node.attr):
                return {}
            if isinstance(node.value, ast.Name) and node.attr not in _PLACES:
                _add(found, node, node.value, node.attr, None)
        elif isinstance(node, ast.Subscript):
            inner, place = node.value, ""
            if isinstance(inner, ast.Attribute) and inner.attr in _PLACES:
                inner, place = inner.value, inner.attr
            if isinstance(inner, ast.Name):
                _add(found, node, inner, place, node.slice)
    return {
        name: tuple({path.text: path for path in paths}.values())
        for name, paths in found.items()
        if len(paths) == uses[name]
    }


def _add(
    found: dict[str, list[Path]],
    node: ast.Attribute | ast.Subscript,
    name: ast.Name,
    attribute: str,
    key: ast.expr | None,
) -> None:
    if not isinstance(node.ctx, ast.Load):
        return
    with contextlib.suppress(_NoLiteral):
        value = NO_KEY if key is None else _literal(key)
        text = f"{attribute} {'' if key is None else ast.dump(key)}"
        found.setdefault(name.id, []).append(Path(attribute, value, text))


def _literal(node: ast.expr | None) -> Any:
    match node:
        case None:
            return None
        case ast.Constant():
            return node.value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Slice():
            return slice(_literal(node.lower), _literal(node.upper), _literal(node.step))
        case ast.Tuple():
            return tuple(_literal(each) for each in node.elts)
        case ast.List():
            return [_literal(each) for each in node.elts]
        case _:
            raise _NoLiteral


def leads_on(code: types.CodeType) -> bool:
    """Whether code that gets a part may get to the whole."""
    names = {name for each in all_of(code) for name in each.co_names}
    return not names.isdisjoint(_LOOKING) or any(map(_private, names))


def _private(name: str) -> bool:
    return name in _PRIVATE or (name.startswith("_") and not name.endswith("__"))


def loads(frame: types.FrameType) -> bool:
    """Whether a frame is just looking up a name."""
    code = frame.f_code.co_code
    return 0 <= frame.f_lasti < len(code) and code[frame.f_lasti] in _LOADS


def all_of(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code object and all that it defines."""
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from all_of(each)
