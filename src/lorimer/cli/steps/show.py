"""`lorimer steps show`: shows the graph in the terminal, as JSON, or as a page."""

from __future__ import annotations

import ast
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import click

from lorimer.cli.options import json_option
from lorimer.cli.printing import padding, truncated
from lorimer.cli.steps.file import file_argument, graph_of, unresolved, write
from lorimer.cli.text import on_line, print_json
from lorimer.esg.analysis.parsing import parsed

if TYPE_CHECKING:
    from lorimer.core.jsonable import JSON
    from lorimer.esg import ExecutionStateGraph

_STEP: Final = 34
_MAKES: Final = 30
_PIPED: Final = 1_000
"""Columns if stdout is not a terminal: nothing is truncated."""


@click.command()
@file_argument
@click.option("--all", "whole", is_flag=True, help="Also show imported names; truncate nothing.")
@json_option("Steps and edges as one JSON object.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a self-contained HTML page instead. With outputs: `steps run --html`.",
)
def show(file: Path, whole: bool, as_json: bool, html: Path | None) -> None:
    """Show which steps make what each step of FILE reads. Nothing is run."""
    graph = graph_of(file)
    if as_json:
        nodes = [{**graph.get_node(step), "outputs": {}} for step in graph.steps]
        print_json(cast("JSON", {"steps": nodes, "edges": graph.edges()}))
    elif html is not None:
        from lorimer.esg.notebooks.page import page

        write(html, page(graph, {}, file.name))
    else:
        for line in _table(file, graph, whole):
            click.echo(line)


def _table(file: Path, graph: ExecutionStateGraph, whole: bool) -> Iterable[str]:
    from rich.cells import cell_len

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() and not whole else _PIPED
    modules = {step: _imports(graph.source(step)) for step in graph.steps}
    heads = {step: _head(step, graph.source(step)) for step in graph.steps}
    makes = {step: ", ".join(graph.get_node(step)["writes"]) for step in graph.steps}
    wide = min(max([cell_len(each) for each in heads.values()], default=0), _STEP)
    broad = min(max([cell_len(each) for each in makes.values()], default=0), _MAKES)
    left_out = False
    for step in graph.steps:
        node = graph.get_node(step)
        by: dict[str, list[str]] = {}
        for name, maker in node["makers"].items():
            if whole or name not in modules[maker]:
                by.setdefault(maker, []).append(name)
            else:
                left_out = True
        reads = [f"{', '.join(names)} ← {maker}" for maker, names in by.items()]
        told = truncated(" · ".join(reads), max(width - wide - broad - 4, 20))
        lost = [
            f"only {later}, behind it, makes {name}" if later else f"nobody makes {name}"
            for name, later in unresolved(file, graph, step).items()
        ]
        made = on_line(makes[step]) if whole else truncated(makes[step], broad)
        columns = [(truncated(heads[step], wide), wide), (made, broad), (told, 0)]
        columns += [(on_line(", ".join(lost)), 0)] if lost else []
        columns += [(on_line(f"no Python: {node['error']}"), 0)] if node["error"] else []
        while not columns[-1][0]:
            columns.pop()
        colours = (None, "green", None, "red", "red")
        yield "  ".join(
            click.style(text, fg=colour, bold=not at) + padding(text, width)
            for at, ((text, width), colour) in enumerate(zip(columns, colours, strict=False))
        ).rstrip()
    if left_out:
        yield click.style("(what imports make is left out: --all)", dim=True)


def _head(step: str, source: str) -> str:
    """A step's name; for one that has only a number, also the beginning of its code."""
    if not step.isdecimal():
        return step
    lines = [line for line in source.split("\n") if line.strip() and not line.startswith("#")]
    return f"{step:>3} {lines[0].strip()}" if lines else step


def _imports(source: str) -> set[str]:
    """Names that a step makes by importing."""
    tree = parsed(source)
    return {
        (alias.asname or alias.name).partition(".")[0]
        for node in (tree.body if tree else ())
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
