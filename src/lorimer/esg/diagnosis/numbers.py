"""Strings that are not numbers, zeros, and arrays whose shapes do not fit."""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Iterator
from typing import Final, cast

from lorimer.esg.diagnosis.case import Case
from lorimer.esg.diagnosis.report import Finding
from lorimer.esg.diagnosis.rule import rule
from lorimer.esg.diagnosis.types import as_number
from lorimer.esg.diagnosis.values import size_of
from lorimer.esg.patching.patches import Edit

_NO_NUMBER: Final = re.compile(
    r"(?:invalid literal for int\(\)|could not convert string to float)"
    r"[^:]*: '((?:[^'\\]|\\.)*)'"
)

_THOUSANDS: Final = re.compile(r"\s*[+-]?\d{1,3}(,\d{3})+(\.\d*)?\s*")
"""Anything else with a comma may be a fraction, as in `1,5`."""


@rule(ValueError)
def numbers(case: Case) -> Iterator[Finding]:
    """A string that is not a number: which one, and which step made it; NaN as an int."""
    if "NaN to integer" in case.message:
        call = case.site.node
        node = call.args[0] if isinstance(call, ast.Call) and call.args else None
        _, made = case.evidence(node) if node is not None else ("", case.site.text)
        what = case.site.text.of(node) if node is not None else "the value"
        yield Finding("nan", f"{what} is NaN: a value is missing", made.step, (), 0.9)
        return
    found = _NO_NUMBER.search(case.message)
    call = case.site.node
    if found is None:
        return
    edits, made = tuple[Edit, ...](), case.site.text
    if isinstance(call, ast.Call) and call.args:
        _, made = case.evidence(call.args[0])
        if as_number(found[1]) == "float":
            edits = case.site.text.around(call.args[0], "float(", ")")
        elif _THOUSANDS.fullmatch(found[1]):
            edits = (case.site.text.insert(case.site.text.end(call.args[0]), ".replace(',', '')"),)
    by = f"; {made.step} made it" if made.step != case.step else ""
    yield Finding("no_number", f"{found[1]!r} is no number{by}", made.step, edits, 0.85)


@rule(ValueError)
def shapes(case: Case) -> Iterator[Finding]:
    """Arrays and columns that do not fit: each with its shape and its maker."""
    if not re.search(
        r"shape|broadcast|mismatch|same length|does not match length|dimension", case.message
    ):
        return
    site = case.site
    told = list[tuple[str, str, tuple[int, ...]]]()
    top = site.text.statement(site.node) if site.node is not None else None
    for node in ast.walk(top) if top is not None else site.text.in_line(site.line):
        if not isinstance(node, ast.Name) or any(text == node.id for text, _, _ in told):
            continue
        value = case.value(node)
        shape = _shape(value)
        if shape is not None:
            _, made = case.evidence(node)
            told.append((node.id, made.step, shape))
    if not told:
        return
    message = "; ".join(f"{name} of {step} has the shape {shape}" for name, step, shape in told)
    yield Finding("shape_mismatch", message, told[-1][1], _turned(case), 0.9)


def _shape(value: object) -> tuple[int, ...] | None:
    """Of an array, a frame, or one of Python's own containers."""
    if not isinstance(value, type | types.ModuleType):  # numpy itself has a function of that name
        found: object = getattr(value, "shape", None)
        if isinstance(found, tuple):
            return cast("tuple[int, ...]", found)
    size = size_of(value)
    return (size,) if size and not isinstance(value, str) else None


def _turned(case: Case) -> tuple[Edit, ...]:
    """`a @ b` where one of them fits when transposed."""
    match case.site.node:
        case ast.BinOp(left=left, right=right, op=ast.MatMult()):
            one, other = _shape(case.value(left)), _shape(case.value(right))
            if one and other and len(one) == len(other) == 2 and one[1] == other[1]:
                text = case.site.text
                return (text.insert(text.end(right), ".T"),)
        case _:
            pass
    return ()


@rule(ZeroDivisionError)
def zero(case: Case) -> Iterator[Finding]:
    """What is zero, and which step made it."""
    node = case.site.node
    if isinstance(node, ast.BinOp):
        _, made = case.evidence(node.right)
        by = f"; {made.step} made it" if made.step != case.step else ""
        message = f"{case.site.text.of(node.right)} is zero{by}"
        yield Finding("division_by_zero", message, made.step, (), 0.85)


RULES: Final = (numbers, shapes, zero)
