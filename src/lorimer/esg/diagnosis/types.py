"""Operands that do not go together: their values, their makers, and the conversion that helps."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from lorimer.esg.diagnosis.case import Case
from lorimer.esg.diagnosis.report import Finding
from lorimer.esg.diagnosis.rule import rule
from lorimer.esg.diagnosis.texts import StepText, bound
from lorimer.esg.diagnosis.values import UNKNOWN, elements, first, of_kind, size_of
from lorimer.esg.patching.patches import Edit

_NUMBER: Final = re.compile(r"[-+]?(\d+)?(\.\d+)?([eE][-+]?\d+)?")
_MIXED: Final = re.compile(
    r"unsupported operand|can only concatenate|not supported between instances|"
    r"can't multiply sequence|must be str, not|bad operand type|could not convert string"
)
_SHOWN: Final = 40
"""Characters of a value in a message."""


@rule(TypeError)
def operands(case: Case) -> Iterator[Finding]:
    """A number that is a string, or a string to be joined to a number."""
    if not _MIXED.search(case.message) or "NoneType" in case.message:
        return
    if "coroutine" in case.message:
        return
    site = case.site
    pair = _pair(case)
    if pair is None:
        yield from _folded(case)
        return
    left, right = pair
    worth = [case.value(left), case.value(right)]
    if all(each is UNKNOWN for each in worth):
        yield Finding("type_mismatch", _told(case, pair), site.text.step, (), 0.6)
        return
    texts = [
        isinstance(each, str) or _is_written(node) for node, each in zip(pair, worth, strict=True)
    ]
    step = _evidence(case, pair)
    edits: tuple[Edit, ...] = ()
    if texts.count(True) == 1:
        text, other = (left, right) if texts[0] else (right, left)
        value = case.value(text)
        number = as_number(value)
        arithmetic = not isinstance(getattr(site.node, "op", None), ast.Add)
        if number and (arithmetic or not _is_written(text)):
            edits = site.text.around(text, f"{number}(", ")")
        elif not arithmetic and not isinstance(case.value(other), list | dict | tuple):
            edits = site.text.around(other, "str(", ")")
    yield Finding("type_mismatch", _told(case, pair), step, edits, 0.85)


def _pair(case: Case) -> tuple[ast.expr, ast.expr] | None:
    node = case.site.node
    nodes = [node] if node is not None else case.site.text.in_line(case.site.line)
    for each in nodes:
        match each:
            case ast.BinOp(left=left, right=right):
                return left, right
            case ast.AugAssign(target=target, value=value):
                return target, value
            case ast.Compare(left=left, comparators=[right]):
                return left, right
            case _:
                continue
    return None


def _is_written(node: ast.expr) -> bool:
    """A string literal, or something that begins with one: it is put together for display."""
    match node:
        case ast.JoinedStr() | ast.Constant(value=str()):
            return True
        case ast.BinOp(left=left, right=right, op=ast.Add()):
            return _is_written(left) or _is_written(right)
        case _:
            return False


def as_number(value: object) -> str:
    """`int` or `float` if a string is a number; otherwise empty."""
    if not isinstance(value, str):
        return ""
    found = _NUMBER.fullmatch(value.strip())
    if found is None or not (found[1] or found[2]):
        return ""
    return "float" if found[2] or found[3] else "int"


def _told(case: Case, pair: tuple[ast.expr, ...]) -> str:
    """Each operand with its value and the step that made it."""
    parts = list[str]()
    for node in pair:
        value = case.value(node)
        name, text = case.evidence(node)
        of = f" of {text.step}" if name and text.step != case.site.text.step else ""
        what = case.site.text.of(node)
        if isinstance(node, ast.Constant):
            parts.append(f"{_short(value)} is {of_kind(value)}")
        elif value is UNKNOWN:
            parts.append(f"{what}{of} is of another type")
        else:
            parts.append(f"{what}{of} is {of_kind(value)} ({_short(value)})")
    return "; ".join(parts)


def _short(value: object) -> str:
    if isinstance(value, str | int | float | bool):
        text = repr(value)
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    size = size_of(value)
    return f"{size} elements" if size is not None else type(value).__name__


def _evidence(case: Case, pair: tuple[ast.expr, ...]) -> str:
    """The step that made the operand with the wrong type."""
    for node in pair:
        value = case.value(node)
        if isinstance(value, str) and not isinstance(node, ast.Constant) and not _is_written(node):
            return case.evidence(node)[1].step
    for node in pair:
        if not isinstance(node, ast.Constant) and case.value(node) is not UNKNOWN:
            return case.evidence(node)[1].step
    return case.site.text.step


def _folded(case: Case) -> Iterator[Finding]:
    """`sum(row['n'] for row in rows)`, `sorted(xs)`, `max(xs)`: the elements are strings."""
    site = case.site
    call = site.node
    if not isinstance(call, ast.Call) or not call.args:
        return
    argument = call.args[0]
    if isinstance(argument, ast.GeneratorExp | ast.ListComp) and len(argument.generators) == 1:
        part = argument.generators[0]
        value = _element(case, part, argument.elt)
        number = as_number(value)
        if number:
            told = site.text.of(argument.elt)
            _, text = case.evidence(part.iter)
            edits = site.text.around(argument.elt, f"{number}(", ")")
            message = f"{told} is a str ({_short(value)}), not a number; {text.step} made it"
            yield Finding("type_mismatch", message, text.step, edits, 0.85)
        return
    held = elements(case.value(argument))
    if held:
        numbers = [as_number(each) for each in held]
        texts = [each for each in numbers if each]
        _, text = case.evidence(argument)
        edits = tuple[Edit, ...]()
        if texts and all(n or not isinstance(e, str) for n, e in zip(numbers, held, strict=True)):
            number = "float" if "float" in texts else "int"
            edits = site.text.around(argument, f"map({number}, ", ")")
        kinds = sorted({type(each).__name__ for each in held})
        message = (
            f"{site.text.of(argument)} has elements of {', '.join(kinds)}; {text.step} made it"
        )
        yield Finding("type_mismatch", message, text.step, edits, 0.8)


def _element(case: Case, part: ast.comprehension, element: ast.expr) -> object:
    """The first element of a comprehension over a list."""
    held = first(case.value(part.iter))
    if held is UNKNOWN or not isinstance(part.target, ast.Name):
        return UNKNOWN
    inner = replace(case.site, local={**case.site.local, part.target.id: held})
    return case.value(element, inner)


@rule(TypeError)
def joined(case: Case) -> Iterator[Finding]:
    """`', '.join(numbers)`."""
    call = case.site.node
    if "expected str instance" not in case.message or not isinstance(call, ast.Call):
        return
    text, argument = case.site.text, call.args[0]
    if isinstance(argument, ast.GeneratorExp | ast.ListComp):
        edits = text.around(argument.elt, "str(", ")")
    else:
        edits = text.around(argument, "map(str, ", ")")
    _, made = case.evidence(argument)
    message = f"join() takes texts; {text.of(argument)} has others"
    yield Finding("join_of_others", message, made.step, edits, 0.93)


@rule(TypeError)
def loops(case: Case) -> Iterator[Finding]:
    """`for i in n`, a list as a key, `rows['amount']` on a list."""
    site, text = case.site, case.site.text
    if re.search(r"'int' object is not iterable", case.message):
        for node in [site.node, text.parents.get(site.node) if site.node else None]:
            over = node.iter if isinstance(node, ast.For | ast.comprehension) else None
            if over is not None:
                _, made = case.evidence(over)
                edits = text.around(over, "range(", ")")
                message = f"{text.of(over)} is a number; range() counts up to it"
                yield Finding("not_iterable", message, made.step, edits, 0.7)
                return
    found = re.search(r"unhashable type: '(\w+)'", case.message)
    if found is not None:
        message = f"a {found[1]} can be no key and no element of a set: it can change"
        edits = _hashable(case, text, found[1])
        yield Finding("unhashable", message, text.step, edits, 0.85)
    if re.search(r"indices must be integers", case.message) and isinstance(
        site.node, ast.Subscript
    ):
        owner, index = case.value(site.node.value), case.value(site.node.slice)
        _, made = case.evidence(site.node.value)
        what = f"{text.of(site.node.value)} is {of_kind(owner)}" if owner is not UNKNOWN else "it"
        message = f"{what}; {text.of(site.node.slice)} is no position"
        digits = isinstance(index, str) and index.isdigit()
        if digits:
            _, made = case.evidence(site.node.slice)
        edits = text.around(site.node.slice, "int(", ")") if digits else ()
        yield Finding("index_type", message, made.step, edits, 0.8)


def _hashable(case: Case, text: StepText, kind: str) -> tuple[Edit, ...]:
    if kind != "list":
        return ()
    for node in ast.walk(case.site.node or ast.Pass()):
        if isinstance(node, ast.Subscript) and isinstance(case.value(node.slice), list):
            return text.around(node.slice, "tuple(", ")")
        if isinstance(node, ast.Call) and node.args and isinstance(case.value(node.args[0]), list):
            return text.around(node.args[0], "tuple(", ")")
    return ()


@rule(TypeError)
def no_length(case: Case) -> Iterator[Finding]:
    """`len(price)` of a number that should be a string."""
    call = case.site.node
    if "has no len()" not in case.message or not isinstance(call, ast.Call) or not call.args:
        return
    text, argument = case.site.text, call.args[0]
    value = case.value(argument)
    name, made = case.evidence(argument)
    edits = text.around(argument, "str(", ")")
    for node in ast.walk(made.tree):
        if isinstance(node, ast.Assign) and bound(node) == {name}:
            edits = made.around(node.value, "str(", ")")
    if not isinstance(value, int | float):
        edits = ()
    by = f"; {made.step} made it" if made.step != text.step else ""
    message = f"{text.of(argument)} is {of_kind(value)}, which has no length{by}"
    yield Finding("type_mismatch", message, made.step, edits, 0.8)


RULES: Final = (operands, joined, loops, no_length)
