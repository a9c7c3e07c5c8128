"""Which names a function binds: they are local, wherever in its body they are bound."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_TARGETS = (ast.Name, ast.Tuple, ast.List, ast.Starred)
"""The only expressions that can bind a name, except `:=`."""


@dataclass(slots=True)
class Bindings:
    """The names of one function body, as the compiler classifies them."""

    local: set[str] = field(default_factory=set[str])
    of_module: set[str] = field(default_factory=set[str])
    """Declared `global`."""
    outer: set[str] = field(default_factory=set[str])
    """Declared `nonlocal`."""


def parameters(arguments: ast.arguments) -> Iterator[str]:
    for group in (arguments.posonlyargs, arguments.args, arguments.kwonlyargs):
        for argument in group:
            yield argument.arg
    if arguments.vararg is not None:
        yield arguments.vararg.arg
    if arguments.kwarg is not None:
        yield arguments.kwarg.arg


def bindings(
    body: Sequence[ast.AST], arguments: ast.arguments | None = None, *, walrus: bool = True
) -> Bindings:
    """What a function with this body and these parameters binds. Nested scopes are not entered.

    `walrus`: whether `:=` occurs; without it most expressions need not be walked.
    """
    found = Bindings()
    if arguments is not None:
        found.local.update(parameters(arguments))
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if not walrus and isinstance(node, ast.expr) and not isinstance(node, _TARGETS):
            continue
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                found.local.add(name)
            case ast.Global(names=names):
                found.of_module.update(names)
            case ast.Nonlocal(names=names):
                found.outer.update(names)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                found.local.update(imported(alias) for alias in aliases)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.local.add(node.name)
                waiting.extend(node.decorator_list)
                if not isinstance(node, ast.ClassDef):
                    waiting.extend(defaults(node.args))
                continue
            case ast.Lambda():
                waiting.extend(defaults(node.args))
                continue
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                found.local.update(walruses(node))
                waiting.append(node.generators[0].iter)
                continue
            case ast.ExceptHandler(name=str() as name):
                found.local.add(name)
            case (
                ast.MatchAs(name=str() as name)
                | ast.MatchStar(name=str() as name)
                | ast.MatchMapping(rest=str() as name)
            ):
                found.local.add(name)
            case _:
                pass
        waiting.extend(ast.iter_child_nodes(node))
    found.local -= found.of_module | found.outer
    return found


def defaults(arguments: ast.arguments) -> Iterator[ast.expr]:
    """What is evaluated when the function is defined."""
    yield from arguments.defaults
    yield from (value for value in arguments.kw_defaults if value is not None)


def imported(alias: ast.alias) -> str:
    """The name that an import binds; `*` for all."""
    return alias.asname or alias.name.partition(".")[0]


def walruses(comprehension: ast.expr) -> Iterator[str]:
    """`:=` in a comprehension binds in the enclosing scope."""
    for node in ast.walk(comprehension):
        if isinstance(node, ast.NamedExpr):
            yield node.target.id


def targets(node: ast.expr) -> Iterator[str]:
    """The plain names bound by an assignment to this target."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Tuple | ast.List):
        for element in node.elts:
            yield from targets(element)
    elif isinstance(node, ast.Starred):
        yield from targets(node.value)
