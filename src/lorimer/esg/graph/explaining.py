"""Answers derived from the graph: which step depends on which, what would run and why; scripts."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lorimer.core.errors import nearest
from lorimer.esg.graph.questions import Planned, Questions, StepError
from lorimer.esg.graph.steps import Status, Step, plain, told


class Explanations(Questions):
    """Queries over more than one step; changes nothing."""

    def get_ancestors(self, step_id: str, variable_names: set[str] | None = None) -> list[str]:
        """The steps that this one depends on, directly or indirectly, in step order.

        `variable_names`: only through these names among its reads.
        """
        step = self._step(step_id)
        found = self._versions.makers(step, variable_names)
        if variable_names is None:
            found |= step.after
        else:
            found |= {maker for _, maker in self._behind(variable_names, step)}
        waiting = list(found)
        while waiting:
            step = self._steps[waiting.pop()]
            new = (self._versions.makers(step) | step.after) - found
            found |= new
            waiting += new
        return self._sorted(found)

    def get_subgraph_from(self, step_id: str) -> list[str]:
        """A step and all that depend on it, directly or indirectly, in step order."""
        found = {step_id}
        waiting = [self._step(step_id)]
        while waiting:
            for _, reader in self._versions.dependants(waiting.pop()):
                if reader not in found:
                    found.add(reader)
                    waiting.append(self._steps[reader])
        return self._sorted(found)

    def replay_from(self, step_id: str) -> list[str]:
        """What a replay from this step would run, in step order; nothing is executed.

        This is the step, all that depend on it, and the earlier steps whose values they need and
        that are not up to date.
        """
        wanted = set(self.get_subgraph_from(step_id))
        seen = set(wanted)
        waiting = list(wanted)
        while waiting:
            step = self._steps[waiting.pop()]
            new = (self._versions.makers(step) | step.after) - seen
            seen |= new
            needed = {each for each in new if self._steps[each].status is not Status.FRESH}
            wanted |= needed
            waiting += needed
        return self._sorted(wanted)

    def plan(self) -> list[Planned]:
        """A dry run: every step that is not up to date, in step order, with the reasons."""
        found = list[Planned]()
        for each in self.stale():
            step = self._steps[each]
            reasons = (why,) if (why := _has_not_run(step)) else told(step.causes)
            found.append(Planned(each, reasons, step.seconds))
        return found

    def why_stale(self, step_id: str) -> list[str]:
        """The chain of causes from a step back to the origin of its staleness, one line each; empty
        if it is up to date."""
        lines, seen = list[str](), set[str]()
        while step_id and step_id not in seen:
            seen.add(step_id)
            step = self._step(step_id)
            if why := _has_not_run(step):
                return [*lines, f"{step_id}: {why}"]
            if not step.causes:
                break
            cause = next(iter(step.causes))
            lines.append(f"{step_id}: {cause}")
            step_id = cause.step
        return lines

    def explain(self, step_id: str) -> str:
        """What a step reads from which steps, which steps read from it, and whether it is up to
        date."""
        lines = [f"{step_id} is {self._step(step_id).status}"]
        lines += [f"  {line}" for line in self.relations(step_id)]
        lines += [f"  because {line}" for line in self.why_stale(step_id)]
        return "\n".join(lines)

    def relations(self, step_id: str, given: Collection[str] = ()) -> list[str]:
        """What a step reads from which steps, and which steps read from it, one line each. `given`:
        names that exist without a step that makes them."""
        step = self._step(step_id)
        lines = [f"is no Python: {step.error}"] if step.error else []
        lines += [f"reads {name} of {maker}" for name, maker in self.makers(step_id).items()]
        lines += [
            f"reads {name}, which "
            + (f"only {later} makes, behind it" if later else "no step makes")
            for name, later in self.unresolved(step_id).items()
            if name not in given
        ]
        readers: dict[str, set[str]] = {name: set() for name in self._written(step)}
        for name, reader in self._versions.dependants(step):
            readers.setdefault(plain(name) or "(an edge by hand)", set()).add(reader)
        lines += [
            f"makes {name}" + (f" for {', '.join(self._sorted(by))}" if by else "")
            for name, by in readers.items()
        ]
        return lines

    def lineage(self, name: str, at: str | None = None) -> list[tuple[str, str]]:
        """(step, name) for every version that the value of a name was made from, oldest first.

        `at`: the value that this step sees; by default the value after all steps. Empty if no step
        makes it.
        """
        found = self._behind([name], None if at is None else self._step(at))
        waiting = [*found]
        while waiting:
            step = self._steps[waiting.pop()[1]]
            new = {(of, by) for of, by in step.bound.items()} - found
            found |= new
            waiting += new
        versions = {(maker, plain(of)) for of, maker in found}
        return sorted(versions, key=lambda each: (self._label(each[0]), each[1]))

    def backward_slice(self, target: str) -> list[str]:
        """The steps that make a name, or a step and all it needs, in step order. Raises StepError
        if there is neither a step nor a name `target`."""
        if target in self._steps:
            wanted = {target}
        else:
            wanted = {maker for _, maker in self._behind([target], None)}
        if not wanted:
            raise StepError(
                f"there is no step and no name {target!r}{nearest(target, self._order)}"
            )
        return self._sorted(wanted.union(*map(self.get_ancestors, wanted)))

    def script(self, step_ids: Iterable[str]) -> str:
        """These steps as a script in the percent format, in step order."""
        cells = sorted({each: self._step(each) for each in step_ids}.values(), key=_place)
        return "\n".join(f"# %% {step.id}\n{step.source.rstrip()}\n" for step in cells)


def _has_not_run(step: Step) -> str:
    """Why a step has made nothing; empty if it has run to its end."""
    if step.status is Status.FAILED:
        return "its last run failed"
    return "" if step.ran else "it never ran"


def _place(step: Step) -> int:
    return step.label
