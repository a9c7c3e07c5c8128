"""Random states, the folder, the environment and settings, at the places of steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from contextlib import suppress

from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.resources import resources
from lorimer.esg.values.store import Lost


class Surroundings:
    """Sets states before a step, and compares them afterwards, for one session.

    `given`: the session has values that no step has made.
    """

    def __init__(self, graph: ExecutionStateGraph, *, given: bool = False) -> None:
        self._graph = graph
        self._given = given
        self._brought: dict[str, None] = {}  # steps that may have loaded libraries
        self._states: dict[tuple[str, str], object] = {}  # (resource, step) -> state
        self._gone: set[tuple[str, str]] = set()  # (resource, step): states that are unknown
        self._marks: dict[str, tuple[object, str]] = {}  # resource -> (a state, its fingerprint)

    def set_states(self, step_id: str) -> dict[str, object]:
        """Set every state to its value at the step's place."""
        now: dict[str, object] = {}
        for name, state in resources.states().items():
            key = name, self._graph.maker(name, step_id)
            if key not in self._states:
                self._states[key] = state.get()
            known = now[name] = self._states[key]
            if state.sooner_set or state.now(known) is not known:
                state.set(known)
        return now

    def set_last(self) -> None:
        """Set every state to its value after all steps, as far as that is known."""
        for name, state in resources.states().items():
            value = self._states.get((name, self._graph.last_writer(name)))
            if value is not None and state.now(value) is not value:
                with suppress(OSError):  # the folder is gone
                    state.set(value)

    def lost_state(self, step_id: str) -> Lost | None:
        """A state at the step's place that is not known."""
        for name, maker in sorted(self._gone):
            if self._graph.maker(name, step_id) == maker:
                return Lost(name, maker)
        return None

    def brings(self, step: str, *, libraries: bool) -> None:
        """Record whether a step may have loaded libraries: later steps may use them."""
        if libraries:
            self._brought[step] = None
        else:
            self._brought.pop(step, None)

    def _may_use_libraries(self, step: str) -> bool:
        graph, here = self._graph, self._graph.position(step)
        return self._given or any(
            each in graph and graph.position(each) <= here for each in self._brought
        )

    def recall(self, step: str, written: Iterable[str]) -> None:
        """Record that a step has run elsewhere and written these resources."""
        for name in written:
            if not name.startswith(resources.FILE):
                self._gone.add((name, step))

    def compare_states(
        self,
        step_id: str,
        before: Mapping[str, object],
        used: Set[str],
        reads: dict[str, str],
        writes: dict[str, str],
    ) -> None:
        """Add to `reads` and `writes` what the step has read and changed.

        `used`: states that it has certainly read, or mentions (`spoken_of`).
        """
        self._gone = {key for key in self._gone if key[1] != step_id}
        used = used | {name for name in resources.READ_ONCE_SET if self._graph.last_writer(name)}
        if self._may_use_libraries(step_id):
            used |= resources.READ_BY_ALL
        for name, state in resources.states().items():
            if name not in before and state.initial is not None:  # the step has loaded its library
                before = {**before, name: state.initial()}
                self._states.setdefault((name, ""), before[name])
            if name not in before:
                if name in used:
                    reads[name] = ""
                continue
            value = state.now(before[name])
            moved = value is not before[name]
            if moved or name in used:
                reads[name] = self._mark(name, before[name])
            if moved:
                self._states[name, step_id] = value
                writes[name] = self._mark(name, value)

    def _mark(self, name: str, state: object) -> str:
        """Its fingerprint; cached, because most steps have the same state as the one before."""
        marked = self._marks.get(name)
        if marked is None or marked[0] is not state:
            marked = self._marks[name] = state, resources.mark(state)
        return marked[1]

    def rename(self, old: str, new: str) -> None:
        """The id of a step has changed."""
        for name, by in [key for key in self._states if key[1] == old]:
            self._states[name, new] = self._states.pop((name, by))
        self._gone = {(name, new if by == old else by) for name, by in self._gone}
        self._brought = {new if each == old else each: None for each in self._brought}

    def forget(self, step: str) -> None:
        """A step was deleted."""
        for key in [key for key in self._states if key[1] == step]:
            del self._states[key]
        self._gone = {key for key in self._gone if key[1] != step}
        self._brought.pop(step, None)


def spoken_of(source: str, seen: Iterable[str]) -> set[str]:
    """The states that a step mentions: in its code, and in the identifiers `seen` in other code
    that it may have run."""
    words = " ".join([source, *seen])
    return {
        name
        for word, whole, name in resources.SPEAKS_OF
        if word in words and (whole is None or whole.search(words))
    }
