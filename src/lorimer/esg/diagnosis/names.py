"""Missing names: misspelt, deleted, made later or by a failed step, unquoted."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator, Mapping
from typing import Final

from lorimer.esg.diagnosis.case import Case, absent
from lorimer.esg.diagnosis.near import nearest
from lorimer.esg.diagnosis.report import Finding
from lorimer.esg.diagnosis.rule import rule
from lorimer.esg.diagnosis.texts import StepText
from lorimer.esg.diagnosis.values import UNKNOWN, attribute_of, keys_of
from lorimer.esg.graph.steps import Status
from lorimer.esg.patching.patches import Edit, Move

_ELSEWHERE: Final[Mapping[str, str]] = {
    "true": "True",
    "false": "False",
    "null": "None",
    "none": "None",
    "nil": "None",
    "undefined": "None",
    "NaN": "float('nan')",
    "display": "print",
}
"""Names of Python's constants in other languages, and names that only notebooks have."""


def missing_name(case: Case) -> str:
    """The name that a NameError is about; empty for none."""
    error = case.error
    if not isinstance(error, NameError):
        return ""
    parts = case.message.split("'")
    return error.name or (parts[1] if len(parts) > 2 else "")


def uses(case: Case, name: str) -> list[ast.Name]:
    """Where the failing code reads the name."""
    return case.site.text.named(name, ast.Load)


def is_gone(case: Case, name: str) -> bool:
    """Whether history explains it: some step makes or made exactly this name."""
    return case.known and any(
        name in case.esg.may_write(each) for each in case.esg.steps if each != case.step
    )


@rule(NameError)
def history(case: Case) -> Iterator[Finding]:
    """Which step makes the name, and why it is missing."""
    name, esg = missing_name(case), case.esg
    if not name or not case.known or isinstance(case.error, UnboundLocalError):
        return
    maker = case.maker(name)
    if maker and absent(case, maker, name):
        edits = _undeleted(case, maker, name)
        yield Finding("deleted", f"{name!r} was deleted by {maker}", maker, edits, 0.97)
        return
    before = esg.steps[: esg.steps.index(case.step)]
    for step in reversed(before):
        if name not in esg.may_write(step):
            continue
        status = esg.status(step)
        if status is Status.FAILED:
            message = f"{name!r} is made by {step}, which failed"
            yield Finding("producer_failed", message, step, (), 0.97)
            return
        if status is not Status.FRESH:
            message = f"{name!r} is made by {step}, which is {status}: replay"
            yield Finding("producer_stale", message, step, (), 0.96)
            return
    later = esg.unresolved(case.step).get(name, "")
    if later and later != case.step:
        message = f"{name!r} is made by {later}, which comes later"
        yield Finding("made_later", message, later, (), 0.95, _before(case, later))


def _before(case: Case, maker: str) -> tuple[Move, ...]:
    """Moves of a step, and what it needs, before the failed one; none if it needs that one."""
    esg, steps = case.esg, case.esg.steps
    needed = [*esg.get_ancestors(maker), maker]
    if case.step in needed:
        return ()
    at = steps.index(case.step)
    after, moves = steps[at - 1] if at else "", list[Move]()
    for each in needed:
        if steps.index(each) > at:
            moves.append(Move(each, after))
            after = each
    return tuple(moves)


def _undeleted(case: Case, maker: str, name: str) -> tuple[Edit, ...]:
    """`del a, name` without the name."""
    text = case.text(maker)
    for node in ast.walk(text.tree):
        if not isinstance(node, ast.Delete):
            continue
        rest = [
            each for each in node.targets if not (isinstance(each, ast.Name) and each.id == name)
        ]
        if len(rest) == len(node.targets):
            continue
        if rest:
            return (text.replace(node, f"del {', '.join(text.of(each) for each in rest)}"),)
        start, end = text.start(node), text.end(node)
        line = text.lines[node.lineno - 1]
        if line.strip() == text.of(node) and len(text.tree.body) > 1 and node in text.tree.body:
            start -= node.col_offset
            return (Edit(maker, start, min(start + len(line), len(text.source)), ""),)
        return (Edit(maker, start, end, "pass"),)
    return ()


