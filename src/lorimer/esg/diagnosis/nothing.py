"""None and coroutines: values that appear where another value was expected."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator
from typing import Final

from lorimer.esg.analysis.bindings import targets
from lorimer.esg.diagnosis.calls import function_of
from lorimer.esg.diagnosis.case import Case, Site, root
from lorimer.esg.diagnosis.near import nearest
from lorimer.esg.diagnosis.report import Finding
from lorimer.esg.diagnosis.rule import rule
from lorimer.esg.diagnosis.texts import StepText, bound
from lorimer.esg.diagnosis.values import elements, first, keys_of
from lorimer.esg.patching.patches import Edit

IN_PLACE: Final = frozenset(
    "append appendleft clear discard extend extendleft insert remove reverse rotate shuffle sort "
    "subtract update add difference_update intersection_update symmetric_difference_update "
    "heapify".split()
)
"""Methods that change their object and return None."""
_WAITERS: Final = frozenset({"gather", "create_task", "run", "wait_for", "ensure_future"})
"""Functions of asyncio that await their arguments."""


@rule(TypeError, AttributeError)
def none(case: Case) -> Iterator[Finding]:
    """An operand is None: which step made it, and how."""
    error = case.error
    of_none = isinstance(error, AttributeError) and error.obj is None and "NoneType" in case.message
    if not of_none and not (isinstance(error, TypeError) and "NoneType" in case.message):
        return
    for site, node in _operands(case):
        value = case.value(node, site)
        if any(each is None for each in elements(value)):
            yield from _made_none(case, site, node)
            return
        if value is None and not isinstance(node, ast.Constant):
            yield from _made_none(case, site, node)
            return
    for site, node in _operands(case):
        if isinstance(node, ast.Call):
            found = [*_of_call(case, site.text, node, "", None)]
            if found:
                yield from found
                return


def _operands(case: Case) -> Iterator[tuple[Site, ast.expr]]:
    """Expressions at the place that failed; what is operated on comes first."""
    site = case.site
    tops = [site.node] if site.node is not None else [*site.text.in_line(site.line)]
    for top in tops:
        match top:
            case ast.Attribute(value=value) | ast.Subscript(value=value):
                yield site, value
            case ast.BinOp(left=left, right=right):
                yield from ((site, left), (site, right))
            case ast.AugAssign(target=target, value=value):
                yield from ((site, target), (site, value))
            case ast.Assign(value=value) | ast.For(iter=value) | ast.Starred(value=value):
                yield site, value
            case _:
                pass
        holder = site.text.parents.get(top)
        if isinstance(holder, ast.For | ast.comprehension | ast.Assign):
            yield site, holder.iter if not isinstance(holder, ast.Assign) else holder.value
        for node in ast.walk(top):
            if isinstance(node, ast.expr):
                yield site, node


def _made_none(case: Case, site: Site, node: ast.expr) -> Iterator[Finding]:
    """`x = xs.sort()`: the step that made the None is the cause."""
    name, text = case.evidence(node)
    if name in site.local:
        text = site.text
    found = [*_by_assignment(case, text, name, plain=isinstance(node, ast.Name))]
    for each in _sources(case, site, name) if not found else ():
        found = [*_by_assignment(case, case.evidence(each)[1], root(each), plain=False)]
        if found:
            break
    what = f"{name!r}" if isinstance(node, ast.Name) else site.text.of(node)
    by = f"; {text.step} made it" if text.step != case.step else ""
    yield from found or [Finding("none", f"{what} is None{by}", text.step, (), 0.5)]


def _by_assignment(case: Case, text: StepText, name: str, *, plain: bool) -> Iterator[Finding]:
    """Calls in the expressions assigned to a name, the last assignment first."""
    made = [
        each
        for each in ast.walk(text.tree)
        if isinstance(each, ast.Assign | ast.AnnAssign) and name in bound(each)
    ]
    for each in reversed(made):
        targets = each.targets if isinstance(each, ast.Assign) else [each.target]
        for call in ast.walk(each.value or ast.Pass()):
            if isinstance(call, ast.Call):
                whole = each if plain and call is each.value and len(targets) == 1 else None
                found = [*_of_call(case, text, call, name, whole)]
                if found:
                    yield from found
                    return


def _sources(case: Case, site: Site, name: str) -> Iterator[ast.expr]:
    """Where a local name comes from: the list of its loop, the argument of its caller."""
    for node in ast.walk(site.text.tree):
        if isinstance(node, ast.For | ast.comprehension) and name in targets(node.target):
            yield node.iter
    for outer in case.sites[case.sites.index(site) + 1 :]:
        if isinstance(outer.node, ast.Call):
            for given in [*outer.node.args, *(one.value for one in outer.node.keywords)]:
                if case.value(given, outer) is None:
                    yield given


def _of_call(
    case: Case, text: StepText, call: ast.Call, name: str, whole: ast.stmt | None
) -> Iterator[Finding]:
    """This call returns None: it changes in place, has no `return`, or found nothing."""
    function = call.func
    made = f"sets {name!r} to" if name else "uses"
    if isinstance(function, ast.Attribute) and function.attr in IN_PLACE:
        of, method = text.of(function.value), function.attr
        message = f"{text.step} {made} what {method}() gives back, which is None"
        edits: tuple[Edit, ...] = ()
        if whole is not None and of != name:
            edits = (text.replace(whole, f"{text.of(call)}\n{text.indent(whole)}{name} = {of}"),)
        elif whole is not None:
            edits = (text.replace(whole, text.of(call)),)
        elif method == "sort":
            rest = text.source[text.end(function) + 1 : text.end(call) - 1]
            edits = (text.replace(call, f"sorted({of}{', ' * bool(rest)}{rest})"),)
        elif method == "reverse":
            edits = (text.replace(call, f"{of}[::-1]"),)
        yield Finding("none_from_in_place", message, text.step, edits, 0.95)
        return
    if isinstance(function, ast.Attribute) and function.attr == "get" and call.args:
        keys = keys_of(case.value(function.value))
        asked = case.value(call.args[0])
        if isinstance(asked, str) and asked not in keys and keys:
            meant, sure = nearest(asked, keys)
            edits = (text.replace(call.args[0], repr(meant)),) if meant else ()
            there = repr(meant) if meant else ", ".join(map(repr, keys[:8]))
            message = f"get() finds no {asked!r} in {text.of(function.value)}; it has {there}"
            yield Finding("none_from_get", message, text.step, edits, max(sure, 0.7))
        return
    called = function.attr if isinstance(function, ast.Attribute) else root(function)
    defined = case.definition(called) if called else None
    if defined is not None:
        yield from _no_return(*defined)


def _no_return(text: StepText, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Finding]:
    last, edits = node.body[-1], tuple[Edit, ...]()
    useless = next((each for each in ast.walk(node) if _is_useless(each)), None)
    returns = any(isinstance(each, ast.Return) and each.value for each in ast.walk(node))
    if isinstance(useless, ast.Expr):
        edits = (text.insert(text.start(useless), "return "),)
    elif isinstance(last, ast.Expr) and not isinstance(last.value, ast.Constant):
        edits = (text.insert(text.start(last), "return "),)
    elif not returns and len(bound(last)) == 1:
        indent = text.indent(last)
        edits = (text.insert(text.end(last), f"\n{indent}return {next(iter(bound(last)))}"),)
    elif not returns and (name := _built(node)):
        edits = (text.insert(text.end(last), f"\n{text.indent(last)}return {name}"),)
    if returns and not edits:
        if isinstance(last, ast.Return):
            return
        message = f"{node.name} of {text.step} does not return a value on every way"
        yield Finding("none_on_some_way", message, text.step, (), 0.8)
        return
    message = f"{node.name} of {text.step} does not return what it works out"
    yield Finding("no_return", message, text.step, edits, 0.95)


def _is_useless(node: ast.AST) -> bool:
    """A value that is computed and discarded."""
    return isinstance(node, ast.Expr) and not isinstance(
        node.value, ast.Call | ast.Await | ast.Yield | ast.YieldFrom | ast.Constant
    )


def _built(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The name that a function binds first and then fills."""
    own = [each for each in node.body if isinstance(each, ast.Assign)]
    names = [name for each in own for name in bound(each)]
    return names[0] if len(set(names)) == 1 else ""


