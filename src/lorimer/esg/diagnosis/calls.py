"""Arguments, signatures, and things that are called or not called by mistake."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Final

from lorimer.esg.diagnosis.case import Case, Site
from lorimer.esg.diagnosis.near import nearest
from lorimer.esg.diagnosis.report import Finding
from lorimer.esg.diagnosis.rule import rule
from lorimer.esg.diagnosis.texts import StepText
from lorimer.esg.diagnosis.values import UNKNOWN, attribute_of, of_kind
from lorimer.esg.patching.patches import Edit

_KEYWORD: Final = re.compile(r"unexpected keyword argument '(\w+)'|'(\w+)' is an invalid keyword")
_MISSING: Final = re.compile(r"missing \d+ required (?:positional|keyword-only) arguments?: (.*)")
_TOO_MANY: Final = re.compile(
    r"takes (?:from \d+ to )?(\d+) positional arguments? but (\d+) (?:was|were)"
)
_TWICE: Final = re.compile(r"got multiple values for argument '(\w+)'")
_METHOD: Final = re.compile(r"^(\w+)\.(\w+)\(\) takes")


def function_of(case: Case, call: ast.Call, site: Site) -> tuple[Callable[..., object] | None, int]:
    """The function that is called, and how many of its first parameters are already bound."""
    value = case.value(call.func, site)
    if value is UNKNOWN and isinstance(call.func, ast.Attribute):
        owner = case.value(call.func.value, site)
        if owner is UNKNOWN:
            return None, 0
        value = attribute_of(owner, call.func.attr)
        bound = 0 if inspect.isclass(owner) or inspect.ismodule(owner) else 1
        return (value, bound) if callable(value) else (None, 0)
    if value is UNKNOWN or not callable(value):
        return None, 0
    if isinstance(call.func, ast.Attribute) and inspect.isfunction(value):
        owner = case.value(call.func.value, site)
        in_class = not inspect.ismodule(owner) and not inspect.isclass(owner)
        return value, 1 if in_class else 0
    return value, 0


def parameters(function: Callable[..., object], bound: int) -> list[inspect.Parameter]:
    """The parameters that a call may fill; none if Python does not know them."""
    try:
        return list(inspect.signature(function).parameters.values())[bound:]
    except (TypeError, ValueError):
        return []


def failing_call(case: Case) -> tuple[Site, ast.Call] | None:
    for site in case.sites:
        if isinstance(site.node, ast.Call):
            return site, site.node
    found = next(case.calls(), None)
    return (case.site, found) if found is not None else None


@rule(TypeError)
def arguments(case: Case) -> Iterator[Finding]:
    """An argument with another name, one too many, or a missing one."""
    found = failing_call(case)
    keyword, missing, many, twice = (
        each.search(case.message) for each in (_KEYWORD, _MISSING, _TOO_MANY, _TWICE)
    )
    if found is None or not (keyword or missing or many or twice):
        return
    site, call = found
    function, bound = function_of(case, call, site)
    there = parameters(function, bound) if function is not None else []
    name = site.text.of(call.func)
    step = site.text.step
    signature = f"{name}({', '.join(map(_shown, there))})" if there else name
    if keyword is not None:
        wrong = keyword[1] or keyword[2]
        names = [each.name for each in there]
        if function is not None and not names:  # written in C: its help text says
            names = re.findall(r"(\w+)=", inspect.getdoc(function) or "")
        yield _keyword(site.text, call, wrong, names, signature)
    elif missing is not None:
        names = re.findall(r"'(\w+)'", missing[1])
        edits = _given(case, site, call, names)
        message = f"{signature} needs {', '.join(names)}"
        yield Finding("missing_argument", message, step, edits, 0.9)
    elif many is not None:
        takes, given = int(many[1]), int(many[2])
        method = _without_self(case)
        if method is not None:
            yield method
            return
        message = f"{signature} takes {takes - bound} arguments and is given {given - bound}"
        edits = _fewer(site.text, call, given - takes)
        yield Finding("too_many_arguments", message, step, edits, 0.85)
    elif twice is not None:
        places = [each.name for each in there]
        at = places.index(twice[1]) if twice[1] in places else len(call.args)
        message = f"{signature} is given {twice[1]!r} by its place and by its name"
        edits = _fewer(site.text, call, len(call.args) - at)
        yield Finding("too_many_arguments", message, step, edits, 0.85)


def _keyword(
    text: StepText, call: ast.Call, wrong: str, names: list[str], signature: str
) -> Finding:
    given = next((each for each in call.keywords if each.arg == wrong), None)
    free = [each for each in names if each not in {one.arg for one in call.keywords}]
    meant, sure = nearest(wrong, free)
    edits: tuple[Edit, ...] = ()
    if meant and given is not None:
        start = text.start(given)
        edits = (Edit(text.step, start, start + len(wrong), meant),)
    shown = repr(meant) if meant else signature
    message = f"there is no argument {wrong!r}; there is {shown}"
    return Finding("argument_typo", message, text.step, edits, sure or 0.85)


def _given(case: Case, site: Site, call: ast.Call, names: list[str]) -> tuple[Edit, ...]:
    """Variables with the names of the missing parameters."""
    there = {*site.local, *case.values}
    if not all(name in there for name in names):
        return ()
    more = ", ".join(f"{name}={name}" for name in names)
    last = [*call.args, *call.keywords]
    at = site.text.end(call) - 1
    return (site.text.insert(at, f", {more}" if last else more),)


def _fewer(text: StepText, call: ast.Call, extra: int) -> tuple[Edit, ...]:
    """The call without its last positional arguments."""
    if not 0 < extra <= len(call.args) or any(isinstance(e, ast.Starred) for e in call.args):
        return ()
    kept, gone = call.args[: len(call.args) - extra], call.args[len(call.args) - extra :]
    start, end = text.start(gone[0]), text.end(gone[-1])
    if kept:
        start = text.end(kept[-1])
    elif call.keywords:
        end = text.start(call.keywords[0])
    return (Edit(text.step, start, end, ""),)


def _without_self(case: Case) -> Finding | None:
    """`def method():` in a class of a step."""
    named = _METHOD.match(case.message)
    found = case.definition(named[2], named[1]) if named is not None else None
    if named is None or found is None:
        return None
    text, node = found
    first = next(iter([*node.args.posonlyargs, *node.args.args]), None)
    if node.decorator_list or (first is not None and first.arg in ("self", "cls")):
        return None
    at = text.source.index("(", text.start(node)) + 1
    alone = text.source[at:].lstrip().startswith(")")
    edit = text.insert(at, "self" if alone else "self, ")
    message = f"{named[1]}.{named[2]} has no parameter self"
    return Finding("missing_self", message, text.step, (edit,), 0.95)


def _shown(parameter: inspect.Parameter) -> str:
    return str(parameter.replace(annotation=inspect.Parameter.empty))


@rule(TypeError)
def not_callable(case: Case) -> Iterator[Finding]:
    """`xs(0)` for `xs[0]`, a property that is called, a module with the name of its class."""
    found = failing_call(case)
    if found is None or "object is not callable" not in case.message:
        return
    site, call = found
    text, value = site.text, case.value(call.func, site)
    name = text.of(call.func)
    if inspect.ismodule(value):
        last = value.__name__.rpartition(".")[2]
        edits = (text.replace(call.func, f"{name}.{last}"),) if hasattr(value, last) else ()
        message = f"{name} is a module" + (f"; {name}.{last} can be called" if edits else "")
        yield Finding("module_called", message, text.step, edits, 0.93)
    elif hasattr(type(value), "__getitem__") and len(call.args) == 1 and not call.keywords:
        start, end = text.end(call.func), text.start(call.args[0])
        edits = (
            Edit(text.step, start, end, "["),
            Edit(text.step, text.end(call.args[0]), text.end(call), "]"),
        )
        message = f"{name} is {of_kind(value)}: its items are in square brackets"
        yield Finding("called_not_indexed", message, text.step, edits, 0.85)
    elif isinstance(call.func, ast.Attribute) and not call.args and not call.keywords:
        edit = Edit(text.step, text.end(call.func), text.end(call), "")
        message = f"{name} is a value, not a method"
        yield Finding("not_a_method", message, text.step, (edit,), 0.85)


@rule(TypeError)
def not_called(case: Case) -> Iterator[Finding]:
    """`for k, v in d.items:` and `f[x]`: a call without its parentheses."""
    if not re.search(r"'(builtin_function_or_method|method|function|type)'", case.message):
        return
    text = case.site.text
    for node in case.nodes():
        if not isinstance(node, ast.Attribute | ast.Name):
            continue
        holder = text.parents.get(node)
        called = isinstance(holder, ast.Call) and node is holder.func
        if called or isinstance(holder, ast.Attribute):
            continue
        value = case.value(node)
        if value is UNKNOWN and isinstance(node, ast.Attribute):
            owner = case.value(node.value)
            value = attribute_of(owner, node.attr) if owner is not UNKNOWN else UNKNOWN
        if value is UNKNOWN or not callable(value) or isinstance(value, type):
            continue
        edit = text.insert(text.end(node), "()")
        if (
            isinstance(holder, ast.Subscript)
            and holder.value is node
            and isinstance(node, ast.Name)
        ):
            edit = Edit(text.step, text.end(node), text.end(holder), f"({text.of(holder.slice)})")
        message = f"{text.of(node)} is a function that is not called"
        yield Finding("not_called", message, text.step, (edit,), 0.92)
        return


RULES: Final = (arguments, not_callable, not_called)
