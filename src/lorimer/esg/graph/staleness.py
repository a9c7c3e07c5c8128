"""Which steps are not up to date, and why.

A cause names the edge it came along, so that exactly this one can be withdrawn: when a step has run
again and made what it made before, its readers lose that cause. A step without causes is up to date
(early cut-off).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from lorimer.esg.graph.steps import ABSENT, UNSEEN, Cause, Status, Step, Why
from lorimer.esg.graph.versions import ANY, Versions

_OF_A_NAME: Final = (Why.INPUT, Why.REBOUND)


class Staleness:
    """Owns `Step.status` and `Step.causes`."""

    def __init__(self, steps: dict[str, Step], versions: Versions) -> None:
        self._steps = steps
        self._versions = versions
        self._failed: set[str] = set()
        self.given: Callable[[str], bool] = lambda _: False
        """Whether a name had a value, or a file existed, before any step."""
        self.news: dict[str, None] = {}
        """Steps added, or no longer up to date, since this was last emptied."""

    def cause(self, step: Step, cause: Cause) -> None:
        """Add a reason to run the step again."""
        step.causes.setdefault(cause)
        if step.status is Status.FAILED:
            self._unblock(step)
        if step.ran and step.status is not Status.BLOCKED:
            self._set(step, Status.STALE)

    def spread(self, step: Step, *, known: bool = False) -> set[str]:
        """Everything that may see another value when this step runs again.

        `known`: omit steps that already have this cause, and what depends on them.
        """
        found = set[str]()
        waiting = [step]
        while waiting:
            maker = waiting.pop()
            for name, each in self._versions.dependants(maker):
                why = Why.INPUT if name else Why.EDGE
                reader, cause = self._steps[each], Cause(why, name, maker.id)
                told = known and cause in reader.causes and reader.status is not Status.FRESH
                self.cause(reader, cause)
                if not told and each not in found:
                    found.add(each)
                    waiting.append(reader)
        return found

    def added(self, step: Step) -> None:
        """The step is new."""
        self.news[step.id] = None

    def _set(self, step: Step, status: Status) -> None:
        if step.status is not status:
            step.status = status
            if status is not Status.FRESH:
                self.news[step.id] = None

    def rebound(self, moved: Iterable[tuple[str, str]]) -> set[str]:
        """These steps now read a name from another maker."""
        found = set[str]()
        for name, each in moved:
            step = self._steps.get(each)
            if step is None or not step.ran:
                continue
            for cause in [c for c in step.causes if c.name == name and c.why in _OF_A_NAME]:
                del step.causes[cause]
            if self._as_before(step, name):
                self.relax(step)
                continue
            maker = step.bound.get(name, "")
            self.cause(step, Cause(Why.REBOUND, name, maker))
            found |= {each, *self.spread(step)}
        return found

    def fresh(self, step: Step, *, same: bool) -> set[str]:
        """The step has run, and left the `same` values as before. Returns readers that see another
        value, and their readers."""
        if step.status is Status.FAILED:
            self._unblock(step)
        step.causes.clear()
        step.ran = True
        self._set(step, Status.FRESH)
        return self._settle(step, again=not same)

    def remade(self, step: Step) -> set[str]:
        """What the step made has changed without a run of the step."""
        return self._settle(step, again=False)

    def failed(self, step: Step) -> set[str]:
        """The step has raised: what needs it is blocked."""
        self._set(step, Status.FAILED)
        self._failed.add(step.id)
        return self._block(step)

    def removed(self, step: Step) -> None:
        """The step was deleted, so it blocks nothing."""
        if step.id in self._failed:
            self._unblock(step)

    def _block(self, step: Step) -> set[str]:
        found = self.spread(step)
        for each in found:
            if self._steps[each].status is not Status.FAILED:
                self._set(self._steps[each], Status.BLOCKED)
        return found

    def _unblock(self, step: Step) -> None:
        self._failed.discard(step.id)
        self._set(step, Status.STALE if step.ran else Status.NEW)
        for each in self._steps.values():
            if each.status is Status.BLOCKED:
                self._set(each, Status.STALE if each.ran else Status.NEW)
        for each in self._failed & self._steps.keys():
            self._block(self._steps[each])

    def _as_before(self, step: Step, name: str) -> bool:
        """What the step would read is known, and equals what it read."""
        maker = step.bound.get(name, "")
        if name == ANY and not maker:  # all possible makers have run: compare each name
            return not step.reads_any
        if not maker:
            return step.used.get(name) == ABSENT and not self.given(name)
        if self._steps[maker].status is not Status.FRESH:
            return False
        used = step.used.get(name, UNSEEN)
        return used != UNSEEN and self._steps[maker].made.get(name) == used

    def _settle(self, step: Step, *, again: bool) -> set[str]:
        """The step is up to date; so are its readers if they would read what they have read, and
        theirs.

        `again`: it has run again, so a value without a fingerprint counts as changed.
        """
        changed, waiting = self._compared(step, again=again)
        while waiting:
            reader = waiting.pop()
            if self._relaxed(reader):
                waiting += self._compared(reader, again=False)[1]
        return changed

    def _compared(self, step: Step, *, again: bool) -> tuple[set[str], list[Step]]:
        """What sees another value; readers that would read what they have read."""
        changed, alike = set[str](), list[Step]()
        for name, each in list(self._versions.dependants(step)):
            reader = self._steps[each]
            known = name in reader.used and step.made.get(name, UNSEEN) != UNSEEN
            if self._as_before(reader, name) if known else not again:
                for why in Why:
                    reader.causes.pop(Cause(why, name, step.id), None)
                alike.append(reader)
            elif reader.ran:
                if known or name == ANY:
                    self.cause(reader, Cause(Why.INPUT, name, step.id))
                changed |= {each, *self.spread(reader, known=True)}
        return changed, alike

    def _relaxed(self, step: Step) -> bool:
        """Whether no cause is left, and the step is up to date by that."""
        if not step.ran or step.causes or step.status is not Status.STALE:
            return False
        self._set(step, Status.FRESH)
        return True

    def relax(self, step: Step) -> None:
        """If no cause is left, the step is up to date, and its readers may be too."""
        if self._relaxed(step):
            self._settle(step, again=False)

    def rename(self, old: str, new: str) -> None:
        """The id of a step has changed: update the causes that name it."""
        if old in self._failed:
            self._failed = self._failed - {old} | {new}
        for step in self._steps.values():
            if any(cause.step == old for cause in step.causes):
                step.causes = {
                    Cause(each.why, each.name, new if each.step == old else each.step): None
                    for each in step.causes
                }