@rule(TypeError, AttributeError)
def coroutine(case: Case) -> Iterator[Finding]:
    """A coroutine was used instead of its result."""
    error = case.error
    owner = error.obj if isinstance(error, AttributeError) else None
    if not inspect.iscoroutine(owner) and "coroutine" not in case.message:
        return
    for site, node in _operands(case):
        if isinstance(node, ast.Call) and _is_async(case, site, node):
            yield _await(case, site.text, [node], site.text.of(node.func))
            return
        if _waits(case.value(node, site)):
            name, text = case.evidence(node)
            calls = [
                each
                for each in ast.walk(text.tree)
                if isinstance(each, ast.Call)
                and not isinstance(text.parents.get(each), ast.Await)
                and _is_async(case, site, each)
                and not _given_to_asyncio(text, each)
                and (name in bound(text.statement(each) or ast.Pass()) or not name)
            ]
            yield _await(case, text, calls, name or site.text.of(node))
            return


@rule(RuntimeError)
def no_loop(case: Case) -> Iterator[Finding]:
    """`asyncio.gather(...)` without `await`: no loop is running outside of one."""
    if "event loop" not in case.message:
        return
    text = case.site.text
    calls = [
        each
        for each in case.calls()
        if isinstance(each.func, ast.Attribute)
        and root(each.func) == "asyncio"
        and not isinstance(text.parents.get(each), ast.Await)
    ]
    if calls:
        yield _await(case, text, calls[:1], text.of(calls[0].func))


