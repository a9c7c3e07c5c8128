"""Names and their values as they are at a place, for looking at a session from outside."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import suppress

from lorimer.esg.execution.attributes import PREFIX, Attributes
from lorimer.esg.execution.owners import MISSING
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.steps import ABSENT
from lorimer.esg.values.store import Lost, VersionStore, Visit, gone


class Places:
    """Reads the values of one session. `given`: names that existed before the first step."""

    def __init__(
        self,
        graph: ExecutionStateGraph,
        store: VersionStore,
        attributes: Attributes,
        given: Iterable[str],
    ) -> None:
        self._graph = graph
        self._store = store
        self._attributes = attributes
        self._given = given

    def values(self, after: str | None, *, apart: bool) -> dict[str, object]:
        """Every name as it is after a step, or after all steps; values that are gone are omitted.

        `apart`: copy what has changed since, so that values handed out stay as they are.
        """
        makers = self._makers(after)
        visit = Visit(self._store, lambda name: makers.get(name, ""))
        live = {region: region.live for region in self._store.regions().values()} if apart else {}
        found = dict[str, object]()
        for name, maker in makers.items():
            version = None if name.startswith(PREFIX) else self._store.get(name, maker)
            if version is not None:
                with suppress(Lost):
                    found[name] = visit.lend(version, may_change=False)
        if not apart:
            self._put_attributes(visit)
            return found
        moved = {
            region: live.get(region)
            for region, state in visit.entered.items()
            if live.get(region) is not state
        }
        memo: dict[int, object] = {}
        for name in found if moved else ():
            version = self._store.get(name, makers[name])
            if version is not None and visit.reaches(version, moved):
                found[name] = copied(found[name], memo)
        for region, state in moved.items():
            if state is not None:
                self._store.restore(region, state)
        return found

    def gone(self, after: str | None) -> set[str]:
        """Steps that have to run again for everything that `values` would omit."""
        makers = self._makers(after)
        versions = (self._store.get(name, maker) for name, maker in makers.items())
        return gone([each for each in versions if each], lambda name: makers.get(name, ""))

    def _makers(self, after: str | None) -> dict[str, str]:
        """Name or region -> the step that makes it, after a step."""
        found = dict.fromkeys(self._given, "")
        for step in self._graph.steps:
            for name, print_ in self._graph.made(step).items():
                if print_ == ABSENT:
                    found.pop(name, None)
                else:
                    found[name] = step
            if step == after:
                break
        return found

    def _put_attributes(self, visit: Visit) -> None:
        """Set modules and classes to their state after all steps."""
        for slot in self._attributes.slots.values():
            version = self._store.get(slot.name, self._graph.last_writer(slot.name))
            with suppress(Lost):
                value = MISSING if version is None else visit.lend(version, may_change=False)
                if slot.get() is not value:
                    slot.put(value)


def copied(value: object, memo: dict[int, object]) -> object:
    """A copy, with all connected objects copied together (`memo`); the value itself if it cannot be
    copied."""
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # noqa: BLE001 - whatever a class raises: then it is shown as it is
        return value
