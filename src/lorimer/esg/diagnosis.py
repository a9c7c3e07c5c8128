"""Why a step failed, from the exception, the live values and the history of the session.

Python says what went wrong where it noticed; the graph knows who made, deleted or overwrote the
name, and what comes later. Each rule gives a finding with the step that is the evidence and, where
the repair is certain enough, an edit. No model is asked.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final, cast

from lorimer.esg.graph import ExecutionStateGraph
from lorimer.esg.patches import Edit, PatchResult, patch_of
from lorimer.esg.results import StepResult
from lorimer.esg.steps import ABSENT, Status

ALIASES: Final[Mapping[str, str]] = {
    "np": "import numpy as np",
    "pd": "import pandas as pd",
    "plt": "import matplotlib.pyplot as plt",
    "sns": "import seaborn as sns",
    "sp": "import scipy as sp",
    "tf": "import tensorflow as tf",
    "nx": "import networkx as nx",
    "Path": "from pathlib import Path",
    "defaultdict": "from collections import defaultdict",
    "Counter": "from collections import Counter",
    "deque": "from collections import deque",
    "dataclass": "from dataclasses import dataclass",
    "datetime": "from datetime import datetime",
    "timedelta": "from datetime import timedelta",
    "partial": "from functools import partial",
    "reduce": "from functools import reduce",
}
"""Names that stand for an import nearly everywhere."""
PACKAGES: Final[Mapping[str, str]] = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Modules whose package is called otherwise."""
_IN_PLACE: Final = frozenset(
    "append clear extend insert reverse sort update add remove discard shuffle".split()
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One possible cause."""

    rule: str
    message: str
    step: str
    """The step that is the evidence: often not the one that failed."""
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True, slots=True)
class DiagnosisReport:
    """Possible causes, the likeliest first; none if the step ran or nothing is known."""

    step_id: str
    error: str
    """The exception in a line; empty if the step ran."""
    findings: tuple[Finding, ...]

    @property
    def cause(self) -> Finding | None:
        """The likeliest."""
        return self.findings[0] if self.findings else None

    def __str__(self) -> str:
        if not self.error:
            return f"{self.step_id} ran"
        lines = [f"{self.step_id}: {self.error}"]
        lines += [f"  {each.message} [{each.rule}]" for each in self.findings]
        return "\n".join(lines)


def diagnose(result: StepResult, esg: ExecutionStateGraph) -> DiagnosisReport:
    """Find out why a step failed. Executes nothing but `dir`, `keys` and `signature`."""
    failure = result.failure
    if failure is None or result.error is None:
        return DiagnosisReport(result.step_id, "", ())
    case = _Case(result, result.error, esg)
    found = [finding for rule in _RULES for finding in rule(case)]
    return DiagnosisReport(result.step_id, f"{failure.type}: {failure.message}", tuple(found))


def generate_patch(diagnosis: DiagnosisReport, esg: ExecutionStateGraph) -> PatchResult:
    """The edits of the likeliest finding that has some and leaves Python behind.

    `repair` of a session applies one and takes it back if it does not help.
    """
    for finding in diagnosis.findings:
        patch = patch_of(finding.edits, finding.message, esg) if finding.edits else None
        if patch is not None:
            return patch
    if not diagnosis.error:
        return PatchResult("there is nothing to mend")
    cause = diagnosis.cause
    return PatchResult(cause.message if cause else "no rule knows this error")


class _Case:
    """A failed step, with what the rules look at."""

    def __init__(self, result: StepResult, error: BaseException, esg: ExecutionStateGraph) -> None:
        self.result, self.error, self.esg = result, error, esg
        self.id, self.source = result.step_id, result.source
        self.line = result.failure.line if result.failure is not None else None
        self.known = self.id in esg
        self.values = result.namespace
        self._lines = self.source.splitlines(keepends=True)
        try:
            self.tree = ast.parse(self.source)
        except (SyntaxError, ValueError):
            self.tree = ast.Module([], [])

    def nodes(self) -> Iterator[ast.AST]:
        """The nodes of the line that failed, then all others."""
        every = list(ast.walk(self.tree))
        here = [each for each in every if getattr(each, "lineno", None) == self.line]
        yield from here
        yield from (each for each in every if each not in here)

    def offset(self, line: int, column: int) -> int:
        """Characters before a place; `column` in bytes, as syntax trees have it."""
        before = sum(len(each) for each in self._lines[: line - 1])
        text = self._lines[line - 1] if line <= len(self._lines) else ""
        return before + len(text.encode()[:column].decode("utf-8", "ignore"))

    def instead(self, node: ast.expr, text: str) -> Edit:
        end = self.offset(node.end_lineno or node.lineno, node.end_col_offset or 0)
        return Edit(self.id, self.offset(node.lineno, node.col_offset), end, text)

    def maker(self, name: str) -> str:
        return self.esg.maker(name, self.id) if self.known else ""


def near(word: str, words: Iterable[str]) -> str:
    """The word that was probably meant; empty if none is near."""
    found = get_close_matches(word, [each for each in words if each != word], 1, 0.7)
    return found[0] if found else ""


def _names(case: _Case) -> Iterator[Finding]:
    error = case.error
    if not isinstance(error, NameError) or not error.name:
        return
    name, esg = error.name, case.esg
    maker = case.maker(name)
    if maker and esg.made(maker).get(name) == ABSENT:
        yield Finding("deleted", f"{name!r} was deleted by {maker}", maker)
        return
    failed = [
        step
        for step in esg.steps
        if step != case.id and esg.status(step) is Status.FAILED and name in esg.may_write(step)
    ]
    if failed:
        message = f"{name!r} is made by {failed[0]}, which failed"
        yield Finding("producer_failed", message, failed[0])
        return
    later = esg.unresolved(case.id).get(name, "") if case.known else ""
    if later and later != case.id:
        yield Finding("made_later", f"{name!r} is made by {later}, which comes later", later)
    uses = [n for n in case.nodes() if isinstance(n, ast.Name) and n.id == name]
    statement = ALIASES.get(name)
    if statement is None and name in sys.stdlib_module_names:
        statement = f"import {name}"
    if statement is not None:
        edit = Edit(case.id, 0, 0, statement + "\n")
        yield Finding("missing_import", f"{name!r} is not imported", case.id, (edit,))
    meant = near(name, [*case.values, *dir(builtins)])
    if meant and not later:
        edits = tuple(case.instead(use, meant) for use in uses)
        step = case.maker(meant) or case.id
        yield Finding("name_typo", f"{name!r} is probably {meant!r}", step, edits)


def _attributes(case: _Case) -> Iterator[Finding]:
    error = case.error
    if not isinstance(error, AttributeError) or not error.name:
        return
    owner, name = error.obj, error.name
    uses = [n for n in case.nodes() if isinstance(n, ast.Attribute) and n.attr == name]
    if owner is None:
        yield from _none_of(case, [use.value for use in uses])
        return
    if inspect.iscoroutine(owner):
        yield from _awaits(case)
        return
    meant = near(name, dir(owner))
    if meant and uses:
        use = uses[0]
        end = case.offset(use.end_lineno or use.lineno, use.end_col_offset or 0)
        edit = Edit(case.id, end - len(name), end, meant)
        message = f"{type(owner).__name__} has no {name!r}; it has {meant!r}"
        yield Finding("attribute_typo", message, case.id, (edit,))


def _none_of(case: _Case, values: Iterable[ast.expr]) -> Iterator[Finding]:
    """`x = xs.sort()`: the step that made the None is the cause."""
    for value in values:
        if not isinstance(value, ast.Name):
            continue
        name = value.id
        maker = case.maker(name) or case.id
        source = case.esg.source(maker) if maker in case.esg else case.source
        found = _in_place(source, name)
        if found is None:
            yield Finding("none", f"{name!r} is None; {maker} made it", maker)
            return
        whole, call, of, method = found
        start = source.index(whole)
        edit = Edit(maker, start, start + len(whole), f"{call}\n{name} = {of}")
        message = f"{maker} sets {name!r} to what {method}() gives back, which is None"
        yield Finding("none_from_in_place", message, maker, (edit,))
        return


def _in_place(source: str, name: str) -> tuple[str, str, str, str] | None:
    """`name = of.method()` where the method changes its object: that text, the call, of, method."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Assign(
                targets=[ast.Name(id=target)],
                value=ast.Call(func=ast.Attribute(value=of, attr=method)) as call,
            ) if target == name and method in _IN_PLACE:
                texts = [ast.get_source_segment(source, part) for part in (node, call, of)]
                whole, called, owner = (text or "" for text in texts)
                return whole, called, owner, method
            case _:
                continue
    return None