@rule(TypeError)
def awaited(case: Case) -> Iterator[Finding]:
    """`await` of something that is not awaitable."""
    node = case.site.node
    if "'await' expression" in case.message and isinstance(node, ast.Await):
        text = case.site.text
        edit = Edit(text.step, text.start(node), text.start(node.value), "")
        message = f"{text.of(node.value)} is nothing to wait for"
        yield Finding("nothing_to_await", message, text.step, (edit,), 0.95)


def _waits(value: object) -> bool:
    """A coroutine, or a list of coroutines."""
    return inspect.iscoroutine(value) or inspect.iscoroutine(first(value))


def _is_async(case: Case, site: Site, call: ast.Call) -> bool:
    function, _ = function_of(case, call, site)
    return function is not None and inspect.iscoroutinefunction(function)


def _given_to_asyncio(text: StepText, call: ast.Call) -> bool:
    """It is an argument of something that awaits it: `gather`, `create_task`."""
    for each in text.enclosing(call):
        if isinstance(each, ast.stmt):
            return False
        function = each.func if isinstance(each, ast.Call) else None
        if isinstance(function, ast.Attribute) and function.attr in _WAITERS:
            return True
    return False


def _await(case: Case, text: StepText, calls: Iterable[ast.Call], name: str) -> Finding:
    edits = list[Edit]()
    for call in calls:
        holder = text.parents.get(call)
        if isinstance(holder, ast.Attribute | ast.Subscript | ast.BinOp | ast.Call | ast.Starred):
            edits += text.around(call, "(await ", ")")
        else:
            edits.append(text.insert(text.start(call), "await "))
    of = f" of {text.step}" if text.step != case.step else ""
    return Finding("not_awaited", f"{name!r}{of} was not awaited", text.step, tuple(edits), 0.96)


RULES: Final = (none, coroutine, no_loop, awaited)
