"""Displays what a step shows again under other settings, without running the step.

How many digits pandas prints changes what a step shows and nothing that it does. If the settings
that a step read before it showed its last value are unchanged, and that value is available as it
was, it is displayed again.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from lorimer.esg.execution import displays
from lorimer.esg.execution.namespace import TrackedNamespace
from lorimer.esg.execution.results import StepResult
from lorimer.esg.execution.running import Outcome
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.steps import Status, Why
from lorimer.esg.resources import resources
from lorimer.esg.resources.reading import Key, reading
from lorimer.esg.resources.settings import NUMPY, PANDAS
from lorimer.esg.resources.surroundings import Surroundings
from lorimer.esg.values.content import home_of
from lorimer.esg.values.store import Lost, VersionStore, Visit

SHOWN: Final = "(shown)"
"""The name of a step's last value among its versions."""
_LIBRARIES: Final = ("numpy", "pandas")
_Looked = dict[str, tuple[frozenset[Key], str]]
"""Setting -> what was read of it, and the fingerprint of that."""


class Showing:
    """The last values of the steps of one session."""

    def __init__(
        self, graph: ExecutionStateGraph, store: VersionStore, surroundings: Surroundings
    ) -> None:
        self._graph = graph
        self._store = store
        self._surroundings = surroundings
        self._by_run: dict[str, _Looked] = {}
        self._looked: dict[str, _Looked] = {}

    def can_be_kept(self, value: object) -> bool:
        """Whether its class shows it from nothing but its content and the settings."""
        return home_of(type(value)).partition(".")[0] in _LIBRARIES

    def ran(self, step_id: str, used: frozenset[str], outcome: Outcome) -> None:
        """A step has run. `used`: settings that it has read and not set."""
        by_run = _by_setting({key for key in outcome.looked if key[0] in used})
        for name in (used & {PANDAS, NUMPY}) - outcome.used:
            by_run[name] = (frozenset(), "")
        self._by_run[step_id] = by_run
        looked = outcome.looked | outcome.looked_to_show
        self._looked[step_id] = _by_setting({key for key in looked if key[0] in used})

    def rename(self, old: str, new: str) -> None:
        """The id of a step has changed; if `new` is empty, the step was deleted."""
        for kept in (self._by_run, self._looked):
            looked = kept.pop(old, None)
            if new and looked is not None:
                kept[new] = looked

    def again(
        self, step_id: str, results: Mapping[str, StepResult], space: TrackedNamespace, most: int
    ) -> StepResult | None:
        """Display a step's value again, if that is all there is to do: it is then up to date.
        Returns the same result if no setting that it read has changed.

        `most`: limit in characters. None: the step has to run.
        """
        causes, result = self._graph.causes(step_id), results.get(step_id)
        names = {each.name for each in causes if each.why is not Why.EDITED}
        known = {*self._by_run.get(step_id, ()), *self._looked.get(step_id, ())}
        if not causes or result is None or self._graph.status(step_id) is not Status.STALE:
            return None
        if not names <= known or any(each.why is Why.EDITED for each in causes):
            return None
        now = self._surroundings.set_states(step_id)
        reading().begin()
        if not _as_before(self._looked.get(step_id, {}), names):
            result = self._shown(step_id, names, result, space, most)
        if result is not None:
            self._graph.read_again(step_id, {name: resources.mark(now[name]) for name in names})
        return result

    def _shown(
        self,
        step_id: str,
        names: set[str],
        result: StepResult,
        space: TrackedNamespace,
        most: int,
    ) -> StepResult | None:
        version, by_run = self._store.get(SHOWN, step_id), self._by_run.get(step_id, {})
        if version is None or not _as_before(by_run, names):
            return None
        if any(each.kind == "image/png" for each in result.displays):
            return None
        made = self._graph.made(step_id)
        visit = Visit(
            self._store, lambda name: step_id if name in made else self._graph.maker(name, step_id)
        )
        space.begin()
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(None):
                value = visit.lend(version, may_change=False)
                shown = repr(value)[:most]
                pictures = displays.collect(value, displays.open_figures())
        except (Lost, Exception):  # noqa: BLE001 - whatever it is: the run of the step tells it
            return None
        finally:
            space.end()
        if any(visit.changed(region) is not None for region in visit.entered):
            visit.undo()
            return None
        seen = {key for key in reading().seen if key[0] in names}
        self._looked[step_id] |= _by_setting(seen.union(*(by_run[name][0] for name in names)))
        return replace(result, value=value, shown=shown, displays=pictures)


def _as_before(looked: _Looked, names: set[str]) -> bool:
    """Whether what was read of these settings is unchanged."""
    return all(name in looked for name in names) and all(
        reading().present(looked[name][0]) == looked[name][1] for name in names
    )


def _by_setting(looked: set[Key]) -> _Looked:
    found: dict[str, set[Key]] = {}
    for key in looked:
        found.setdefault(key[0], set()).add(key)
    present = reading().present
    return {name: (frozenset(keys), present(keys)) for name, keys in found.items()}
