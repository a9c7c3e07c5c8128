"""What the fields of a class are for: the strings beneath them, for schemas that people read.

Pydantic's `use_attribute_docstrings` does that too, but reads the sources whenever a class is made,
so at each import, and knows nothing of dataclasses.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import cast

from pydantic import BaseModel

from lorimer.core.jsonable import JSON, fields_of


class Notes:
    """Reads the sources of classes, each file once. A class without a source has no notes."""

    def __init__(self) -> None:
        self._read: dict[str, Mapping[str, Mapping[str, str]]] = {}

    def of(self, kind: type) -> dict[str, str]:
        """Field to its note, with those of its bases."""
        found: dict[str, str] = {}
        for base in reversed(kind.__mro__):
            if base.__module__ not in self._read:
                self._read[base.__module__] = _read(base.__module__)
            found.update(self._read[base.__module__].get(base.__qualname__, {}))
        return found

    def schema(self, model: type[BaseModel]) -> dict[str, JSON]:
        """The JSON Schema of a model, with a description of each field that has a note."""
        made = cast("dict[str, JSON]", model.model_json_schema())
        self.add(made, model)
        return made

    def add(self, schema: Mapping[str, JSON], kind: type) -> None:
        """Describe the properties of an object's schema by the fields of a class."""
        notes, fields = self.of(kind), schema.get("properties")
        for name, field in fields_of(fields).items():
            if name in notes and isinstance(field, dict):
                field.setdefault("description", notes[name])


def _read(module: str) -> Mapping[str, Mapping[str, str]]:
    """The notes of a module's classes, by qualified name."""
    if module == "builtins" or module not in sys.modules:
        return {}
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, SyntaxError):
        return {}
    return dict(_classes(tree, ""))


def _classes(holder: ast.AST, prefix: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for node in ast.iter_child_nodes(holder):
        inside = prefix
        if isinstance(node, ast.ClassDef):
            yield f"{prefix}{node.name}", dict(_fields(node))
            inside += f"{node.name}."
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside += f"{node.name}.<locals>."
        if not isinstance(node, ast.expr):
            yield from _classes(node, inside)


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, note in zip(node.body, node.body[1:], strict=False):
        match field, note:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, " ".join(text.split())
            case _:
                pass