def _keys(case: _Case) -> Iterator[Finding]:
    error = case.error
    if not isinstance(error, KeyError) or not error.args:
        return
    key: object = error.args[0]
    if not isinstance(key, str):
        return
    for node in case.nodes():
        if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)):
            continue
        constants = [n for n in ast.walk(node.slice) if isinstance(n, ast.Constant)]
        wrong = [each for each in constants if each.value == key]
        keys = getattr(case.values.get(node.value.id), "keys", None)
        if not wrong or not callable(keys):
            continue
        there = [each for each in cast("Collection[object]", keys()) if isinstance(each, str)]
        meant = near(key, there)
        maker = case.maker(node.value.id) or case.id
        if meant:
            edits = (case.instead(wrong[0], repr(meant)),)
            message = f"{node.value.id} of {maker} has no {key!r}; it has {meant!r}"
            yield Finding("key_typo", message, maker, edits)
        else:
            shown = ", ".join(map(repr, there[:8])) or "no text as a key"
            message = f"{node.value.id} of {maker} has no {key!r}; it has {shown}"
            yield Finding("missing_key", message, maker)
        return


def _files(case: _Case) -> Iterator[Finding]:
    error = case.error
    if not isinstance(error, FileNotFoundError) or not isinstance(error.filename, str):
        return
    path = Path(error.filename)
    resource = f"file:{path.absolute()}"
    for step in case.esg.steps:
        if resource in case.esg.made(step):
            yield Finding("file_of_a_step", f"{path} is written by {step}", step)
            return
    folder = path.parent
    there = [each.name for each in folder.iterdir()] if folder.is_dir() else []
    meant = near(path.name, there)
    if not meant:
        what = f"{folder} has no {path.name!r}" if there else f"there is no folder {folder}"
        yield Finding("missing_file", what, case.id)
        return
    edits = tuple(
        case.instead(node, repr(node.value[: -len(path.name)] + meant))
        for node in case.nodes()
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.endswith(path.name)
    )
    yield Finding("file_typo", f"there is no {path.name!r}, but {meant!r}", case.id, edits[:1])


