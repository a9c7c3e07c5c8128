"""The code of a step as a syntax tree, and edits at positions in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lorimer.esg.analysis.parsing import parsed
from lorimer.esg.analysis.text import lines_of
from lorimer.esg.patching.patches import Edit


class StepText:
    """A step's code; the tree is empty if it is not Python."""

    def __init__(self, step: str, source: str) -> None:
        self.step, self.source = step, source
        self.lines = lines_of(source)
        self.tree = parsed(source) or ast.Module([], [])
        self.parents = {
            child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }

    def offset(self, line: int, column: int) -> int:
        """Characters before a position; `column` in bytes, as in syntax trees."""
        before = sum(len(each) for each in self.lines[: line - 1])
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        return before + len(text.encode()[:column].decode("utf-8", "ignore"))

    def start(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        return self.offset(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        return self.offset(node.end_lineno or node.lineno, node.end_col_offset or 0)

    def of(self, node: ast.expr | ast.stmt | ast.keyword) -> str:
        """The text of a node."""
        return self.source[self.start(node) : self.end(node)]

    def replace(self, node: ast.expr | ast.stmt | ast.keyword, text: str) -> Edit:
        return Edit(self.step, self.start(node), self.end(node), text)

    def insert(self, at: int, text: str) -> Edit:
        return Edit(self.step, at, at, text)

    def around(self, node: ast.expr, before: str, after: str) -> tuple[Edit, Edit]:
        """Insert something before and after an expression."""
        return self.insert(self.start(node), before), self.insert(self.end(node), after)

    def top(self) -> int:
        """Where an import can be inserted: after a docstring and `from __future__`."""
        at = 0
        for number, each in enumerate(self.tree.body):
            match each:
                case ast.Expr(value=ast.Constant(value=str())) if number == 0:
                    at = self.end(each)
                case ast.ImportFrom(module="__future__"):
                    at = self.end(each)
                case _:
                    break
        after = self.source.find("\n", at)
        return at if at == 0 else len(self.source) if after < 0 else after + 1

    def import_(self, statement: str) -> Edit:
        """Add an import at the top."""
        at = self.top()
        ended = at == 0 or self.source[at - 1] == "\n"
        return self.insert(at, ("" if ended else "\n") + statement + "\n")

    def named(self, name: str, *contexts: type[ast.expr_context]) -> list[ast.Name]:
        """Where a name stands, in these contexts (`ast.Load`, `ast.Store`), or anywhere."""
        return [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Name)
            and node.id == name
            and isinstance(node.ctx, contexts or ast.expr_context)
        ]

    def functions(self, name: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        """The definitions of functions and methods of this name."""
        return [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
        ]

    def statement(self, node: ast.AST) -> ast.stmt | None:
        """The statement that contains a node."""
        found: ast.AST | None = node
        while found is not None and not isinstance(found, ast.stmt):
            found = self.parents.get(found)
        return found

    def enclosing(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes that contain a node, from the inside out."""
        found = self.parents.get(node)
        while found is not None:
            yield found
            found = self.parents.get(found)

    def indent(self, node: ast.stmt) -> str:
        """The white space before a statement that begins its line."""
        line = self.lines[node.lineno - 1]
        return line[: len(line) - len(line.lstrip())]

    def at(self, line: int, end_line: int, column: int, end_column: int) -> ast.AST | None:
        """The node at exactly this position: the outermost of several, not the statement."""
        for node in ast.walk(self.tree):
            if (
                not isinstance(node, ast.Expr)
                and getattr(node, "lineno", None) == line
                and getattr(node, "col_offset", None) == column
                and getattr(node, "end_lineno", None) == end_line
                and getattr(node, "end_col_offset", None) == end_column
            ):
                return node
        return None

    def in_line(self, line: int) -> Iterator[ast.AST]:
        """The nodes that begin in a line, from the outside in."""
        return (each for each in ast.walk(self.tree) if getattr(each, "lineno", None) == line)


def bound(node: ast.stmt) -> set[str]:
    """The plain names that an assignment binds."""
    found = set[str]()
    match node:
        case ast.Assign(targets=targets):
            parts = targets
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            parts = [target]
        case _:
            return found
    for part in parts:
        found |= {each.id for each in ast.walk(part) if isinstance(each, ast.Name)}
    return found
