"""A session: steps that run in this process, each with the values that belong at its place.

For trusted code: nothing is confined here. The graph says what is stale and why; this module runs
it, reports to the graph what was actually read and written, and continues until nothing is stale. A
value that is not in the store is made again by the step that made it. So a replay may run more than
necessary, but ends where running everything again would end.
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
from lorimer.esg.repair.trying import repair
from lorimer.esg.values.budget import COPIES
from lorimer.world.real import RealWorld

__all__ = ["Held", "Observer", "Replay", "StepExecutor", "StepResult"]

_TRIES: Final = 2
"""How often a step may run again for one call of `namespace`."""


class StepExecutor:
    """A session: a graph and the values of all its versions.

    `namespace`: names that exist before the first step. `graph`: an existing graph; by default a
    new one. `snapshot_bytes`: limit on copies of what steps change in place; beyond it steps run
    again instead. One owner; not thread-safe.
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
        """The result of the last run of each step."""
        self.graph.listeners.append(self._attempts.rename)

    def execute(self, step_id: str, source: str) -> StepResult:
        """Add a step at the end, or replace the code of an existing one, and run it. Otherwise like
        `replay`.

        If the step raises, the result's `failure` says why, and all values are as they were before.
        """
        if step_id in self.graph:
            self.graph.edit_step(step_id, source)
        else:
            self.graph.add_step(step_id, source)
        self._history.note()
        self._replays.one(step_id)
        return self.results[step_id]

    def replay(self, on_step: Callable[[StepResult], None] | None = None) -> Replay:
        """Run what is stale, in step order, until nothing is. `on_step` is called after each run,
        and for each value that is only displayed again.

        The outcome of a run decides what runs next: if a step makes what it made before, its
        readers do not run. Raises StepError if a value that was given to the session is lost and
        cannot be made again.
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
        """Apply a patch, replay, and keep the patch only if the step runs and no other step fails
        because of it.

        Where possible (Linux, one thread) it is tried in a copy of this process first: a patch that
        does not help, takes longer than `timeout_s` or ends the process leaves no trace here; one
        that helps runs its steps a second time. Elsewhere it is tried in this process, without a
        time limit, and reverted if it does not help. Raises StepError if the patch was made for
        other code.
        """
        return repair(self, patch, step_id, timeout_s)

    def undo(self) -> Replay:
        """Undo the last change to the steps (all edits since the last run, or those of the last
        run), and replay. Up to 100 times in a row. Raises StepError if nothing is left to undo."""
        self._history.undo()
        return self.replay()

    @property
    def branches(self) -> tuple[str, ...]:
        """The names of the variants of the program, the current one first (initially `main`)."""
        return self._history.branches

    def branch(self, name: str) -> None:
        """Start a variant of the program under a new name; `switch` goes back. Raises StepError if
        the name is empty or taken."""
        self._history.branch(name)

    def switch(self, name: str) -> Replay:
        """Go to another variant: restore its steps as they were when they last ran there, and
        replay.

        Only steps that differ, and those that depend on them, run. Raises StepError for an unknown
        name.
        """
        self._history.switch(name)
        return self.replay()

    def recall(self, step_id: str, reads: Iterable[str], writes: Iterable[str]) -> None:
        """Record that a step of the graph has run elsewhere: it is up to date, but its values are
        gone.

        It runs again when one of them is needed. `reads` and `writes`: names and resources; files
        among them are assumed to be unchanged.
        """
        self._attempts.recall(step_id, reads, writes)

    def namespace(self, after: str | None = None) -> dict[str, object]:
        """Every name as it is after a step, or after all steps. The values are the session's own.

        Values that are gone are made again: the steps that made them run, and those that see
        another value as a result. Steps that are stale or failed stay so. A value that is still
        missing then is left out. Raises StepError for an unknown step.
        """
        if after is not None:
            self.graph.source(after)
        made, places = Counter[str](), self._attempts.places
        while gone := {each for each in places.gone(after) if each and made[each] < _TRIES}:
            step = min(gone, key=self.graph.position)
            made[step] += 1
            self._replays.make(step)
        return places.values(after, apart=after is not None)
