"""Which step runs next, until nothing is stale.

A run shows what the next one has to be: a step that left what it had left before spares its
readers, one that made other values does not, and a value that is gone is made again first by the
step that made it. Steps that then see another value than they saw have to run as well, in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from lorimer.esg import resources
from lorimer.esg.attempt import Attempts
from lorimer.esg.questions import StepError
from lorimer.esg.results import StepResult
from lorimer.esg.steps import Status
from lorimer.esg.store import Version, gone

_AGAIN: Final = 20
"""How often a step may run within one replay before everything runs anew."""
Told = Callable[[StepResult], None]
Pending = Callable[[], str | None]


class Replays:
    """Brings steps up to date."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._graph = attempts.graph

    def one(self, step_id: str) -> list[str]:
        """Run a step, with what it needs and what that makes stale before it. All that ran."""
        first = self._deepest(step_id)
        if first == step_id and self._attempts.run(step_id) is None:
            return [step_id]
        asked = {each for each in self._graph.stale() if each != step_id}
        ran = Counter[str]()

        def pending() -> str | None:
            for each in self._graph.stale():
                if each == step_id:
                    return None if step_id in ran else step_id
                if each not in asked and self._may_run(each, ran):
                    return each
            return None

        order = self._until(pending, ran, step_id, None)
        if step_id not in ran:  # it is blocked: it runs all the same, to tell why
            order += self._until(lambda: None, ran, step_id, None)
        return order

    def all(self, told: Told | None) -> list[str]:
        """Run what is stale, in step order, until nothing is; files end as steps left them."""
        ran = Counter[str]()

        def pending() -> str | None:
            for each in self._graph.stale():
                if self._may_run(each, ran):
                    return each
            return None

        order = self._until(pending, ran, None, told)
        for each in self._attempts.surroundings.unlike_files():
            order += self._until(pending, ran, each, told)
        return order

    def make(self, steps: list[str]) -> list[str]:
        """Run these steps again, for the values that they made."""
        order, ran = list[str](), Counter[str]()
        for each in steps:
            order += self._until(lambda: None, ran, each, None)
        return order

    # ---------------------------------------------------------------- the loop

    def _until(
        self,
        pending: Callable[[], str | None],
        ran: Counter[str],
        first: str | None,
        told: Told | None,
    ) -> list[str]:
        order = list[str]()
        wanted = first or pending()
        while wanted is not None:
            step = self._deepest(wanted)
            ran[step] += 1
            if ran[step] > _AGAIN:
                return order + self._everything(told)
            lost = self._attempts.run(step)
            if lost is None:
                order.append(step)
                if told is not None:
                    told(self._attempts.results[step])
                wanted = pending()
            elif lost.maker:
                wanted = lost.maker
                ran[step] -= 1
                ran[f"{step} without {lost.maker}"] += 1
                if ran[f"{step} without {lost.maker}"] > _AGAIN:
                    return order + self._everything(told)
            else:
                raise StepError(
                    f"step {step!r} needs {lost.name!r} as it was given to the session, "
                    "which a step has changed and which cannot be copied: begin anew"
                )
        return order

    def _everything(self, told: Told | None) -> list[str]:
        """Where nothing else ends: every step, from the first."""
        for step in self._graph.steps:
            self._attempts.forget(step)
        order = list[str]()
        for step in self._graph.steps:
            lost = self._attempts.run(step)
            if lost is not None:
                raise StepError(
                    f"step {step!r} needs {lost.name!r}, which does not stay: begin anew"
                )
            order.append(step)
            if told is not None:
                told(self._attempts.results[step])
        return order

    def _may_run(self, step: str, ran: Counter[str]) -> bool:
        status = self._graph.status(step)
        return status is not Status.BLOCKED and not (status is Status.FAILED and ran[step])

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
        """Makers of what it will read, as far as is known, whose values are gone."""
        graph, found, versions = self._graph, set[str](), list[Version]()
        for name, maker in graph.needs(step_id).items():
            version = self._attempts.store.get(name, maker)
            if version is not None:
                versions.append(version)
            elif name.startswith(resources.FILE) and graph.made(maker).get(
                name
            ) != resources.fingerprint(name):
                found.add(maker)
        found |= gone(versions, lambda name: graph.maker(name, step_id))
        return found - {""}
