"""Reads a file of steps as cells and as a graph, and writes it: for all commands of `lorimer
steps`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING

import click

from lorimer.cli.fail import Fault, suggest
from lorimer.cli.text import one_line

if TYPE_CHECKING:
    from lorimer.esg import ExecutionStateGraph
    from lorimer.esg.notebooks.cells import Cell

file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
NOTEBOOK = ".ipynb"


def text_of(file: Path) -> str:
    """The text of the file, with its line ends unchanged. Raises Fault."""
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            return opened.read()
    except OSError as error:
        raise Fault(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Fault(f"{file} is not UTF-8 text", hint="Save it as UTF-8.") from error


def without_mark(text: str) -> str:
    """The text without the byte order mark that editors on Windows add."""
    return text.removeprefix("\ufeff")


def cells_of(file: Path, *, prose: bool = False) -> list[Cell]:
    """The code cells of a file; `prose`: all its cells."""
    from lorimer.esg.notebooks.cells import CODE
    from lorimer.esg.notebooks.formats import read

    try:
        cells = read(without_mark(text_of(file)), notebook=file.suffix == NOTEBOOK)
    except ValueError as error:
        raise Fault(f"{file}: {error}") from error
    return [cell for cell in cells if prose or cell.kind == CODE]


def graph_of(file: Path) -> ExecutionStateGraph:
    """The graph of a file, without lines of notebook magics. Nothing is run."""
    from lorimer.esg import ExecutionStateGraph
    from lorimer.esg.notebooks.cells import load, without_magics

    graph = ExecutionStateGraph()
    load(graph, [without_magics(cell) for cell in cells_of(file)])
    return graph


def given(file: Path) -> dict[str, object]:
    """The names that exist before the file runs: `display` in a notebook, `__file__` in a
    script."""
    return {"display": _display} if file.suffix == NOTEBOOK else {"__file__": str(file.resolve())}


def _display(*values: object) -> None:
    for value in values:
        print(value if isinstance(value, str) else repr(value))


def unresolved(file: Path, graph: ExecutionStateGraph, step: str) -> dict[str, str]:
    """Names that a step reads and no earlier step makes -> the later step that makes it, or ""."""
    found = graph.unresolved(step)
    return {name: later for name, later in found.items() if name not in given(file)}


def known(graph: ExecutionStateGraph, step: str) -> str:
    """`step`, if it exists. Raises Fault."""
    if step not in graph:
        raise Fault(
            f"there is no step {step!r}{suggest(step, graph.steps)}",
            hint=f"Steps: {one_line(', '.join(graph.steps))}",
        )
    return step


def write(file: Path, text: str) -> None:
    """Write the file atomically, keeping its permissions. Raises Fault."""
    target = file.resolve()
    try:
        handle, part = mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise Fault(f"{file} cannot be written: {error.strerror}") from error
    try:
        with open(handle, "w", encoding="utf-8", newline="") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        if target.exists():
            shutil.copymode(target, part)
        else:
            os.chmod(part, 0o666 & ~_umask())
        os.replace(part, target)
    except OSError as error:
        os.unlink(part)
        raise Fault(f"{file} cannot be written: {error.strerror}") from error
    except BaseException:
        os.unlink(part)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
