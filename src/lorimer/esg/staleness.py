"""Which steps are not up to date, and the causes of each.

A cause names the edge it came along, so that it can be taken back exactly: when a step has run
again and left what it had left before, its readers lose that cause, and without a cause left they
are up to date (early cut-off).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lorimer.esg.steps import Cause, Status, Step, Why
from lorimer.esg.versions import Versions

_OF_A_NAME: Final = (Why.INPUT, Why.REBOUND)


class Staleness:
    """Owns `Step.status` and `Step.causes`."""

    def __init__(self, steps: dict[str, Step], versions: Versions) -> None:
        self._steps = steps
        self._versions = versions

    def dependants(self, step: Step) -> Iterable[tuple[str, str]]:
        yield from self._versions.readers(step)
        for other in step.before:
            yield "", other

    def cause(self, step: Step, cause: Cause) -> bool:
        """Whether that made it stale, which it was not."""
        known = step.status in (Status.STALE, Status.FAILED) and bool(step.causes)
        step.causes.setdefault(cause)
        if step.status is not Status.NEW:
            step.status = Status.STALE
        return not known

    def spread(self, step: Step) -> set[str]:
        """All that may see another value when this one runs again."""
        found = set[str]()
        waiting = [step]
        while waiting:
            maker = waiting.pop()
            for name, each in self.dependants(maker):
                why = Why.INPUT if name else Why.EDGE
                self.cause(self._steps[each], Cause(why, name, maker.id))
                if each not in found:
                    found.add(each)
                    waiting.append(self._steps[each])
        return found

    def rebound(self, moved: Iterable[tuple[str, str]]) -> set[str]:
        """These steps read a name from another maker than before."""
        found = set[str]()
        for name, each in moved:
            step = self._steps.get(each)
            if step is None or step.status is Status.NEW:
                continue
            for cause in [c for c in step.causes if c.name == name and c.why in _OF_A_NAME]:
                del step.causes[cause]
            maker = step.bound.get(name, "")
            if self._as_before(step, name):
                self._relax(step)
                continue
            self.cause(step, Cause(Why.REBOUND, name, maker))
            found |= {each, *self.spread(step)}
        return found

    def _as_before(self, step: Step, name: str) -> bool:
        """What it would read is known, and is what it read."""
        maker = step.bound.get(name, "")
        if not maker or self._steps[maker].status is not Status.FRESH:
            return False
        return name in step.used and self._steps[maker].made.get(name) == step.used[name]

    def settle(self, step: Step) -> set[str]:
        """It is up to date: so are its readers if they would read what they have read."""
        changed = set[str]()
        for name, each in list(self.dependants(step)):
            reader = self._steps[each]
            cause = Cause(Why.INPUT if name else Why.EDGE, name, step.id)
            if cause not in reader.causes:
                if name and name in reader.used and not self._as_before(reader, name):
                    self.cause(reader, cause)
                    changed |= {each, *self.spread(reader)}
                continue
            if self._as_before(reader, name):
                del reader.causes[cause]
                self._relax(reader)
            else:
                changed.add(each)
        return changed

    def _relax(self, step: Step) -> None:
        """Without a cause left it is up to date, and so may its readers be."""
        if step.causes or step.status is not Status.STALE:
            return
        step.status = Status.FRESH
        self.settle(step)

    def fresh(self, step: Step) -> None:
        step.causes.clear()
        step.status = Status.FRESH

    def rename(self, old: str, new: str) -> None:
        """A step has another id: so have the causes that name it."""
        for step in self._steps.values():
            if any(cause.step == old for cause in step.causes):
                step.causes = {
                    Cause(each.why, each.name, new if each.step == old else each.step): None
                    for each in step.causes
                }
