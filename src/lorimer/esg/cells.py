"""Scripts with cells (`# %%`) and notebooks, as steps; and a file that was saved again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

from lorimer.core.jsonable import JSON
from lorimer.esg.graph import ExecutionStateGraph
from lorimer.esg.questions import StepError

_MARK: Final = re.compile(r"^# ?%%[ \t]*(.*)$")
_PROSE: Final = re.compile(r"\[(markdown|md|raw)\]")


@dataclass(frozen=True, slots=True)
class Cell:
    """One step of a file. `title` is empty where the file gives none."""

    title: str
    source: str


def of_script(text: str) -> list[Cell]:
    """The cells of a script in the percent format; without a mark it is one. Prose is left out."""
    found = list[Cell]()
    title, lines, prose = "", list[str](), False
    for line in [*text.splitlines(), "# %%"]:
        mark = _MARK.match(line)
        if mark is None:
            lines.append(line)
            continue
        source = "\n".join(lines).strip("\n")
        if source.strip() and not prose:
            found.append(Cell(title, source))
        title, lines = mark[1].strip(), []
        prose = bool(_PROSE.search(title))
    return found


def of_notebook(notebook: JSON) -> list[Cell]:
    """The code cells of a Jupyter notebook (format 4). Raises StepError if it is none."""
    cells = notebook.get("cells") if isinstance(notebook, Mapping) else None
    if not isinstance(cells, list | tuple):
        raise StepError("this is no Jupyter notebook of format 4: it has no list of cells")
    found = list[Cell]()
    for cell in cells:
        if not isinstance(cell, Mapping) or cell.get("cell_type") != "code":
            continue
        source = cell.get("source")
        parts = source if isinstance(source, list | tuple) else [source]
        text = "".join([part for part in parts if isinstance(part, str)]).strip("\n")
        if text.strip():
            found.append(Cell("", text))
    return found


def load(graph: ExecutionStateGraph, cells: list[Cell]) -> None:
    """Make the graph's steps those of a file, with as few edits as there are differences.

    Steps are called by their titles, else by number; what was called keeps its name.
    """
    old = [graph.source(step) for step in graph.steps]
    ids = list(graph.steps)
    matcher = SequenceMatcher(None, old, [cell.source for cell in cells], autojunk=False)
    before = ""
    for kind, low, high, first, last in matcher.get_opcodes():
        steps, new = ids[low:high], cells[first:last]
        if kind == "equal":
            before = steps[-1]
            continue
        for step, cell in zip(steps, new, strict=False):
            graph.edit_step(step, cell.source)
            before = step
        for step in steps[len(new) :]:
            graph.delete_step(step)
        for cell in new[len(steps) :]:
            before = graph.add_step(_name(graph, cell), cell.source, after=before)


def _name(graph: ExecutionStateGraph, cell: Cell) -> str:
    number = len(graph) + 1
    name = cell.title or str(number)
    while name in graph:
        number += 1
        name = f"{cell.title} {number}" if cell.title else str(number)
    return name
