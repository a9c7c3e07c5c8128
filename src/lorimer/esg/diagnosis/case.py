"""A failed step as the rules see it: where it failed, and what existed there.

Nothing of a step runs again. Values come from the frames of the traceback and from the session; an
expression is evaluated only as far as that runs no code of others: names, attributes stored in a
`__dict__`, items of Python's own containers.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Final

from lorimer.esg.analysis.bindings import targets
from lorimer.esg.diagnosis.texts import StepText
from lorimer.esg.diagnosis.values import UNKNOWN, attribute_of, item_of
from lorimer.esg.execution.results import StepResult
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.steps import ABSENT

_BUILTINS: Final[Mapping[str, object]] = vars(builtins)
_FUNCTION: Final = inspect.CO_OPTIMIZED
_MOST_SAID: Final = 2_000
"""Characters of an error's message."""


@dataclass(frozen=True, eq=False)
class Site:
    """A place in a step's code that was running when the step failed."""

    text: StepText
    line: int
    code: types.CodeType | None
    last: int
    """The offset of its current instruction."""
    local: Mapping[str, object]
    """Local names of the function that it is in."""

    @cached_property
    def node(self) -> ast.AST | None:
        """The expression or statement being evaluated, if Python tells."""
        return _node(self.text, self.code, self.last) if self.code is not None else None

    @property
    def function(self) -> str:
        """The function that it is in; empty for none."""
        inside = self.code is not None and self.code.co_flags & _FUNCTION
        return self.code.co_name if inside and self.code is not None else ""


def _told(message: str) -> str:
    """An error's message, truncated to a readable length: a step may have made it."""
    if len(message) <= _MOST_SAID:
        return message
    return f"{message[: _MOST_SAID // 2]}...{message[-_MOST_SAID // 2 :]}"


