"""Scripts with cells (`# %%`) and notebooks, as steps; and updates when a file is saved again."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final

from lorimer.core.jsonable import JSON
from lorimer.core.linediff import opcodes
from lorimer.esg.analysis.magics import magics
from lorimer.esg.analysis.text import lines_of
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.questions import StepError

_MARK: Final = re.compile(r"^# ?%%(?:[ \t]+(.*))?$")
_PROSE: Final = re.compile(r"(?<! ) *\[(markdown|md|raw)\]")
_WAS: Final = "# magic: "
CODE: Final = "code"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a file. `title` is empty if the file gives none."""

    title: str
    source: str
    kind: str = CODE
    """`code`, which is a step; `markdown`; `raw`."""
    place: tuple[int, int] = field(default=(0, 0), compare=False)
    """In a script the lines of `source`, from 0, without the end; in a notebook the number of the
    cell, and the next."""


def of_script(text: str) -> list[Cell]:
    """The steps of a script in the percent format; a script without marks is one step. Prose is
    omitted."""
    return [cell for cell in all_of_script(text) if cell.kind == CODE]


def all_of_script(text: str) -> list[Cell]:
    """The cells of a script in the percent format, including prose, without its comment signs."""
    found = list[Cell]()
    title, kind, lines, first = "", CODE, list[str](), 0
    for number, line in enumerate([*_lines(text), "# %%"]):
        mark = _MARK.match(line)
        if mark is None:
            lines.append(line)
            continue
        blank = len(lines) - len("\n".join(lines).lstrip("\n").split("\n"))
        source = "\n".join(lines).strip("\n")
        if source.strip():
            begin = first + max(blank, 0)
            place = (begin, begin + source.count("\n") + 1)
            found.append(Cell(title, source if kind == CODE else _bare(source), kind, place))
        title, lines, first, kind = (mark[1] or "").strip(), [], number + 1, CODE
        if prose := _PROSE.search(title):
            title, kind = _PROSE.sub("", title), "raw" if prose[1] == "raw" else "markdown"
    return found


def _lines(text: str) -> list[str]:
    return [line.rstrip("\r\n") for line in lines_of(text)]


def of_notebook(notebook: JSON) -> list[Cell]:
    """The steps of a Jupyter notebook (format 4). Raises StepError if it is not one."""
    return [cell for cell in all_of_notebook(notebook) if cell.kind == CODE]


def all_of_notebook(notebook: JSON) -> list[Cell]:
    """The cells of a Jupyter notebook (format 4), including prose. Raises StepError if it is not
    one, or is in another language."""
    cells = notebook.get("cells") if isinstance(notebook, Mapping) else None
    if isinstance(notebook, Mapping) and (language := _language(notebook)):
        raise StepError(f"this notebook is in {language}; steps are Python")
    if isinstance(notebook, Mapping) and "worksheets" in notebook:
        raise StepError(
            "this is a Jupyter notebook of format 3, not 4: "
            "`jupyter nbconvert --to notebook FILE` converts it"
        )
    if not isinstance(cells, list | tuple):
        raise StepError("this is not a Jupyter notebook of format 4: it has no list of cells")
    found = list[Cell]()
    for number, cell in enumerate(cells):
        if not isinstance(cell, Mapping):
            continue
        source, about, kind = cell.get("source"), cell.get("metadata"), cell.get("cell_type")
        parts = source if isinstance(source, list | tuple) else [source]
        text = "".join([part for part in parts if isinstance(part, str)]).strip("\n")
        title = about.get("title") if isinstance(about, Mapping) else None
        if text.strip() and kind in (CODE, "markdown", "raw"):
            name = " ".join(title.split()) if isinstance(title, str) else ""
            found.append(Cell(name, text, str(kind), (number, number + 1)))
    return found


def _language(notebook: Mapping[str, JSON]) -> str:
    """The language of its cells, if it is given and not Python."""
    about = notebook.get("metadata")
    if not isinstance(about, Mapping):
        return ""
    for part, key in (("language_info", "name"), ("kernelspec", "language")):
        each = about.get(part)
        language = each.get(key) if isinstance(each, Mapping) else None
        if isinstance(language, str) and language and "python" not in language.lower():
            return language
    return ""


def without_magics(cell: Cell) -> Cell:
    """A cell with its magics commented out; `with_magics` reverts that."""
    lines = cell.source.split("\n")
    for at in magics(cell.source) if cell.kind == CODE else ():
        bare = lines[at].lstrip()
        indent = lines[at].removesuffix(bare)
        lines[at] = f"{indent}{'pass  ' if indent else ''}{_WAS}{bare}"
    return replace(cell, source="\n".join(lines))


def with_magics(cell: Cell) -> Cell:
    """A cell with its magics restored."""
    lines = [re.sub(rf"^(\s*)(?:pass  )?{_WAS}", r"\1", line) for line in cell.source.split("\n")]
    return replace(cell, source="\n".join(lines))


def is_mark(line: str) -> bool:
    """Whether a line of a script begins a new cell."""
    return _MARK.match(line) is not None


def _bare(prose: str) -> str:
    """Prose without the comment signs, or triple quotes, that it has in a script."""
    lines = prose.split("\n")
    if lines[0].startswith('"""') and prose.rstrip().endswith('"""') and len(prose) > 5:
        return prose.strip()[3:-3].strip("\n")
    return "\n".join(re.sub(r"^# ?", "", line) for line in lines)


def load(graph: ExecutionStateGraph, cells: list[Cell]) -> None:
    """Make the graph's steps those of a file, with as few edits as there are differences.

    Steps are named by their titles, otherwise numbered; they keep their numbers.
    """
    old = [graph.source(step) for step in graph.steps]
    ids = list(graph.steps)
    numbers: defaultdict[str, count[int]] = defaultdict(lambda: count(2))
    before = ""
    for kind, low, high, first, last in opcodes(old, [cell.source for cell in cells]):
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
            before = graph.add_step(_name(graph, cell, numbers), cell.source, after=before)
    for step, cell in zip(graph.steps, cells, strict=True):
        if cell.title and cell.title not in graph:
            graph.rename_step(step, cell.title)


def _name(graph: ExecutionStateGraph, cell: Cell, titled: defaultdict[str, count[int]]) -> str:
    """An unused name for a step; `titled` counts the cells with one title."""
    numbers = titled[cell.title] if cell.title else count(len(graph) + 1)
    name = cell.title or str(next(numbers))
    while name in graph:
        name = f"{cell.title} {next(numbers)}".lstrip()
    return name
