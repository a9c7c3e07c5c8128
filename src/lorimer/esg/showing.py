"""What a step shows, shown again under other settings, without running the step.

How many digits pandas prints changes what a step shows and nothing that it does. Where a step has
read a setting only to show its last value, and that value can be had as it was, it is shown anew.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from lorimer.esg import displays, resources
from lorimer.esg.graph import ExecutionStateGraph
from lorimer.esg.namespace import TrackedNamespace
from lorimer.esg.results import StepResult
from lorimer.esg.settings import NUMPY, PANDAS
from lorimer.esg.steps import Status, Why
from lorimer.esg.store import Lost, VersionStore, Visit
from lorimer.esg.surroundings import Surroundings

SHOWN: Final = "(shown)"
"""The name of the last value of a step among its versions."""
_LIBRARIES: Final = ("numpy", "pandas")


class Showing:
    """The last values of the steps of one session."""

    def __init__(
        self, graph: ExecutionStateGraph, store: VersionStore, surroundings: Surroundings
    ) -> None:
        self._graph = graph
        self._store = store
        self._surroundings = surroundings
        self._only: dict[str, frozenset[str]] = {}

    def can_be_kept(self, value: object) -> bool:
        """Its class shows itself by nothing else than what it holds and the settings."""
        return type(value).__module__.partition(".")[0] in _LIBRARIES

    def ran(self, step_id: str, only: frozenset[str]) -> None:
        """A step has run: settings that it has read to show its value, and for nothing else."""
        self._only[step_id] = only & {PANDAS, NUMPY}

    def rename(self, old: str, new: str) -> None:
        """A step has another id, or, if `new` is empty, is no more."""
        only = self._only.pop(old, None)
        if new and only is not None:
            self._only[new] = only

    def again(
        self, step_id: str, results: Mapping[str, StepResult], space: TrackedNamespace, most: int
    ) -> StepResult | None:
        """Show a step's value anew, if that is all there is to do: it is up to date then.

        `most`: characters. None: the step has to run.
        """
        causes, result = self._graph.causes(step_id), results.get(step_id)
        if not causes or result is None or self._graph.status(step_id) is not Status.STALE:
            return None
        only = self._only.get(step_id, frozenset[str]())
        if any(each.why is Why.EDITED or each.name not in only for each in causes):
            return None
        version = self._store.get(SHOWN, step_id)
        if version is None or any(each.kind == "image/png" for each in result.displays):
            return None
        made = self._graph.made(step_id)
        visit = Visit(
            self._store, lambda name: step_id if name in made else self._graph.maker(name, step_id)
        )
        now = self._surroundings.set_states(step_id)
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
        reads = {name: resources.mark(now[name]) for name in {each.name for each in causes}}
        self._graph.read_again(step_id, reads)
        return replace(result, value=value, shown=shown, displays=pictures)
