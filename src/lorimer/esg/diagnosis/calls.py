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
from lorimer.esg.diagnosis.values import UNKNOWN, attribute_of, first, of_kind, size_of
from lorimer.esg.patches import Edit

_KEYWORD: Final = re.compile(r"unexpected keyword argument '(\w+)'|'(\w+)' is an invalid keyword")
_MISSING: Final = re.compile(r"missing \d+ required (?:positional|keyword-only) arguments?: (.*)")
_TOO_MANY: Final = re.compile(
    r"takes (?:from \d+ to )?(\d+) positional arguments? but (\d+) (?:was|were)"
)
_TWICE: Final = re.compile(r"got multiple values for argument '(\w+)'")
_METHOD: Final = re.compile(r"^(\w+)\.(\w+)\(\) takes")
_UNPACK: Final = re.compile(
    r"(?:too many|not enough) values to unpack \(expected (?:at least )?(\d+)"
)


def function_of(case: Case, call: ast.Call, site: Site) -> tuple[Callable[..., object] | None, int]:
    """What is called, and how many of its first parameters are bound already."""
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
    """Those that a call may fill; none if Python does not tell."""
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
    """An argument of another name, one too many, one that is missing."""
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
        if function is not None and not names:  # written in C: its help tells
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
    """Names that are called as the parameters that are missing."""
    there = {*site.local, *case.values}
    if not all(name in there for name in names):
        return ()
    more = ", ".join(f"{name}={name}" for name in names)
    last = [*call.args, *call.keywords]
    at = site.text.end(call) - 1
    return (site.text.insert(at, f", {more}" if last else more),)


def _fewer(text: StepText, call: ast.Call, extra: int) -> tuple[Edit, ...]:
    """The call without its last arguments by place."""
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
    """`xs(0)` for `xs[0]`, a property that is called, a module that has the name of its class."""
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
    """`for k, v in d.items:` and `f[x]`: the brackets of a call are missing."""
    if not re.search(r"'(builtin_function_or_method|method|function|type)'", case.message):
        return
    site = case.site
    for top in [site.node] if site.node is not None else [*site.text.in_line(site.line)]:
        for node in ast.walk(top):
            if not isinstance(node, ast.Attribute | ast.Name):
                continue
            if isinstance(site.text.parents.get(node), ast.Call | ast.Attribute):
                parent = site.text.parents[node]
                if not isinstance(parent, ast.Call) or node is parent.func:
                    continue
            value = case.value(node)
            if value is UNKNOWN and isinstance(node, ast.Attribute):
                owner = case.value(node.value)
                value = attribute_of(owner, node.attr) if owner is not UNKNOWN else UNKNOWN
            if value is UNKNOWN or not callable(value) or isinstance(value, type):
                continue
            holder = site.text.parents.get(node)
            if (
                isinstance(holder, ast.Subscript)
                and holder.value is node
                and isinstance(node, ast.Name)
            ):
                start, end = site.text.end(node), site.text.end(holder)
                inside = site.text.of(holder.slice)
                edit = Edit(site.text.step, start, end, f"({inside})")
            else:
                edit = site.text.insert(site.text.end(node), "()")
            message = f"{site.text.of(node)} is a function that is not called"
            yield Finding("not_called", message, site.text.step, (edit,), 0.92)
            return


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
    """How many values there are: as Python says, as it is, as the function returns; 0: unknown."""
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
            for node in ast.walk(case.text(step).tree):
                if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
                    for each in ast.walk(node):
                        if isinstance(each, ast.Return) and isinstance(each.value, ast.Tuple):
                            return len(each.value.elts)
    return 0


def _renamed(
    case: Case, text: StepText, target: ast.Tuple | ast.List, wanted: int, given: int
) -> tuple[Edit, ...]:
    """More names at the end (those that nobody makes, else `_`), or fewer."""
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


RULES: Final = (arguments, not_callable, not_called, unpacking)