@rule(NameError)
def typo(case: Case) -> Iterator[Finding]:
    """An existing name that is similar."""
    name = missing_name(case)
    if not name or isinstance(case.error, UnboundLocalError):
        return
    text = case.site.text
    if name == "__file__":
        yield Finding("no_file", "a step is in no file: it has no '__file__'", text.step, (), 0.96)
        return
    constant = _ELSEWHERE.get(name)
    if constant is not None and name not in case.values:
        edits = tuple(text.replace(use, constant) for use in uses(case, name))
        yield Finding(
            "other_language", f"Python says {constant} for {name}", text.step, edits, 0.96
        )
        return
    meant, sure = nearest(name, case.visible())
    if not meant or is_gone(case, name):
        return
    if meant in sys.stdlib_module_names and name in sys.stdlib_module_names:
        sure = 0.5  # both are modules: it is not imported
    maker = case.maker(meant)
    message = f"{name!r} is probably {meant!r}"
    if maker and _nobody_reads(case, maker, meant) and len(_lost(case, name)) > 1:
        other = case.text(maker)
        edits = tuple(other.replace(node, name) for node in other.named(meant))
        message = f"{maker} makes {meant!r}, which nobody reads, for {name!r}"
        yield Finding("name_typo", message, maker, edits, sure)
        return
    edits = tuple(text.replace(use, meant) for use in uses(case, name))
    yield Finding("name_typo", message, maker or text.step, edits, sure)


def _nobody_reads(case: Case, maker: str, name: str) -> bool:
    return hasattr(builtins, name) is False and not any(
        reads == name for reads, _ in case.esg.readers(maker)
    )


def _lost(case: Case, name: str) -> list[str]:
    """Steps that read a name that no step makes."""
    return [each for each in case.esg.steps if name in case.esg.unresolved(each)]


@rule(NameError)
def unquoted(case: Case) -> Iterator[Finding]:
    """`row[amount]` for `row['amount']`, and `amount` for `self.amount`."""
    name, site = missing_name(case), case.site
    for use in uses(case, name):
        holder = site.text.parents.get(use)
        if isinstance(holder, ast.Subscript) and holder.slice is use:
            keys = keys_of(case.value(holder.value))
            if name in keys or not keys:
                edit = site.text.replace(use, repr(name))
                sure = 0.96 if keys else 0.6
                message = f"{name} is a key: {name!r}"
                yield Finding("missing_quotes", message, site.text.step, (edit,), sure)
                return
    owner = site.local.get("self", UNKNOWN)
    if owner is not UNKNOWN and attribute_of(owner, name) is not UNKNOWN:
        within = _function(site.text, site.node)
        edits = tuple(
            site.text.replace(use, f"self.{name}")
            for use in uses(case, name)
            if _function(site.text, use) is within
        )
        message = f"{name} is an attribute: self.{name}"
        yield Finding("missing_self", message, site.text.step, edits, 0.96)


@rule(NameError)
def annotation(case: Case) -> Iterator[Finding]:
    """An annotation that another step's `from __future__ import annotations` should have
    postponed."""
    name, text = missing_name(case), case.site.text
    maker = case.maker("annotations") if name else ""
    if not maker or "__future__" not in case.text(maker).source:
        return
    for use in uses(case, name):
        inner: ast.expr = use
        holder = text.parents.get(use)
        while isinstance(holder, ast.expr):
            inner, holder = holder, text.parents.get(holder)
        if inner in (getattr(holder, "annotation", None), getattr(holder, "returns", None)):
            message = f"the annotations of {maker} are put off by its __future__ import, others not"
            edit = text.replace(inner, repr(text.of(inner)))
            yield Finding("annotation_not_put_off", message, maker, (edit,), 0.97)
            return


def _function(text: StepText, node: ast.AST | None) -> ast.AST | None:
    """The function that contains a node."""
    for each in text.enclosing(node) if node is not None else ():
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            return each
    return None


@rule(UnboundLocalError)
def of_function(case: Case) -> Iterator[Finding]:
    """A function binds a name of the module somewhere, which makes it local."""
    name, site = missing_name(case), case.site
    if not name or not site.function:
        return
    text = site.text
    for node in text.functions(site.function)[:1]:
        first = node.body[0]
        edits: tuple[Edit, ...] = ()
        if name in case.values and first.lineno > node.lineno:
            at = text.start(first)
            edits = (text.insert(at, f"global {name}\n{text.indent(first)}"),)
        message = f"{site.function} binds {name!r} itself, and reads it before that"
        yield Finding("local_before_bound", message, text.step, edits, 0.9)


RULES: Final = (history, typo, unquoted, annotation, of_function)
