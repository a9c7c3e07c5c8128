"""Resolves names to scopes, and which values can reach them, while a step's code is walked."""

from __future__ import annotations

import ast
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Late:
    """What the body of a function does once the function is used."""

    reads: set[str] = field(default_factory=set[str])
    writes: set[str] = field(default_factory=set[str])
    mutates: set[str] = field(default_factory=set[str])
    used: int = -1

    def add(self, other: Late) -> None:
        self.reads |= other.reads
        self.writes |= other.writes
        self.mutates |= other.mutates


@dataclass(slots=True)
class Frame:
    """A scope inside the module: a function, a class body or a comprehension."""

    kind: type[ast.AST]
    bound: set[str]
    of_module: set[str] = field(default_factory=set[str])
    prefix: str = ""
    """For a class body, whose names are tracked like those of the module: `prefix + name`."""


class Scopes:
    """The names of one step. Single use; subclasses walk the tree."""

    def __init__(self) -> None:
        self.reads: set[str] = set()
        self.writes: set[str] = set()
        self.covered: set[str] = set()  # names whose value from before is no longer visible
        self.unknown_reads = self.unknown_writes = False
        self.future = False  # annotations are strings
        self.walrus_used = True
        self._frames: list[Frame] = []
        self._late: Late | None = None
        self._class: Late | None = None
        self._functions: dict[str, Late] = {}
        self._defined = 0
        self._aliases: dict[str, set[str]] = {}
        self._breaks: list[list[set[str]]] = []
        self._nested = 0

    def finish(self) -> None:
        """Functions not used here will see what is bound at the end."""
        for late in self._functions.values():
            self.reads |= late.reads - self.covered

    # ---------------------------------------------------------------- names

    def load(self, name: str) -> None:
        frames = self._frames
        if frames and (self._owner(name) is not None or name == "__class__"):
            return
        if self._late is not None:
            self._late.reads.add(name)
            return
        if name not in self.covered:
            self.reads.add(name)
        if name in self._functions:
            self._use(self._functions[name])

    def store(self, name: str) -> None:
        frame = next((f for f in reversed(self._frames) if f.kind is not ast.comprehension), None)
        if frame is not None and name not in frame.of_module:
            if frame.kind is ast.ClassDef:
                self.covered.add(frame.prefix + name)
            return
        if self._late is not None:
            self._late.writes.add(name)
            return
        self.writes.add(name)
        self.covered.add(name)
        self._functions.pop(name, None)
        if self._aliases:
            self._aliases.pop(name, set()).discard(name)

    def mutate(self, node: ast.expr) -> None:
        """The object that this expression is part of may change in place."""
        name = root(node)
        if name is None or (self._frames and self._owner(name) is not None):
            return
        if self._late is not None:
            self._late.mutates.add(name)
        else:
            self.writes |= self._aliases.get(name, {name})

    def _owner(self, name: str) -> Frame | None:
        """The scope inside the module that this name belongs to, as seen from here."""
        inner = self._frames[-1]
        for frame in reversed(self._frames):
            if frame.kind is ast.ClassDef and frame is not inner:
                continue
            if name in frame.of_module:
                return None
            if name in frame.bound or (frame.prefix and frame.prefix + name in self.covered):
                return frame
        return None

    def _use(self, late: Late) -> None:
        """It may be called, with what is bound now."""
        waiting = [late]
        while waiting:
            late = waiting.pop()
            if late.used == self._defined:
                continue
            late.used = self._defined
            self.reads |= late.reads - self.covered
            self.writes |= late.writes
            for name in late.mutates:
                self.writes |= self._aliases.get(name, {name})
            waiting += [self._functions[name] for name in late.reads if name in self._functions]

    @contextmanager
    def _lazily(self, late: Late) -> Generator[None]:
        before, self._late = self._late, late
        yield
        self._late = before


def root(node: ast.expr) -> str | None:
    """`a` in `a.b[c].d`."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None
