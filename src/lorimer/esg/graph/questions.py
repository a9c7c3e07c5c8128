"""What a graph knows about its steps: code, status, values, makers and readers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, TypedDict

from lorimer.core.errors import ExecutorErrorCode, LorimerError, nearest
from lorimer.esg.graph.steps import ABSENT, Cause, Status, Step, Worked, plain, told
from lorimer.esg.graph.versions import ANY, Versions

if TYPE_CHECKING:
    import networkx as nx


class StepError(LorimerError, ValueError):
    """A step does not exist, exists already, or cannot be where it was to be put."""

    default_code = ExecutorErrorCode.EXEC_STEP_INVALID


class StepView(TypedDict):
    """The result of `get_node`."""

    id: str
    source: str
    status: str
    reads: list[str]
    writes: list[str]
    makers: dict[str, str]
    causes: list[str]
    outputs: dict[str, object]
    seconds: float | None
    error: str


Texts = tuple[tuple[str, str], ...]
"""Steps in order: (id, source)."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A step that would run."""

    step: str
    reasons: tuple[str, ...]
    seconds: float | None
    """How long its last run took; None if it never ran."""


class Questions:
    """Read access to what the graph knows; changes nothing. For what follows from it:
    explaining.py."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}
        self._order: list[str] = []
        self._versions = Versions(self._steps)
        self.revision: int = 0
        """Number of times that steps were added, edited, moved, deleted or renamed."""
        self._rewritten: int = 0
        """The revision of the last change other than a step added at the end."""

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, step_id: object) -> bool:
        return step_id in self._steps

    @property
    def steps(self) -> tuple[str, ...]:
        """The ids of all steps, in order."""
        return tuple(self._order)

    def steps_after(self, step_id: str) -> tuple[str, ...]:
        """The ids of the steps after one, in order."""
        return tuple(self._order[self._order.index(step_id) + 1 :])

    def texts(self) -> Texts:
        """All steps with their code, in order."""
        found = map(self._steps.__getitem__, self._order)
        return tuple([(each.id, each.source) for each in found])

    def added_since(self, revision: int) -> Texts | None:
        """The steps added at the end since that revision; None if anything else changed."""
        if revision < self._rewritten:
            return None
        new = self._order[len(self._order) - (self.revision - revision) :]
        return tuple([(each, self._steps[each].source) for each in new])

    def stale(self) -> list[str]:
        """Every step that is not up to date, in step order."""
        return [each for each in self._order if self._steps[each].status is not Status.FRESH]

    def causes(self, step_id: str) -> tuple[Cause, ...]:
        """Why a step is not up to date, oldest reason first."""
        return tuple(self._step(step_id).causes)

    def unresolved(self, step_id: str) -> dict[str, str]:
        """Names that a step reads and that neither an earlier step nor Python provides.

        Name -> the later step that makes it, or empty. They raise NameError when the step runs.
        """
        step = self._step(step_id)
        if ANY in step.bound:
            return {}
        missing = {name for name in step.reads - step.bound.keys() if name.isidentifier()}
        missing |= {
            name
            for name, maker in step.bound.items()
            if self._steps[maker].made.get(name) == ABSENT
        }
        return {name: self._versions.next_writer(name, step) for name in sorted(missing)}

    def makers(self, step_id: str) -> dict[str, str]:
        """Name that a step reads -> the last step that made or changed the value it sees."""
        step = self._step(step_id)
        found: dict[str, str] = {}
        for name, maker in sorted(step.bound.items()):
            if name != ANY and "#" not in name:
                behind = {by for of, by in self._behind([name], step) if of in step.bound}
                found[name] = max({maker, *behind}, key=self._label)
        return found

    def maker(self, name: str, step_id: str) -> str:
        """The last step before this one that makes the name; empty if none does."""
        return self._versions.writer(name, self._step(step_id))

    def left_by(self, region: str, step_id: str) -> str:
        """The last step before this one that made or changed these objects; one that failed has
        changed none."""
        found = self.maker(region, step_id)
        while found and self.status(found) is Status.FAILED:
            found = self.maker(region, found)
        return found

    def status(self, step_id: str) -> Status:
        """The status of a step."""
        return self._step(step_id).status

    def seconds(self, step_id: str) -> float | None:
        """How long a step's last run took; None if it never ran."""
        return self._step(step_id).seconds

    def source(self, step_id: str) -> str:
        """The code of a step."""
        return self._step(step_id).source

    def made(self, step_id: str) -> Mapping[str, str]:
        """Name -> fingerprint of what the step's last run left; ABSENT if it deleted the name."""
        return self._step(step_id).made

    def used(self, step_id: str) -> Mapping[str, str]:
        """Name -> fingerprint of what the step's last run read; ABSENT if the name was missing."""
        return self._step(step_id).used

    def may_write(self, step_id: str) -> frozenset[str]:
        """Names that a step binds or changes, according to its code or its last run."""
        step = self._step(step_id)
        return step.analysis.writes | step.writes

    def needs(self, step_id: str) -> dict[str, str]:
        """Name -> maker for everything that a step may read, according to its code and its last
        run."""
        step = self._step(step_id)
        told = step.analysis
        names = {*step.reads, *step.builtins, *told.reads, *told.builtins, *step.used}
        if step.reads_any or step.analysis.reads_unknown:
            names.update(self._versions.names_before(step))
        found = {name: self._versions.writer(name, step) for name in names}
        return {name: maker for name, maker in found.items() if maker}

    def text_reads(self, step_id: str) -> frozenset[str]:
        """The names that a step reads according to its code."""
        return self._step(step_id).analysis.reads

    def reads_unknown(self, step_id: str) -> bool:
        """Whether the code may look at the namespace as a whole."""
        return self._step(step_id).analysis.reads_unknown

    def readers(self, step_id: str) -> list[tuple[str, str]]:
        """(name, reader) for every read of what a step makes, without edges added by hand."""
        found = self._versions.dependants(self._step(step_id))
        return [*dict.fromkeys((plain(name), reader) for name, reader in found if name)]

    def worked(self, step_id: str) -> Worked | None:
        """The last successful run of a failed step; None if there was none."""
        return self._step(step_id).worked

    def worked_with(self, step_id: str, source: str) -> bool:
        """Whether a failed step has once run to its end with this code."""
        worked = self._step(step_id).worked
        return worked is not None and worked.source == source

    def changed_since(self, step_id: str) -> dict[str, str]:
        """What a failed step read in its last successful run and has changed since: name -> its
        maker."""
        step = self._step(step_id)
        found = dict[str, str]()
        for name, digest in step.worked.used.items() if step.worked is not None else ():
            maker = self._versions.writer(name, step)
            if maker and self._steps[maker].made.get(name, ABSENT) != digest:
                found[plain(name)] = maker
        return found

    def outside(self) -> set[str]:
        """Resources that a step has read and no earlier step makes."""
        return {
            name
            for step in self._steps.values()
            for name in step.used
            if ":" in name and name not in step.bound
        }

    def names_before(self, step_id: str, given: Iterable[str] = ()) -> list[str]:
        """Every name that is given or made by an earlier step, in order of creation; those that are
        deleted come last."""
        step = self._step(step_id)
        every, found = [*given, *self._versions.names_before(step)], dict.fromkeys(given)
        for each in takewhile(lambda other: other != step_id, self._order):
            for name, print_ in self._steps[each].made.items():
                if print_ == ABSENT:
                    found.pop(name, None)
                else:
                    found[name] = None
        return [*(found | dict.fromkeys(every))]

    def last_writer(self, name: str) -> str:
        """The step that makes the value of a name after all steps; empty if none does."""
        writers = self._versions.writers(name)
        return writers[-1] if writers else ""

    def get_node(self, step_id: str) -> StepView:
        """What is known about a step."""
        step = self._step(step_id)
        return {
            "id": step.id,
            "source": step.source,
            "status": step.status.value,
            "reads": sorted(
                name
                for name in step.reads.union(step.bound.keys() & {*step.builtins})
                if "#" not in name
            ),
            "writes": self._written(step),
            "makers": self.makers(step_id),
            "causes": [*told(step.causes)],
            "outputs": dict(step.outputs),
            "seconds": step.seconds,
            "error": step.error,
        }

    def edges(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """(maker, reader, names), by reader in step order; no names: an edge added by hand."""
        found = list[tuple[str, str, tuple[str, ...]]]()
        for each in self._order:
            step = self._steps[each]
            by_maker: dict[str, dict[str, None]] = {maker: {} for maker in step.after}
            for name, maker in sorted(step.bound.items()):
                by_maker.setdefault(maker, {})[plain(name)] = None
            if step.reads_any:
                for maker in self._versions.makers(step):
                    by_maker.setdefault(maker, {})[ANY] = None
            found += [(maker, each, tuple(by_maker[maker])) for maker in self._sorted(by_maker)]
        return found

    def graph(self) -> nx.DiGraph[str]:
        """The graph for networkx: nodes with `source` and `status`, edges with `names`.

        Raises LorimerError if networkx is not installed.
        """
        try:
            import networkx as nx
        except ImportError as error:
            raise LorimerError(
                "graph() needs networkx: pip install 'lorimer[graph]'",
                code=ExecutorErrorCode.EXEC_STEP_INVALID,
            ) from error
        drawn: nx.DiGraph[str] = nx.DiGraph()
        for each in self._order:
            step = self._steps[each]
            drawn.add_node(each, source=step.source, status=step.status.value)
        for maker, reader, names in self.edges():
            drawn.add_edge(maker, reader, names=names)
        return drawn

    def position(self, step_id: str) -> int:
        """A number that sorts steps in step order."""
        return self._step(step_id).label

    def _written(self, step: Step) -> list[str]:
        """Names that a step binds, deletes or changes in place."""
        return sorted({name for name in step.writes if "#" not in name} | step.in_place)

    def _behind(self, names: Iterable[str], step: Step | None) -> set[tuple[str, str]]:
        """(name or region, maker) for names and all objects they lead to, as seen by a step, or
        after all steps."""
        found, waiting = set[tuple[str, str]](), [*names]
        while waiting:
            name = waiting.pop()
            maker = self.last_writer(name) if step is None else self._versions.writer(name, step)
            if maker and (name, maker) not in found:
                found.add((name, maker))
                waiting += self._steps[maker].leads.get(name, ())
        return found

    def _step(self, step_id: str) -> Step:
        try:
            return self._steps[step_id]
        except KeyError:
            raise StepError(
                f"there is no step {step_id!r}{nearest(step_id, self._order)}"
            ) from None

    def _sorted(self, ids: Iterable[str]) -> list[str]:
        return sorted(ids, key=self._label)

    def _label(self, step_id: str) -> int:
        return self._steps[step_id].label
