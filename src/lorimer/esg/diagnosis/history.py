"""What only the session knows: shadowed builtins, overwritten names, what changed since the step
last succeeded."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
from collections.abc import Iterator
from typing import Final

from lorimer.esg.diagnosis.case import Case, names_bound
from lorimer.esg.diagnosis.names import missing_name, uses
from lorimer.esg.diagnosis.report import Finding
from lorimer.esg.diagnosis.rule import rule
from lorimer.esg.diagnosis.values import UNKNOWN, of_kind
from lorimer.esg.graph.steps import Status
from lorimer.esg.patching.patches import Edit


@rule(TypeError, AttributeError, KeyError, IndexError, ValueError)
def hidden(case: Case) -> Iterator[Finding]:
    """A step bound a builtin's name, or a module's, to something else."""
    for node in case.names():
        name, maker = node.id, _maker(case, node.id)
        value = case.value(node)
        if not maker or name in case.site.local or value is UNKNOWN:
            continue
        called = "not callable" in case.message
        if hasattr(builtins, name) and called and not callable(value):
            message = f"{maker} hides Python's own {name!r}"
            yield Finding("shadowed", message, maker, _rename(case, name, maker), 0.97)
            return
        dotted = isinstance(case.site.text.parents.get(node), ast.Attribute)
        if name in sys.stdlib_module_names and dotted and not inspect.ismodule(value):
            message = f"{maker} hides the module {name!r}"
            yield Finding("shadowed", message, maker, _rename(case, name, maker), 0.96)
            return


@rule(TypeError, AttributeError, KeyError, IndexError, ValueError)
def overwritten(case: Case) -> Iterator[Finding]:
    """A step bound the name to a value of another type than an earlier step did."""
    seen = set[str]()
    for node in case.names():
        name, _ = case.evidence(node)  # a parameter has the caller's argument
        makers = [each for each in case.makers(name) if name in names_bound(case.text(each))]
        if name in seen or name in case.site.local or len(makers) < 2:
            continue
        seen.add(name)
        now = case.values.get(name, UNKNOWN)
        before = case.result.values(makers[1]).get(name, UNKNOWN)
        if before is UNKNOWN and f"'{type(now).__name__}' object" in case.message:
            message = f"{makers[0]} made {name!r} {of_kind(now)}; it was another of {makers[1]}"
            edits = _rename(case, name, makers[0])
            yield Finding("overwritten", message, makers[0], edits, 0.9)
            return
        if now is UNKNOWN or before is UNKNOWN or before is None:  # `==` would ask a frame
            continue
        if type(now) is type(before):
            continue
        if isinstance(now, int | float) and isinstance(before, int | float):
            continue
        message = (
            f"{makers[0]} made {name!r} {of_kind(now)}; it was {of_kind(before)} of {makers[1]}"
        )
        sure = 0.5 if now is None else 0.94
        yield Finding("overwritten", message, makers[0], _rename(case, name, makers[0]), sure)
        return


def _maker(case: Case, name: str) -> str:
    """The step that last bound it, possibly the failed one."""
    text = case.text(case.step)
    own = text.named(name, ast.Store)
    return case.step if own and case.site.text.step == case.step else case.maker(name)


def _rename(case: Case, name: str, maker: str) -> tuple[Edit, ...]:
    """Another name for what this step makes, there and where it has been read so far."""
    new = f"{name}_2"
    taken = {*case.values, *(each for step in case.esg.steps for each in case.esg.may_write(step))}
    while new in taken:
        new += "_"
    text, edits = case.text(maker), list[Edit]()
    bound_at: int | None = None
    for node in text.named(name, ast.Store):
        at = text.end(text.statement(node) or node)
        bound_at = at if bound_at is None else min(bound_at, at)
        edits.append(text.replace(node, new))
    if bound_at is None:
        return ()
    if maker != case.step:
        edits += [
            text.replace(node, new)
            for node in text.named(name, ast.Load)
            if text.start(node) >= bound_at
        ]
        for reads, reader in case.esg.readers(maker):
            if reads == name and case.esg.status(reader) is Status.FRESH:
                other = case.text(reader)
                edits += [other.replace(node, new) for node in other.named(name)]
    return tuple(edits)


@rule(NameError)
def renamed(case: Case) -> Iterator[Finding]:
    """The step once succeeded with a value that now has another name."""
    name = missing_name(case)
    worked = case.esg.worked(case.step) if case.known else None
    digest = worked.used.get(name, "") if worked is not None else ""
    if not digest:
        return
    for step in reversed(case.esg.steps[: case.esg.steps.index(case.step)]):
        for other, print_ in case.esg.made(step).items():
            if print_.split(" ")[0] == digest.split(" ")[0] and other != name:
                text = case.site.text
                edits = tuple(text.replace(use, other) for use in uses(case, name))
                message = f"{step} calls it {other!r} now; it was {name!r}"
                yield Finding("renamed", message, step, edits, 0.98)
                return
    before = case.esg.steps[: case.esg.steps.index(case.step)]
    unread = [
        (step, other)
        for step in before
        for other in case.esg.made(step).keys() - {reads for reads, _ in case.esg.readers(step)}
        if name in other or other in name
    ]
    if len(unread) == 1:
        step, other = unread[0]
        text = case.site.text
        edits = tuple(text.replace(use, other) for use in uses(case, name))
        message = f"{step} makes {other!r}, which nobody reads; it was {name!r}"
        yield Finding("renamed", message, step, edits, 0.97)
        return
    message = f"{name!r} was made once; no step makes it now"
    yield Finding("no_longer_made", message, case.step, (), 0.6)


@rule(Exception)
def changed(case: Case) -> Iterator[Finding]:
    """The step once succeeded with this code; what it reads has changed since."""
    if not case.known or not case.esg.worked_with(case.step, case.result.source):
        return
    names = {node.id for node in case.names()}
    since = case.esg.changed_since(case.step)
    for name in sorted(since, key=lambda each: each not in names):
        maker = since[name]
        by = f"{maker} made another value of it" if maker else "no step makes it any more"
        message = f"it worked until {name!r} changed: {by}"
        yield Finding("changed", message, maker or case.step, (), 0.45)
        return


RULES: Final = (hidden, overwritten, renamed, changed)
