"""Steps that are up to date because the parts they use of changed values are the same.

Suppose a step got values of which it uses only parts, had no other way to them, and left nothing
that leads to them. With other values that have the same parts it does the same (parts.py). So it
need not run again; the new values are recorded as the ones it read.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lorimer.esg.analysis.parts import Parts, Path, followed, leads_on
from lorimer.esg.execution.commit import Left
from lorimer.esg.execution.namespace import TrackedNamespace
from lorimer.esg.execution.showing import SHOWN
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.steps import Status, Why
from lorimer.esg.values.part_kinds import fits
from lorimer.esg.values.part_values import look
from lorimer.esg.values.store import Lost, Region, Version, VersionStore, Visit

_OF_VALUES: Final = (Why.INPUT, Why.REBOUND)


@dataclass(frozen=True, slots=True)
class _Used:
    """For one name: the parts that a step uses, and their fingerprint."""

    paths: tuple[Path, ...]
    print: str


@dataclass(frozen=True, slots=True)
class _Read:
    """What one run read only in parts."""

    used: dict[str, _Used]
    regions: frozenset[str]
    """The regions that it could reach only through these parts."""


class PartReads:
    """Which parts of values the steps of one session use."""

    def __init__(self, graph: ExecutionStateGraph, store: VersionStore) -> None:
        self._graph = graph
        self._store = store
        self._read: dict[str, _Read] = {}

    def forget(self, step_id: str) -> None:
        """Whatever the step has read, it counts as a whole."""
        self._read.pop(step_id, None)

    def rename(self, old: str, new: str) -> None:
        """The id of a step has changed; if `new` is empty, the step was deleted."""
        read = self._read.pop(old, None)
        if new and read is not None:
            self._read[new] = read

    def may_be(self, step_id: str) -> bool:
        """Whether the step's code may use a part of a value that has parts. Finding out which takes
        ten times as long."""
        names = followed(self._graph.source(step_id)) & self._graph.text_reads(step_id)
        versions = (self._version(step_id, name) for name in names)
        return any(each is None or each.lost or fits(each.value, ()) for each in versions)

    def ran(
        self, step_id: str, parts: Parts, lent: Iterable[str], visit: Visit, done: Left
    ) -> None:
        """A step has run. `parts`: for the names of which it used only parts."""
        self.forget(step_id)
        if not parts or _looks_on(visit.entered):
            return
        versions = {name: self._version(step_id, name) for name in lent}
        whole = self._left(step_id, visit, done)
        whole |= {
            region
            for name, version in versions.items()
            if version is not None and name not in parts
            for region in visit.reached(version.regions)
        }
        found: dict[str, _Used] = {}
        regions = set[Region]()
        for name, paths in parts.items():
            version = versions.get(name)
            if version is None:
                continue
            reached = visit.reached(version.regions)
            told = None if reached & whole else self._look(version.value, paths, visit)
            if told is None:
                whole |= reached
            else:
                found[name] = _Used(paths, told)
                regions |= reached
        if regions & whole or not found:  # found to be used as a whole only later
            return
        self._read[step_id] = _Read(found, frozenset(each.name for each in regions))

    def as_before(self, step_id: str, space: TrackedNamespace) -> bool:
        """Whether the step is stale only because of values whose used parts are unchanged: if so,
        it is now up to date."""
        read, graph = self._read.get(step_id), self._graph
        causes = graph.causes(step_id)
        if read is None or not causes or graph.status(step_id) is not Status.STALE:
            return False
        names = read.used.keys() | read.regions
        if any(each.why not in _OF_VALUES or each.name not in names for each in causes):
            return False
        visit = Visit(self._store, lambda name: graph.maker(name, step_id))
        reads = {name: print_ for name, print_ in graph.used(step_id).items() if name not in names}
        space.begin()
        try:
            for name, used in read.used.items():
                version = self._version(step_id, name)
                if version is None or version.lost:
                    return False
                value = visit.lend(version, may_change=False)
                if self._look(value, used.paths, visit) != used.print:
                    return False
                reads[name] = version.print
        except Lost:
            return False
        finally:
            space.end()
        regions = {region.name: state.print for region, state in visit.entered.items()}
        if not reads.keys().isdisjoint(regions):  # another way to them, which it has used
            return False
        self._store.unbind(SHOWN, step_id)  # it leads to the earlier value
        self._read[step_id] = _Read(read.used, frozenset(regions))
        graph.read_others(step_id, reads | regions)
        return True

    def _version(self, step_id: str, name: str) -> Version | None:
        return self._store.get(name, self._graph.maker(name, step_id))

    def _look(self, value: object, paths: tuple[Path, ...], visit: Visit) -> str | None:
        def lent(each: object) -> bool:
            return self._store.known(each) in visit.entered

        return look(value, paths, lent)

    def _left(self, step_id: str, visit: Visit, done: Left) -> set[Region]:
        """The regions that a step has changed, and those reachable from what it left, not counting
        what it only showed."""
        waiting = [region for version in done.bound.values() for region in version.regions]
        waiting += done.changed
        found = set[Region]()
        while waiting:
            region = waiting.pop()
            if region not in found:
                found.add(region)
                state = region.states.get(step_id) or visit.entered.get(region)
                waiting += () if state is None else state.refs
        return found


def _looks_on(regions: Iterable[Region]) -> bool:
    return any(
        isinstance(value, types.FunctionType) and leads_on(value.__code__)
        for region in regions
        for value in region.objects
    )