def _modules(case: _Case) -> Iterator[Finding]:
    error = case.error
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return
    name = error.name
    meant = near(name, [*sys.stdlib_module_names, *sys.modules])
    if meant:
        edits = tuple(
            Edit(case.id, found.start(), found.end(), meant)
            for found in re.finditer(rf"\b{re.escape(name)}\b", case.source)
        )
        yield Finding("module_typo", f"there is no module {name!r}, but {meant!r}", case.id, edits)
    else:
        package = PACKAGES.get(name.partition(".")[0], name.partition(".")[0])
        message = f"{name} is not installed: its package is {package}"
        yield Finding("missing_package", message, case.id)


def _types(case: _Case) -> Iterator[Finding]:
    if not isinstance(case.error, TypeError):
        return
    text = str(case.error)
    if "coroutine" in text:
        yield from _awaits(case)
        return
    keyword = re.search(r"unexpected keyword argument '(\w+)'", text)
    if keyword is not None:
        yield from _keywords(case, keyword[1])
    elif text.endswith("object is not callable"):
        for node in case.nodes():
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            name, maker = node.func.id, case.maker(node.func.id)
            if maker and hasattr(builtins, name):
                yield Finding("shadowed", f"{maker} hides Python's own {name!r}", maker)
                return
    elif "NoneType" in text:
        names = (n for n in case.nodes() if isinstance(n, ast.Name))
        yield from _none_of(case, [n for n in names if case.values.get(n.id, 0) is None][:1])


def _keywords(case: _Case, wrong: str) -> Iterator[Finding]:
    for node in case.nodes():
        if not isinstance(node, ast.Call):
            continue
        given = next((each for each in node.keywords if each.arg == wrong), None)
        function = case.values.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if given is None or not callable(function):
            continue
        try:
            names = list(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            return
        meant = near(wrong, names)
        start = case.offset(given.lineno, given.col_offset)
        edits = (Edit(case.id, start, start + len(wrong), meant),) if meant else ()
        shown = meant or ", ".join(names)
        message = f"there is no argument {wrong!r}; there is {shown}"
        yield Finding("argument_typo", message, case.id, edits)
        return


def _awaits(case: _Case) -> Iterator[Finding]:
    """A coroutine was used as if it were what it gives."""
    for node in case.nodes():
        if not isinstance(node, ast.Name) or not inspect.iscoroutine(case.values.get(node.id)):
            continue
        maker = case.maker(node.id) or case.id
        source = case.esg.source(maker) if maker in case.esg else case.source
        found = re.search(rf"\b{node.id}\s*=\s*(?!await\b)", source)
        edits = (Edit(maker, found.end(), found.end(), "await "),) if found else ()
        yield Finding("not_awaited", f"{node.id!r} of {maker} was not awaited", maker, edits)
        return


def _syntax(case: _Case) -> Iterator[Finding]:
    error = case.error
    if not isinstance(error, SyntaxError) or error.lineno is None:
        return
    text, line = error.msg, error.lineno
    lines = case.source.splitlines(keepends=True)
    if line > len(lines):
        return
    before = sum(len(each) for each in lines[: line - 1])
    row = lines[line - 1].rstrip("\n")
    code = re.sub(r"\s*#.*$", "", row).rstrip()
    end = before + len(code)
    bracket = re.match(r"'([\[({])' was never closed", text)
    if text == "expected ':'":
        yield Finding(
            "missing_colon",
            f"line {line} ends without ':'",
            case.id,
            (Edit(case.id, end, end, ":"),),
        )
    elif bracket is not None:
        closing = {"(": ")", "[": "]", "{": "}"}[bracket[1]]
        message = f"{bracket[1]!r} of line {line} is not closed"
        yield Finding("open_bracket", message, case.id, (Edit(case.id, end, end, closing),))
    elif row.lstrip().startswith(("%", "!")):
        message = f"line {line} is a command of notebooks, not Python"
        yield Finding("magic", message, case.id)
    else:
        yield Finding("syntax", f"line {line}: {text}", case.id)


_RULES: Final[tuple[Callable[[_Case], Iterator[Finding]], ...]] = (
    _names,
    _attributes,
    _keys,
    _files,
    _modules,
    _types,
    _syntax,
)
