"""Ways to come from a full run and an edit to what a full run of the edited steps gives."""

from __future__ import annotations

import ast
import importlib.util
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks.notebooks.plain import new_names, picture, run_step
from benchmarks.notebooks.value import masked, of_names
from lorimer.esg import StepExecutor, StepResult

Analysis = Callable[[str], tuple[set[str], set[str]]]
"""The text of a step -> (names it reads, names it writes)."""
T = TypeVar("T")


@dataclass(slots=True)
class After:
    """What there is after the edit was replayed."""

    outputs: list[str] = field(default_factory=list[str])
    final: dict[str, str] = field(default_factory=dict[str, str])
    executed: list[int] = field(default_factory=list[int])
    reads: list[list[str]] = field(default_factory=list[list[str]])
    """Of each step the names that it reads, as far as the strategy knows."""


class Tracked:
    """Lorimer: a session that has run all steps."""

    def __init__(self, steps: list[str]) -> None:
        self._session = StepExecutor()
        for number, step in enumerate(steps):
            self._session.graph.add_step(str(number), step)
        self._session.replay()

    def edited(self, at: int, text: str) -> After:
        """Edit a step and replay."""
        self._session.graph.edit_step(str(at), text)
        return self._after([int(each) for each in self._session.replay().ran])

    def now(self) -> After:
        """What there is without an edit."""
        return self._after([])

    def _after(self, executed: list[int]) -> After:
        ran = dict(self._session.results)
        outputs = [
            _shown(result) if result.ok else f"{result.failure}"
            for each in self._session.graph.steps
            for result in [ran[each]]
        ]
        final = of_names(self._session.namespace())
        reads = [[*ran[each].reads] for each in self._session.graph.steps]
        return After(outputs, final, executed, reads)


def _shown(result: StepResult) -> str:
    """As `plain.run_step` tells it."""
    figures = [
        picture(b64decode(each.data)) for each in result.displays if each.kind == "image/png"
    ]
    return "\n".join([masked(result.stdout), masked(result.shown), *figures])


class Live:
    """Edges from the last writer, by an analysis of the texts; replay on the namespace as it is."""

    def __init__(self, steps: list[str], analysis: Analysis) -> None:
        self._steps, self._analysis = steps, analysis
        self._names = new_names()
        self._outputs = [run_step(step, self._names)[0] for step in steps]

    def edited(self, at: int, text: str) -> After:
        """Run the edited step and all that depend on it, by the texts."""
        steps = [*self._steps[:at], text, *self._steps[at + 1 :]]
        executed = _dependants(steps, at, self._analysis)
        for each in executed:
            output, error = run_step(steps[each], self._names)
            self._outputs[each] = error or output
        return After(self._outputs, of_names(self._names), executed)


def _dependants(steps: list[str], at: int, analysis: Analysis) -> list[int]:
    writer, found = dict[str, int](), {at}
    for number, step in enumerate(steps):
        reads, writes = analysis(step)
        if any(writer.get(name) in found for name in reads):
            found.add(number)
        writer.update(dict.fromkeys(writes, number))
    return sorted(found)


def by_walk(step: str) -> tuple[set[str], set[str]]:
    """Every name that is loaded and not stored in the step; every name that is stored."""
    reads, writes = set[str](), set[str]()
    for node in ast.walk(ast.parse(step)):
        if isinstance(node, ast.Name):
            (reads if isinstance(node.ctx, ast.Load) else writes).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            writes.add(node.name)
        elif isinstance(node, ast.alias):
            writes.add((node.asname or node.name).partition(".")[0])
    return reads - writes, writes


def by_marimo(step: str) -> tuple[set[str], set[str]]:
    """What marimo says that a cell refers to and defines. What it refuses counts as nothing."""
    from marimo._ast.compiler import compile_cell
    from marimo._types.ids import CellId_t

    try:
        cell = compile_cell(step, cell_id=CellId_t("0"))
    except Exception:  # noqa: BLE001 - it refuses the cell
        return set(), set()
    return set(cell.refs), set(cell.defs)


def analyses() -> dict[str, Analysis]:
    """The baselines that can be measured here."""
    found: dict[str, Analysis] = {"ast.walk, live": by_walk}
    if importlib.util.find_spec("marimo") is not None:
        found["marimo's refs and defs, live"] = by_marimo
    return found
