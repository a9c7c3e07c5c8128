"""Earlier programs of a session: to undo an edit, and to go from one variant to another.

To go back to one is to edit the steps that differ, so
that the replay runs what depends on them and nothing else.
"""

from __future__ import annotations

from typing import Final

from lorimer.core.errors import nearest
from lorimer.esg.graph import ExecutionStateGraph
from lorimer.esg.questions import StepError

MAIN: Final = "main"
"""The branch that a session begins on."""
_KEPT: Final = 100
"""Programs that `undo` goes back through."""
Program = tuple[tuple[str, ...], tuple[str, ...]]
"""The ids of all steps, in order, and their texts."""


_NOTHING: Final[Program] = ((), ())


class History:
    """The programs that ran, of each branch; the last one is the one that ran last."""

    def __init__(self, graph: ExecutionStateGraph) -> None:
        self._graph = graph
        self._past: dict[str, list[Program]] = {MAIN: []}
        self._here = MAIN

    @property
    def branches(self) -> tuple[str, ...]:
        """Their names, the present one first."""
        return self._here, *(each for each in self._past if each != self._here)

    def note(self) -> None:
        """The present program is about to run."""
        past, now = self._past[self._here], self._graph.texts()
        if now != _NOTHING and (not past or past[-1] != now):
            past.append(now)
            del past[:-_KEPT]

    def undo(self) -> list[str]:
        """Make the graph what it was before the last change. Returns what is stale by that."""
        past, now = self._past[self._here], self._graph.texts()
        if past and past[-1] == now:
            past.pop()
        if not past:
            raise StepError("there is no earlier program of this session to go back to")
        return self._become(past[-1])

    def branch(self, name: str) -> None:
        """Go on under another name; the present branch stays as it is now."""
        if name in self._past or not name:
            raise StepError(f"branch {name!r} is there already, or has no name")
        self.note()
        self._past[name] = [*self._past[self._here]]
        self._here = name

    def switch(self, name: str) -> list[str]:
        """Go to a branch. Returns what is stale by that."""
        if name not in self._past:
            raise StepError(f"there is no branch {name!r}{nearest(name, list(self._past))}")
        self.note()
        self._here = name
        return self._become(self._past[name][-1] if self._past[name] else _NOTHING)

    def _become(self, wanted: Program) -> list[str]:
        graph, stale = self._graph, dict[str, None]()
        for each in set(graph.steps).difference(wanted[0]):
            stale |= dict.fromkeys(graph.delete_step(each))
        last = ""
        for step, source in zip(*wanted, strict=True):
            if step not in graph:
                graph.add_step(step, source, after=last)
                stale[step] = None
            elif graph.source(step) != source:
                stale |= dict.fromkeys(graph.edit_step(step, source))
            last = step
        last = ""
        for place, step in enumerate(wanted[0]):
            if graph.steps[place] != step:
                stale |= dict.fromkeys(graph.move_step(step, after=last))
            last = step
        return [each for each in graph.steps if each in stale]
