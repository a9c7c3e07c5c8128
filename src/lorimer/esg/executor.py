"""A session: steps that run in this process, each with the values that are right for its place.

For code that is trusted: nothing confines it here. The graph says what is stale and why; this
module runs it, tells the graph what was really read and written, and goes on until nothing is
stale. What cannot be had from the store is made again by the step that made it, so a replay may
run more than it had to, but it ends where running everything again would end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from lorimer.core.world import World
from lorimer.esg.execution.attempt import Attempts
from lorimer.esg.execution.replaying import Replays
from lorimer.esg.execution.results import Held, Observer, Replay, StepResult
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.history import History
from lorimer.esg.graph.steps import Status
from lorimer.esg.patching.patches import PatchResult
from lorimer.esg.patching.repairing import repair
from lorimer.esg.values.budget import COPIES
from lorimer.world.real import RealWorld

__all__ = ["Held", "Observer", "Replay", "StepExecutor", "StepResult"]

_TRIES: Final = 2
"""How often a step runs again for one look at values."""


class StepExecutor:
    """A session: a graph, and the values of all its versions.

    `namespace`: names that are there before the first step. `graph`: steps that are there already;
    a new graph otherwise. `snapshot_bytes`: of copies of what steps change; beyond that steps run
    again instead. One owner; not for several threads.
    """

    def __init__(
        self,
        namespace: Mapping[str, object] | None = None,
        *,
        graph: ExecutionStateGraph | None = None,
        world: World | None = None,
        observer: Observer | None = None,
        snapshot_bytes: int = COPIES,
    ) -> None:
        self.graph = ExecutionStateGraph() if graph is None else graph
        world = RealWorld() if world is None else world
        self._attempts = Attempts(self.graph, world, namespace or {}, snapshot_bytes)
        self._replays = Replays(self._attempts, observer)
        self._history = History(self.graph)
        self.results: dict[str, StepResult] = self._attempts.results
        """Of every step that has run: the last one's."""
        self.graph.listeners.append(self._attempts.rename)

    def execute(self, step_id: str, source: str) -> StepResult:
        """Add a step at the end (or give one another text), and run it. See `replay` for the rest.

        A step that raises is told in the result's `failure`, and leaves all values as they were.
        """
        if step_id in self.graph:
            self.graph.edit_step(step_id, source)
        else:
            self.graph.add_step(step_id, source)
        self._history.note()
        self._replays.one(step_id)
        return self.results[step_id]

    def replay(self, on_step: Callable[[StepResult], None] | None = None) -> Replay:
        """Run what is stale, in step order, until nothing is. `on_step` is told of each run,
        and of each value that is only shown anew.

        What a run shows decides what runs next: a step that makes what it had made leaves its
        readers alone. Raises StepError for what was given to the session and cannot be had again.
        """
        self._history.note()
        self._attempts.files.changed()
        order, held = self._replays.all(on_step)
        status = {each: self.graph.status(each) for each in self.graph.steps}
        return Replay(
            tuple(order),
            tuple(each for each, is_ in status.items() if is_ is Status.FAILED),
            tuple(each for each, is_ in status.items() if is_ is Status.BLOCKED),
            held,
        )

    def repair(self, patch: PatchResult, step_id: str, *, timeout_s: float = 60.0) -> bool:
        """Apply a patch, replay, and keep it only if the step runs and no other fails by it.

        Tried in a copy of this process first where that can be made (Linux, one thread): a patch
        that does not help, that takes longer than `timeout_s`, or that ends the process, leaves
        no trace here; one that helps runs its steps a second time. Elsewhere it is tried here,
        without a limit of time, and put back if it does not help. Raises StepError for a patch of
        other texts.
        """
        return repair(self, patch, step_id, timeout_s)

    def undo(self) -> Replay:
        """Take back the last change of the steps (all edits since the last run, or those that ran
        last), and replay. Up to 100 times in a row. Raises StepError where nothing is left."""
        self._history.undo()
        return self.replay()

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the variants of the program that there are, the present one (at first `main`)
        first."""
        return self._history.branches

    def branch(self, name: str) -> None:
        """Go on with a variant of the program, under a new name; `switch` goes back."""
        self._history.branch(name)

    def switch(self, name: str) -> Replay:
        """Go to another variant: its steps, as they were when they last ran there, and replay.

        Only steps that differ, and what depends on them, run. Raises StepError.
        """
        self._history.switch(name)
        return self.replay()

    def recall(self, step_id: str, reads: Iterable[str], writes: Iterable[str]) -> None:
        """A step of the graph has run elsewhere: it is up to date, and its values are gone.

        It runs again when somebody needs one of them. `reads` and `writes`: names, and resources;
        the files among them are taken to be as they are.
        """
        self._attempts.recall(step_id, reads, writes)

    def namespace(self, after: str | None = None) -> dict[str, object]:
        """Every name as it is after a step, or after all. The values are the session's own.

        Values that are gone are made again: the steps that made them run, and what sees another
        value by that. What is stale or has failed stays so. A value is left out that was not there
        even so. Raises StepError for a step that there is not.
        """
        if after is not None:
            self.graph.source(after)
        made, places = Counter[str](), self._attempts.places
        while gone := {each for each in places.gone(after) if each and made[each] < _TRIES}:
            step = min(gone, key=self.graph.position)
            made[step] += 1
            self._replays.make(step)
        return places.values(after, apart=after is not None)
