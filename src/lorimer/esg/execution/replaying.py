"""Decides which step runs next, until nothing is stale.

The outcome of a run decides what comes next: if a step left what it left before, its readers do not
run; if it made other values, they do; a value that is gone is first made again by its step. Steps
that then see another value than before have to run too, in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from typing import Final

from lorimer.esg.execution.attempt import Attempts
from lorimer.esg.execution.results import Held, Observer, StepResult
from lorimer.esg.graph.questions import StepError
from lorimer.esg.graph.steps import Status
from lorimer.esg.resources import resources
from lorimer.esg.values.store import Lost, Version, gone

_AGAIN: Final = 20
"""How often a step may run within one replay before everything runs again from the start."""
_FAILS: Final = 3
"""How often a step may fail within one replay. What it has advanced is made again for others, which
would make it run again and advance that once more."""
Told = Callable[[StepResult], None]
Pending = Callable[[], str | None]


class Replays:
    """Brings steps up to date. `observer` is asked before each run."""

    def __init__(self, attempts: Attempts, observer: Observer | None = None) -> None:
        self._attempts = attempts
        self._graph = attempts.graph
        self._observer = observer
        self._wanted: str | None = None
        """The step for which makers run."""

    def one(self, step_id: str) -> None:
        """Run a step, with what it needs and what becomes stale before it as a result. Raises
        Held."""
        if self._deepest(step_id) == step_id and self._run(step_id, None) is None:
            if self._graph.steps[-1] != step_id:
                self._attempts.surroundings.set_last()
            return
        asked = {each for each in self._graph.stale() if each != step_id}
        ran = Counter[str]()

        def pending() -> str | None:
            for each in self._graph.stale():
                if each == step_id:
                    return None if ran[step_id] else step_id
                if each not in asked and self._may_run(each, ran):
                    return each
            return None

        self._until(pending, ran, step_id, None, [])
        if not ran[step_id]:  # it is blocked: it runs anyway, to show why
            self._until(lambda: None, ran, step_id, None, [])
        self._attempts.surroundings.set_last()

    def all(self, told: Told | None) -> tuple[list[str], dict[str, Held]]:
        """Run what is stale, in step order, until nothing is; files and the states of the process
        end as the steps left them.

        Returns the steps that ran, and those that were held back.
        """
        ran, order, held = Counter[str](), list[str](), dict[str, Held]()
        graph = self._graph
        self._attempts.overlooked()
        graph.news()
        waiting = [(graph.position(each), each) for each in graph.stale()]

        seen = 0

        def pending() -> str | None:
            nonlocal seen
            while True:
                for each in graph.news():
                    heappush(waiting, (graph.position(each), each))
                while waiting:
                    each = waiting[0][1]
                    if self._may_run(each, ran) and not self._held(each, held):
                        return each
                    heappop(waiting)
                if len(order) == seen:
                    return None
                seen = len(order)
                self._attempts.overlooked()

        while (step := pending()) is not None:
            try:
                self._until(pending, ran, None, told, order)
            except Held as back:
                held[self._wanted or step] = back
        self._leave_files(pending, ran, told, order)
        if order:
            self._attempts.surroundings.set_last()
        return order, held

    def make(self, step_id: str) -> None:
        """Run a step again for the values it made, and only what becomes stale as a result."""
        asked, ran = {*self._graph.stale()}, Counter[str]()

        def pending() -> str | None:
            found = (each for each in self._graph.stale() if each not in asked)
            return next((each for each in found if self._may_run(each, ran)), None)

        self._until(pending, ran, step_id, None, [])
        self._leave_files(pending, ran, None, [])
        self._attempts.surroundings.set_last()

    # ---------------------------------------------------------------- the loop

    def _leave_files(
        self, pending: Pending, ran: Counter[str], told: Told | None, order: list[str]
    ) -> None:
        """Files end as their last writers left them."""
        for each in self._attempts.files.unlike():
            if self._graph.status(each) is not Status.BLOCKED:
                with suppress(Held):
                    self._until(pending, ran, each, told, order)

    def _until(
        self,
        pending: Pending,
        ran: Counter[str],
        first: str | None,
        told: Told | None,
        order: list[str],
    ) -> None:
        self._wanted = first or pending()
        target = self._wanted
        while target is not None:
            if self._attempts.as_before(target) or self._shown_again(target, told):
                target = self._wanted = pending()
                continue
            step = self._deepest(target)
            ran[step] += 1
            lost = self._run(step, told)
            if lost is None:
                order.append(step)
                ran[_fails(step)] += self._graph.status(step) is Status.FAILED
                target = self._wanted = pending() or (None if ran[first or ""] else first)
            elif lost.maker:
                ran[step] -= 1
                ran[f"{step} without {lost.maker}"] += 1
                target = lost.maker
            else:
                raise StepError(
                    f"step {step!r} needs {lost.name!r} as it was given to the session, "
                    "which a step has changed and which cannot be copied: begin anew"
                )
            if max(ran.values()) > _AGAIN:
                self._everything(told, order)
                return

    def _shown_again(self, step: str, told: Told | None) -> bool:
        if self._observer is not None:  # it is called for runs, and has to be called for this too
            return False
        before = self._attempts.results.get(step)
        result = self._attempts.show_again(step)
        if result is not None and result is not before and told is not None:
            told(result)
        return result is not None

    def _run(self, step: str, told: Told | None) -> Lost | None:
        if self._observer is not None:
            self._observer.starting(step)
        lost = self._attempts.run(step)
        if lost is None:
            if self._observer is not None:
                self._observer.finished(self._attempts.results[step])
            if told is not None:
                told(self._attempts.results[step])
        return lost

    def _everything(self, told: Told | None, order: list[str]) -> None:
        """The last resort: run every step from the first. Then again without those that fail, since
        a failed step may have advanced an iterator."""
        status, failed = self._graph.status, set[str]()
        while (lost := self._each(failed, told, order)) is not None:
            now = {each for each in self._graph.steps if status(each) is Status.FAILED}
            if now <= failed:
                raise StepError(f"{lost}, and does not stay: begin anew")
            failed |= now

    def _each(self, failed: set[str], told: Told | None, order: list[str]) -> Lost | None:
        for step in self._graph.steps:
            self._attempts.forget(step)
        for step in self._graph.steps:
            if step in failed:
                self._graph.failed(step)
                continue
            lost = self._run(step, told)
            if lost is not None:
                return lost
            order.append(step)
        return None

    def _may_run(self, step: str, ran: Counter[str]) -> bool:
        status = self._graph.status(step)
        if status in (Status.FRESH, Status.BLOCKED):
            return False
        if status is not Status.FAILED and ran[_fails(step)] >= _FAILS:
            self._graph.failed(step)
            return False
        return not (status is Status.FAILED and ran[step])

    def _held(self, step: str, held: dict[str, Held]) -> bool:
        """Whether a step is held back; so is every step that needs one."""
        for needed in self._graph.get_ancestors(step) if held and step not in held else ():
            if needed in held:
                held[step] = Held(needed, f"it needs {needed}, which was not run")
        return step in held

    def _deepest(self, step: str) -> str:
        """The step, or the one that has to run before it for a value that is gone."""
        seen = {step}
        while True:
            needed = [each for each in self._needed(step) if each not in seen]
            if not needed:
                return step
            step = min(needed, key=self._graph.position)
            seen.add(step)

    def _needed(self, step_id: str) -> set[str]:
        """Makers of what it will read, as far as known, whose values are gone."""
        graph, found, versions = self._graph, set[str](), list[Version]()
        for name, maker in graph.needs(step_id).items():
            version = self._attempts.store.get(name, maker)
            if version is not None:
                versions.append(version)
            elif name.startswith(resources.FILE) and self._attempts.files.gone(name, maker):
                found.add(maker)
        found |= gone(versions, lambda region: graph.left_by(region, step_id))
        return found - {""}


def _fails(step: str) -> str:
    """The key under which failures of a step are counted."""
    return f"{step} fails"
