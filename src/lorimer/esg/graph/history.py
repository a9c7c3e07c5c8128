"""Earlier programs of a session, for undoing edits and switching between variants.

To go back is to edit the steps that differ, so a replay runs those and what depends on them, and
nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lorimer.core.errors import nearest
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.questions import StepError, Texts

MAIN: Final = "main"
"""The branch that a session begins on."""
_KEPT: Final = 100
"""Number of programs that `undo` can go back through."""


@dataclass(frozen=True, slots=True, eq=False)
class _Program:
    """Steps in order, with their code: those of `before`, and more at the end. Most programs are
    the previous one and one more step."""

    before: _Program | None
    more: Texts

    def texts(self) -> Texts:
        parts, each = [self.more], self.before
        while each is not None:
            parts.append(each.more)
            each = each.before
        return tuple(step for part in reversed(parts) for step in part)


class History:
    """The programs that ran on each branch, the most recent last."""

    def __init__(self, graph: ExecutionStateGraph) -> None:
        self._graph = graph
        self._past: dict[str, list[_Program]] = {MAIN: []}
        self._here = MAIN
        self._noted: int = -1
        """The graph's revision of the last program on the current branch; -1: not known."""

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the branches, the current one first."""
        return self._here, *(each for each in self._past if each != self._here)

    def note(self) -> None:
        """The current program is about to run. If steps were only added, the cost depends on these
        alone."""
        past, graph = self._past[self._here], self._graph
        added = graph.added_since(self._noted)
        if added is None:
            now = graph.texts()
            if now != (past[-1].texts() if past else ()):
                past.append(_Program(None, now))
        elif added:
            past.append(_Program(past[-1] if past else None, added))
        del past[:-_KEPT]
        self._noted = graph.revision

    def undo(self) -> list[str]:
        """Restore the graph as it was before the last change. Returns what becomes stale."""
        past = self._past[self._here]
        if past and past[-1].texts() == self._graph.texts():
            past.pop()
        if not past:
            raise StepError("there is nothing to undo in this session")
        return self._become(past[-1].texts())

    def branch(self, name: str) -> None:
        """Continue under another name; the current branch stays as it is now."""
        if name in self._past or not name:
            raise StepError(f"branch {name!r} already exists, or the name is empty")
        self.note()
        self._past[name] = [*self._past[self._here]]
        self._here = name

    def switch(self, name: str) -> list[str]:
        """Go to a branch. Returns what becomes stale."""
        if name not in self._past:
            raise StepError(f"there is no branch {name!r}{nearest(name, list(self._past))}")
        self.note()
        self._here = name
        past = self._past[name]
        return self._become(past[-1].texts() if past else ())

    def _become(self, wanted: Texts) -> list[str]:
        graph, stale = self._graph, dict[str, None]()
        self._noted = -1
        order = [step for step, _ in wanted]
        for each in set(graph.steps).difference(order):
            stale |= dict.fromkeys(graph.delete_step(each))
        last = ""
        for step, source in wanted:
            if step not in graph:
                graph.add_step(step, source, after=last)
                stale[step] = None
            elif graph.source(step) != source:
                stale |= dict.fromkeys(graph.edit_step(step, source))
            last = step
        last = ""
        for place, step in enumerate(order):
            if graph.steps[place] != step:
                stale |= dict.fromkeys(graph.move_step(step, after=last))
            last = step
        return [each for each in graph.steps if each in stale]