class Case:
    """A failed step. Rules examine it and return findings."""

    def __init__(self, result: StepResult, error: BaseException, esg: ExecutionStateGraph) -> None:
        self.result, self.error, self.esg = result, error, esg
        self.step = result.step_id
        self.known = self.step in esg
        self.message = _told(result.failure.message if result.failure is not None else "")
        self._texts = {self.step: StepText(self.step, result.source)}

    @cached_property
    def values(self) -> dict[str, object]:
        """Every name that the step saw or bound."""
        return self.result.namespace

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Where the step failed: the innermost function of a step first, then its callers."""
        return tuple(_sites(self)) or (Site(self.text(self.step), self._line, None, 0, {}),)

    @property
    def site(self) -> Site:
        return self.sites[0]

    @property
    def _line(self) -> int:
        return (self.result.failure.line if self.result.failure is not None else None) or 1

    def text(self, step: str) -> StepText:
        """A step's code, parsed once: for the failed step as it was then, for others as it is."""
        found = self._texts.get(step)
        if found is None:
            found = self._texts[step] = StepText(step, self.esg.source(step))
        return found

    @property
    def looked_at(self) -> Iterable[StepText]:
        return self._texts.values()

    def maker(self, name: str) -> str:
        """The last earlier step that makes the name; empty if none does."""
        return self.esg.maker(name, self.step) if self.known else ""

    def makers(self, name: str) -> list[str]:
        """Every earlier step that makes the name, the latest first."""
        if not self.known:
            return []
        before = self.esg.steps[: self.esg.steps.index(self.step)]
        return [each for each in reversed(before) if name in self.esg.made(each)]

    def evidence(self, node: ast.AST, site: Site | None = None) -> tuple[str, StepText]:
        """The name that an expression originates from, and the code that makes it.

        A parameter originates from the caller's argument. The code is that of the place itself for
        other local names of a function, and for no name.
        """
        site = site or self.site
        name = root(node)
        given = self._given(name, site) if name in site.local else None
        if given is not None and root(given[0]):
            return self.evidence(*given)
        maker = "" if name in site.local else self.maker(name)
        own = name in names_bound(self.text(self.step)) and site.text.step == self.step
        return name, self.text(maker) if maker and not own else site.text

    def _given(self, name: str, site: Site) -> tuple[ast.expr, Site] | None:
        """Where a local name comes from: an argument, or the list of a loop."""
        outer = next(iter(self.sites[self.sites.index(site) + 1 :]), None)
        node = outer.node if outer is not None else None
        if outer is None or node is None:
            return None
        for part in getattr(node, "generators", ()):
            if name in targets(part.target):
                return part.iter, outer
        if not isinstance(node, ast.Call):
            return None
        for function in site.text.functions(site.function)[:1]:
            names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
            places = dict(zip(names, node.args, strict=False))
            places |= {each.arg: each.value for each in node.keywords if each.arg}
            return (places[name], outer) if name in places else None
        return None

    def said(self, name: str, step: str) -> str:
        """`'total' of load`, or `'total'` if the failing step made it itself."""
        return f"{name!r} of {step}" if name and step != self.step else f"{name!r}"

    def visible(self) -> list[str]:
        """The names that could be meant there, nearest scope first."""
        own = names_bound(self.site.text)
        return [*self.site.local, *own, *self.values, *_BUILTINS]

    def definition(
        self, function: str, inside: str = ""
    ) -> tuple[StepText, ast.FunctionDef | ast.AsyncFunctionDef] | None:
        """The latest definition of a function in this step or an earlier one; `inside`: a class."""
        before = self.esg.steps[: self.esg.steps.index(self.step)] if self.known else ()
        for step in [self.step, *reversed(before)]:
            if step != self.step and function not in self.esg.source(step):
                continue
            text = self.text(step)
            for node in text.functions(function):
                holder = text.parents.get(node)
                if inside in ("", holder.name if isinstance(holder, ast.ClassDef) else ""):
                    return text, node
        return None

    def nodes(self) -> Iterator[ast.AST]:
        """All parts of what failed: of the failing expression, else of the line."""
        site = self.site
        for top in [site.node] if site.node is not None else site.text.in_line(site.line):
            yield from ast.walk(top)

    def names(self) -> Iterator[ast.Name]:
        """Names read where it failed: in the failing expression, else in the line."""
        for node in self.nodes():
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                yield node

    def calls(self) -> Iterator[ast.Call]:
        """The failing call, from the innermost place outwards; without places the calls of the
        line."""
        for site in self.sites:
            if isinstance(site.node, ast.Call):
                yield site.node
        if self.site.node is None:
            for node in self.site.text.in_line(self.site.line):
                if isinstance(node, ast.Call):
                    yield node

    def value(self, node: ast.AST | None, site: Site | None = None) -> object:
        """The value of an expression, or UNKNOWN."""
        site = site or self.site
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                for scope in (site.local, self.values, _BUILTINS):
                    if name in scope:
                        return scope[name]
            case ast.Attribute(value=inner, attr=attribute):
                owner = self.value(inner, site)
                return UNKNOWN if owner is UNKNOWN else attribute_of(owner, attribute)
            case ast.Subscript(value=inner, slice=index):
                return item_of(self.value(inner, site), self.value(index, site))
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as operation, right=right):
                one, other = self.value(left, site), self.value(right, site)
                if type(one) is int and type(other) is int:
                    return one + other if isinstance(operation, ast.Add) else one - other
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value = self.value(operand, site)
                return -value if isinstance(value, int | float) else UNKNOWN
            case _:
                pass
        return UNKNOWN


def root(node: ast.AST) -> str:
    """The name at the start of `a.b[c]` and `a(b)`; empty for none."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Await | ast.Starred):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _sites(case: Case) -> Iterator[Site]:
    """From the traceback, innermost first; frames of libraries are omitted."""
    found = list[types.TracebackType]()
    traceback = case.error.__traceback__
    while traceback is not None:
        found.append(traceback)
        traceback = traceback.tb_next
    for each in reversed(found):
        code = each.tb_frame.f_code
        step = code.co_filename.removeprefix("<step ").removesuffix(">")
        if code.co_filename != f"<step {step}>" or not (step == case.step or step in case.esg):
            continue
        text = case.text(step)
        inside = bool(code.co_flags & _FUNCTION)
        yield Site(
            text,
            each.tb_lineno or 1,
            code,
            each.tb_lasti,
            dict(each.tb_frame.f_locals) if inside else {},
        )


def _node(text: StepText, code: types.CodeType, last: int) -> ast.AST | None:
    place = next(islice(code.co_positions(), last // 2, None), (None, None, None, None))
    line, end_line, column, end_column = place
    if line and end_line and column is not None and end_column is not None:
        return text.at(line, end_line, column, end_column)
    return None


def names_bound(text: StepText) -> list[str]:
    """Names that the code binds anywhere."""
    found = list[str]()
    for node in ast.walk(text.tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                found.append(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.append(name)
            case ast.ClassDef(name=name):
                found.append(name)
            case ast.alias(asname=asname, name=name):
                found.append(asname or name.partition(".")[0])
            case _:
                pass
    return found


def absent(case: Case, maker: str, name: str) -> bool:
    """Whether a step deleted the name."""
    return case.esg.made(maker).get(name) == ABSENT
