"""Unpacking into the wrong number of names, and loops over values that are not pairs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from lorimer.esg.diagnosis.calls import function_of
from lorimer.esg.diagnosis.case import Case
from lorimer.esg.diagnosis.report import Finding
from lorimer.esg.diagnosis.rule import rule
from lorimer.esg.diagnosis.texts import StepText
from lorimer.esg.diagnosis.values import first, size_of
from lorimer.esg.patching.patches import Edit

_UNPACK: Final = re.compile(
    r"(?:too many|not enough) values to unpack \(expected (?:at least )?(\d+)"
)


@rule(ValueError, TypeError)
def unpacking(case: Case) -> Iterator[Finding]:
    """As many names as there are values."""
    found = _UNPACK.search(case.message)
    none = re.search(r"cannot unpack non-iterable (\w+) object", case.message)
    if found is None and (none is None or none[1] in ("NoneType", "coroutine")):
        return
    target, value = _unpacked(case)
    text = case.site.text
    if target is None or value is None:
        return
    loop = isinstance(text.parents.get(target), ast.For | ast.comprehension)
    held = case.value(value)
    if loop and hasattr(type(held), "items") and len(target.elts) == 2:
        edit = text.insert(text.end(value), ".items()")
        message = f"{text.of(value)} is a dict: its items are pairs"
        yield Finding("items_of_dict", message, text.step, (edit,), 0.93)
        return
    if loop and len(target.elts) == 2 and (none is not None or isinstance(first(held), str | int)):
        edits = text.around(value, "enumerate(", ")")
        message = f"{text.of(value)} has no pairs"
        yield Finding("enumerate", message, text.step, edits, 0.85)
        return
    if found is None:
        return
    wanted, given = int(found[1]), _count(case, value, loop=loop)
    message = f"{text.of(target)} are {wanted} names" + (f" for {given} values" if given else "")
    edits = _renamed(case, text, target, wanted, given)
    yield Finding("unpack_count", message, text.step, edits, 0.85)


def _unpacked(case: Case) -> tuple[ast.Tuple | ast.List | None, ast.expr | None]:
    site = case.site
    nodes = [*site.text.in_line(site.line)]
    if site.node is not None:
        nodes = [site.node, site.text.parents.get(site.node, site.node)]
    for each in nodes:
        match each:
            case ast.Assign(targets=[ast.Tuple() | ast.List() as target], value=value):
                return target, value
            case ast.For(target=ast.Tuple() | ast.List() as target, iter=value):
                return target, value
            case ast.comprehension(target=ast.Tuple() | ast.List() as target, iter=value):
                return target, value
            case _:
                pass
    return None, None


def _count(case: Case, value: ast.expr, *, loop: bool) -> int:
    """How many values there are, according to Python, the value, or the function's return; 0:
    unknown."""
    said = re.search(r"got (\d+)", case.message)
    if said is not None:
        return int(said[1])
    held = case.value(value)
    size = size_of(first(held) if loop else held)
    if size is not None:
        return size
    if isinstance(value, ast.Call):
        function, _ = function_of(case, value, case.site)
        code = getattr(function, "__code__", None)
        step = code.co_filename.removeprefix("<step ").removesuffix(">") if code else ""
        if code and (step in case.esg or step == case.step):
            for node in case.text(step).functions(code.co_name):
                for each in ast.walk(node):
                    if isinstance(each, ast.Return) and isinstance(each.value, ast.Tuple):
                        return len(each.value.elts)
    return 0


def _renamed(
    case: Case, text: StepText, target: ast.Tuple | ast.List, wanted: int, given: int
) -> tuple[Edit, ...]:
    """More names at the end (those the step reads and no step makes, else `_`), or fewer."""
    if not given or given == wanted or any(isinstance(e, ast.Starred) for e in target.elts):
        return ()
    last = target.elts[-1]
    if given > wanted:
        lost = [*case.esg.unresolved(text.step)] if text.step in case.esg else []
        names = lost if len(lost) == given - wanted else ["_"] * (given - wanted)
        return (text.insert(text.end(last), "".join(f", {name}" for name in names)),)
    if given < 1:
        return ()
    kept = target.elts[given - 1]
    return (Edit(text.step, text.end(kept), text.end(last), "," if given == 1 else ""),)


RULES: Final = (unpacking,)
