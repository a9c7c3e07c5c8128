"""Writes cells as a script, a Jupyter notebook or a marimo notebook, and reads marimo's."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, cast

from lorimer.core.jsonable import JSON
from lorimer.esg.analysis.parsing import NO_PYTHON, fault_of, parsed, tree_of
from lorimer.esg.analysis.text import get_reads
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.questions import StepError
from lorimer.esg.notebooks.cells import (
    CODE,
    Cell,
    all_of_notebook,
    all_of_script,
    is_mark,
    load,
    with_magics,
    without_magics,
)

_MARIMO: Final = "app = marimo.App("
_FOR_PROSE: Final = "import marimo as mo"


def read(text: str, *, notebook: bool) -> list[Cell]:
    """All cells of a file. Raises StepError, and ValueError for invalid JSON."""
    if notebook:
        try:
            whole = cast("JSON", json.loads(text))
        except RecursionError:
            raise StepError("this is not a Jupyter notebook: it is nested too deeply") from None
        return all_of_notebook(whole)
    return of_marimo(text) if _MARIMO in text else all_of_script(text)


# ---------------------------------------------------------------- scripts and notebooks


def to_script(cells: Iterable[Cell]) -> str:
    """In the percent format; magics are commented out."""
    found = list[str]()
    for cell in cells:
        tag = "" if cell.kind == CODE else f"[{cell.kind}]"
        source = without_magics(cell).source
        if cell.kind != CODE:
            source = "\n".join(f"# {line}" if line else "#" for line in source.split("\n"))
        if any(is_mark(line) for line in source.split("\n")):
            raise StepError(
                f"the cell {cell.title or cell.source[:30]!r} has a line that would begin another "
                "cell in a script"
            )
        found.append(f"{' '.join(each for each in ('# %%', cell.title, tag) if each)}\n{source}\n")
    return "\n".join(found)


def to_notebook(cells: Iterable[Cell]) -> str:
    """A Jupyter notebook of format 4, without outputs; commented magics are restored."""
    made = list[JSON]()
    for number, cell in enumerate(cells):
        about: dict[str, JSON] = {"title": cell.title} if cell.title else {}
        source = with_magics(cell).source if cell.kind == CODE else cell.source
        one: dict[str, JSON] = {
            "cell_type": cell.kind,
            "id": f"cell-{number}",
            "metadata": about,
            "source": source.splitlines(keepends=True),
        }
        if cell.kind == CODE:
            one["execution_count"], one["outputs"] = None, ()
        made.append(one)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole: JSON = {
        "cells": made,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


# ---------------------------------------------------------------- marimo


def to_marimo(cells: Iterable[Cell]) -> str:
    """A marimo notebook: a function for each cell, with its reads as parameters.

    Raises StepError if steps cannot be cells of marimo, which allows one cell per name and has no
    order of cells: a name that two steps make, or one that a step changes and another has made.
    """
    cells = [without_magics(cell) for cell in cells]
    graph = ExecutionStateGraph()
    code = [cell for cell in cells if cell.kind == CODE]
    load(graph, code)
    steps = dict(zip(map(id, code), graph.steps, strict=True))
    _check(graph)
    found = ["import marimo\n\napp = marimo.App()\n"]
    for cell in cells:
        step = steps.get(id(cell))
        if step is None:
            found.append(_function("", "(mo)", f"mo.md({cell.source!r})", ()))
            continue
        node = graph.get_node(step)
        makes = sorted(node["writes"])
        name = step if step.isidentifier() else ""
        found.append(_function(name, f"({', '.join(node['makers'])})", node["source"], makes))
    if len(code) < len(cells):
        found.append(_function("", "()", _FOR_PROSE, ("mo",)))
    return "\n\n".join(found) + '\n\nif __name__ == "__main__":\n    app.run()\n'


def _function(name: str, takes: str, body: str, makes: Iterable[str]) -> str:
    inside = _in_strings(body)
    inner = "\n".join(
        line if at in inside or not line.strip() else f"    {line}"
        for at, line in enumerate(body.split("\n"), 1)
    )
    gives = "".join(f"{each}, " for each in makes).rstrip()
    last = f"    return ({gives})" if gives else "    return"
    define = "async def" if _awaits(body) else "def"
    return f"@app.cell\n{define} {name or '_'}{takes}:\n{inner}\n{last}\n"


def _awaits(body: str) -> bool:
    try:
        code = compile(
            tree_of(body), "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
    except NO_PYTHON:
        return False
    return bool(code.co_flags & inspect.CO_COROUTINE)


def _check(graph: ExecutionStateGraph) -> None:
    makers: dict[str, list[str]] = {}
    for step in graph.steps:
        for name in graph.get_node(step)["writes"]:
            makers.setdefault(name, []).append(step)
    for name, steps in makers.items():
        if len(steps) > 1:
            raise StepError(
                f"marimo has one cell for each name, and {name!r} is made or changed by "
                f"{', '.join(steps)}: give the later ones names of their own"
            )


def of_marimo(text: str) -> list[Cell]:
    """The cells of a marimo notebook, in an order in which they can run."""
    try:
        tree = tree_of(text)
    except NO_PYTHON as error:
        raise StepError(f"this is not Python: {fault_of(error)}") from error
    found = list[Cell]()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_cell(node):
            source = _body(node, text.splitlines())
            title = "" if node.name in ("_", "__") else node.name
            prose = _prose(node)
            if prose is not None:
                found.append(Cell(title, prose, "markdown"))
            elif source.strip():
                found.append(Cell(title, source))
        elif isinstance(node, ast.With) and "app.setup" in ast.unparse(node.items[0]):
            found.insert(0, Cell("setup", _lines(node.body, text.splitlines())))
    if not any(_names_mo(cell) for cell in found):
        found = [cell for cell in found if cell.source != _FOR_PROSE]
    return _in_order(found)


def _prose(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str | None:
    """The text of a cell that consists of `mo.md("...")`."""
    match node.body[0]:
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(value=ast.Name(id="mo"), attr="md"),
                args=[ast.Constant(value=str(text))],
            )
        ) if len(node.body) < 3:
            return inspect.cleandoc(text)
        case _:
            return None


def _names_mo(cell: Cell) -> bool:
    return cell.kind == CODE and "mo" in get_reads(cell.source)


def _is_cell(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(each).startswith("app.cell") for each in node.decorator_list)


def _body(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str:
    body = node.body[:-1] if isinstance(node.body[-1], ast.Return) else node.body
    return _lines(body, lines) if body else ""


def _lines(body: list[ast.stmt], lines: list[str]) -> str:
    """The text of statements, moved to the left margin; lines within strings stay."""
    first, end, margin = body[0].lineno, body[-1].end_lineno or 0, body[0].col_offset
    inside = _in_strings("\n".join(lines))
    return "\n".join(
        lines[at - 1] if at in inside else lines[at - 1][margin:] for at in range(first, end + 1)
    )


def _in_strings(source: str) -> set[int]:
    """The lines, from 1, that begin within a string."""
    tree = parsed(source)
    return {
        line
        for node in (ast.walk(tree) if tree else ())
        if isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))
        for line in range(node.lineno + 1, (node.end_lineno or 0) + 1)
    }


def _in_order(cells: list[Cell]) -> list[Cell]:
    """Makers before readers, otherwise in the given order; so are cycles."""
    graph = ExecutionStateGraph()
    for number, cell in enumerate(cells):
        graph.add_step(str(number), cell.source if cell.kind == CODE else "")
    makers: dict[str, int] = {}
    for number in range(len(cells)):
        for name in graph.get_node(str(number))["writes"]:
            makers.setdefault(name, number)
    needs: Mapping[int, set[int]] = {
        number: {makers[name] for name in graph.get_node(str(number))["reads"] if name in makers}
        - {number}
        for number in range(len(cells))
    }
    order, placed = list[int](), set[int]()
    while len(order) < len(cells):
        waiting = [number for number in range(len(cells)) if number not in placed]
        ready = [number for number in waiting if needs[number] <= placed]
        order.append((ready or waiting)[0])
        placed.add(order[-1])
    return [replace(cells[number], place=(0, 0)) for number in order]
