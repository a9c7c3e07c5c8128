"""What one run of a step is supplied with, and what is recorded about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import CodeType, FunctionType

from lorimer.esg.analysis.looking import Looking
from lorimer.esg.execution.attributes import Attributes, Using
from lorimer.esg.execution.namespace import Missing
from lorimer.esg.execution.owners import MISSING
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.steps import ABSENT
from lorimer.esg.values.store import Lost, Region, VersionStore, Visit


class Lending:
    """Supplies names and slots (attributes.py) as they are at the step's place."""

    def __init__(
        self,
        graph: ExecutionStateGraph,
        store: VersionStore,
        attributes: Attributes,
        given: Iterable[str],
        step_id: str,
        prepare: Callable[[CodeType], None],
    ) -> None:
        self._looking = Looking(graph.source(step_id))
        self.visit = Visit(
            store, lambda region: graph.left_by(region, step_id), lambda: self._looking.only
        )
        self.reads: dict[str, str] = {}
        """Name -> fingerprint of what was supplied; ABSENT if there was nothing."""
        self.lost: Lost | None = None
        """The value that was to be supplied but is gone, even if the step caught that."""
        self.saw_all = False
        position = graph.position(step_id)
        self.using = Using(
            attributes,
            lambda slot: self._take(slot.name),
            lambda each: each in graph and graph.position(each) < position,
        )
        self._graph = graph
        self._store = store
        self._given = given
        self._step_id = step_id
        self._prepare = prepare
        self._may_change = graph.may_write(step_id)

    def lend(self, name: str) -> object:
        """The value of a name. Raises Missing or Lost."""
        try:
            value = self._take(name)
            if value is not MISSING:
                self.using.given(value)
                return value
        except Lost as lost:
            self.lost = self.lost or lost
            raise
        raise Missing(name)

    def known(self) -> Iterable[str]:
        """Every name that exists: the step looks at the namespace as a whole."""
        self.saw_all = True
        names = self._graph.names_before(self._step_id, self._given)
        return [name for name in names if name.isidentifier()]

    def sees(self, code: CodeType) -> None:
        """This code may run from now on. Raises Lost."""
        try:
            self.using.sees(code)
        except Lost as lost:
            self.lost = self.lost or lost
            raise

    def _take(self, name: str) -> object:
        version = self._store.get(name, self._graph.maker(name, self._step_id))
        if version is None:
            self.reads[name] = ABSENT  # an earlier step may make it one day
            return MISSING
        if self._looking.lent(version.value):
            self.visit.settle()
        known = len(self.visit.entered)
        value = self.visit.lend(version, may_change=name in self._may_change)
        self.reads[name] = version.print
        self.using.spoken |= version.spoken
        if len(self.visit.entered) > known:
            for region in [*self.visit.entered][known:]:
                self.using.spoken |= self.visit.entered[region].spoken
                if region.looked_at and not self._looking.only:
                    self.visit.put_looking(region)
                for function in _functions_of(region):
                    self._prepare(function.__code__)
        return value


def _functions_of(region: Region) -> tuple[FunctionType, ...]:
    if region.functions is None:
        found = (each for each in region.objects if isinstance(each, FunctionType))
        region.functions = tuple(found)
    return region.functions
