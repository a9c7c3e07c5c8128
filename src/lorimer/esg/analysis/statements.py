"""Statements, walked in execution order: which paths exist, and which names each has covered.

This is reaching definitions, a forward data-flow analysis (Aho, Lam, Sethi, Ullman: Compilers,
9.2.4), for one step, with the set of names whose earlier definition is no longer visible.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import Final

from lorimer.esg.analysis import bindings as names
from lorimer.esg.analysis.expressions import Expressions, handlers, named_by_text
from lorimer.esg.analysis.mutators import SUPPRESSORS
from lorimer.esg.analysis.scopes import Frame, Late, root


class Statements(Expressions):
    """Walks statements in execution order; a path leaves the set of names it has covered."""

    def body(self, statements: Iterable[ast.stmt]) -> bool:
        """Whether the end of these statements can be reached."""
        for statement in statements:
            handler = _HANDLERS.get(type(statement))
            if handler is None:
                self.children(statement)
            elif handler(self, statement) is False:
                return False
        return True

    def branches(self, bodies: Iterable[Sequence[ast.stmt]]) -> bool:
        """One of these runs."""
        before, ends = self.covered, list[set[str]]()
        for statements in bodies:
            self.covered = set(before)
            if self.body(statements):
                ends.append(self.covered)
        self.covered = set[str].intersection(*ends) if ends else before
        return bool(ends)

    def expression_statement(self, node: ast.Expr) -> None:
        self.expr(node.value)

    def assign(self, node: ast.Assign) -> None:
        value = node.value
        only = node.targets[0]
        if len(node.targets) == 1 and isinstance(only, ast.Name) and not self._frames:
            if isinstance(value, ast.Lambda):
                late = self.function(value, value.args, [value.body])
                self.store(only.id)
                self._keep(only.id, late)
                return
            if isinstance(value, ast.Name):
                self.load(value.id)
                self.store(only.id)
                group = self._aliases.setdefault(value.id, {value.id})
                group.add(only.id)
                self._aliases[only.id] = group
                return
        self.expr(value)
        for target in node.targets:
            self.target(target)

    def target(self, node: ast.expr) -> None:
        if isinstance(node, ast.Name):
            self.store(node.id)
        elif isinstance(node, ast.Tuple | ast.List):
            for element in node.elts:
                self.target(element)
        elif isinstance(node, ast.Starred):
            self.target(node.value)
        elif (name := named_by_text(node)) is not None:
            self.store(name)
        else:
            self.children(node)
            self.mutate(node)

    def augmented(self, node: ast.AugAssign) -> None:
        self.expr(node.value)
        target = node.target
        if not isinstance(target, ast.Name):
            self.expr(target)
            self.target(target)
            return
        self.load(target.id)
        shared = self._aliases.get(target.id, set()) if not self._frames else set[str]()
        self.writes |= shared  # a list is changed in place
        self.store(target.id)

    def annotated(self, node: ast.AnnAssign) -> None:
        in_function = bool(self._frames) and self._frames[-1].kind is not ast.ClassDef
        if not (in_function and isinstance(node.target, ast.Name)):
            self.annotation(node.annotation)
        if node.value is not None:
            self.expr(node.value)
            self.target(node.target)
        elif not isinstance(node.target, ast.Name):
            self.children(node.target)

    def delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            for element in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
                if isinstance(element, ast.Name):
                    self.load(element.id)
                    self.store(element.id)
                elif (name := named_by_text(element)) is not None:
                    self.load(name)
                    self.store(name)
                else:
                    self.children(element)
                    self.mutate(element)

    def if_(self, node: ast.If) -> bool:
        self.expr(node.test)
        return self.branches([node.body, node.orelse])

    def for_(self, node: ast.For | ast.AsyncFor) -> bool:
        self.expr(node.iter)
        before = set(self.covered)
        self.target(node.target)
        self._breaks.append([])
        self.body(node.body)
        self.covered = before
        return self._after_loop(node)

    def while_(self, node: ast.While) -> bool:
        self.expr(node.test)
        before = set(self.covered)
        self._breaks.append([])
        self.body(node.body)
        if isinstance(node.test, ast.Constant) and node.test.value:
            broken = self._breaks.pop()
            self.covered = set[str].intersection(*broken) if broken else before
            return bool(broken)
        self.covered = before
        return self._after_loop(node)

    def _after_loop(self, node: ast.For | ast.AsyncFor | ast.While) -> bool:
        """`else` runs unless the loop was left by `break`."""
        ends = self._breaks.pop()
        if self.body(node.orelse):
            ends.append(self.covered)
        if ends:
            self.covered = set[str].intersection(*ends)
        return bool(ends)

    def break_(self, _node: ast.Break) -> bool:
        if self._breaks:
            self._breaks[-1].append(set(self.covered))
        return False

    def leave(self, node: ast.stmt) -> bool:
        self.children(node)
        return False

    def try_(self, node: ast.Try | ast.TryStar) -> bool:
        before = set(self.covered)
        ends = list[set[str]]()
        if self.body(node.body) and self.body(node.orelse):
            ends.append(self.covered)
        for handler in node.handlers:
            self.covered = set(before)
            if handler.type is not None:
                self.expr(handler.type)
            if handler.name is not None:
                self.store(handler.name)
            if self.body(handler.body):
                ends.append(self.covered)
        self.covered = set(before)
        last = self.body(node.finalbody)
        if ends:
            self.covered |= set[str].intersection(*ends)
        return last and bool(ends)

    def with_(self, node: ast.With | ast.AsyncWith) -> bool:
        swallows = False
        for item in node.items:
            self.expr(item.context_expr)
            swallows |= _swallows(item.context_expr)
            if item.optional_vars is not None:
                self.target(item.optional_vars)
        before = set(self.covered)
        ended = self.body(node.body)
        if swallows:
            self.covered = before
        return ended or swallows

    def match_(self, node: ast.Match) -> bool:
        self.expr(node.subject)
        before, ends, always = self.covered, list[set[str]](), False
        for case in node.cases:
            self.covered = set(before)
            self.pattern(case.pattern)
            if case.guard is not None:
                self.expr(case.guard)
            if self.body(case.body):
                ends.append(self.covered)
            always |= case.guard is None and _irrefutable(case.pattern)
        if not always:
            ends.append(before)
        self.covered = set[str].intersection(*ends) if ends else before
        return bool(ends)

    def pattern(self, node: ast.pattern) -> None:
        for part in ast.walk(node):
            if isinstance(part, ast.MatchValue):
                self.expr(part.value)
            elif isinstance(part, ast.MatchClass):
                self.expr(part.cls)
            elif isinstance(part, ast.MatchMapping):
                for key in part.keys:
                    self.expr(key)
                if part.rest is not None:
                    self.store(part.rest)
            elif isinstance(part, ast.MatchAs | ast.MatchStar) and part.name is not None:
                self.store(part.name)

    def import_(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            return
        for alias in node.names:
            if alias.name == "*":
                self.unknown_writes = True
            else:
                self.store(names.imported(alias))

    def alias_type(self, node: ast.stmt) -> None:
        """`type X = ...`: the value is evaluated on demand."""
        name, value = (part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr))
        late = Late()
        with self._lazily(late), self._type_parameters(node):
            self.expr(value)
        if isinstance(name, ast.Name):
            self.store(name.id)
            self._keep(name.id, late)

    def class_(self, node: ast.ClassDef) -> None:
        for expression in node.decorator_list:
            self.expr(expression)
        whole = self._class if self._class is not None and self._late is None else Late()
        outer, self._class = self._class, whole
        with self._type_parameters(node):
            for base in node.bases:
                self.expr(base)
            for keyword in node.keywords:
                self.expr(keyword.value)
            prefix = f"{len(self._frames)} {node.name}."
            self._frames.append(Frame(ast.ClassDef, set(), _globals_of(node.body), prefix))
            self.body(node.body)
            self._frames.pop()
        self._class = outer
        self.store(node.name)
        if self._late is not None:
            return
        if outer is None:
            self._keep(node.name, whole)
        if node.decorator_list or node.keywords:
            self._use(whole)

    def function_(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for expression in node.decorator_list:
            self.expr(expression)
        late = self.function(node, node.args, node.body, node.returns)
        self.store(node.name)
        self._keep(node.name, late)
        if node.decorator_list and self._late is None:
            self._use(late)


def _globals_of(body: Sequence[ast.stmt]) -> set[str]:
    """The names that a class body declares `global`."""
    return {name for each in body if isinstance(each, ast.Global) for name in each.names}


def _swallows(node: ast.expr) -> bool:
    """`with suppress(...)`: the end of the body may not be reached, but what follows runs."""
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else root(called)
    return name in SUPPRESSORS


def _irrefutable(pattern: ast.pattern) -> bool:
    return isinstance(pattern, ast.MatchAs) and (
        pattern.pattern is None or _irrefutable(pattern.pattern)
    )


_HANDLERS: Final = handlers(
    Statements,
    {
        "Expr": "expression_statement",
        "Assign": "assign",
        "AugAssign": "augmented",
        "AnnAssign": "annotated",
        "Delete": "delete",
        "If": "if_",
        "For": "for_",
        "AsyncFor": "for_",
        "While": "while_",
        "Break": "break_",
        "Continue": "leave",
        "Return": "leave",
        "Raise": "leave",
        "Try": "try_",
        "TryStar": "try_",
        "With": "with_",
        "AsyncWith": "with_",
        "Match": "match_",
        "Import": "import_",
        "ImportFrom": "import_",
        "TypeAlias": "alias_type",
        "ClassDef": "class_",
        "FunctionDef": "function_",
        "AsyncFunctionDef": "function_",
        "Global": "nothing",
        "Nonlocal": "nothing",
        "Pass": "nothing",
    },
)
