"""The Execution State Graph: ordered steps, which step makes what each reads, and what is stale.

The order of steps is fixed: the graph says what need not run again, and never reorders. Nothing
here executes code; `replay_from` and `plan` say what would run. Adding a step takes time
proportional to what it reads and writes, a staleness query to what it finds.
"""

from __future__ import annotations

import ast
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from lorimer.esg.analysis.parsing import NO_PYTHON, fault_of, parsed
from lorimer.esg.analysis.text import Analysis, analyse
from lorimer.esg.graph.explaining import Explanations
from lorimer.esg.graph.questions import StepError
from lorimer.esg.graph.staleness import Staleness
from lorimer.esg.graph.steps import ABSENT, UNSEEN, Cause, Status, Step, Why, Worked
from lorimer.esg.graph.versions import ANY

_GAP: Final = 1 << 32
"""Gap between the labels of two adjacent steps, for steps inserted between them."""


class ExecutionStateGraph(Explanations):
    """Steps, versions of names, and what is stale. One owner; not thread-safe."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners: list[Callable[[str, str], None]] = []
        """Called when the id of a step changes: (old, new); `new` is empty when the step was
        deleted."""
        self._staleness = Staleness(self._steps, self._versions)

    # ---------------------------------------------------------------- building

    def add_step(self, step_id: str, source: str, *, after: str | None = None) -> str:
        """Add a step at the end, or right after another one (`""`: before all). Returns its id.

        Its edges are inferred. Code that is not valid Python is kept, so that it can be edited: the
        node's `error` says why. Raises StepError for an id that is taken, empty or unknown.
        """
        if step_id in self._steps:
            raise StepError(f"there is a step {step_id!r} already: edit it, or take another id")
        if not step_id:
            raise StepError("the id of a step cannot be empty")
        step = Step(step_id, source, self._place(after), Analysis())
        step.take(self._read_text(step))
        self._steps[step_id] = step
        self._insert(step)
        self._staleness.added(step)
        self._changed(at_end=self._order[-1] == step_id)
        return step_id

    def add_edge(self, src_step_id: str, dst_step_id: str) -> None:
        """Declare that a step depends on an earlier one, where the code does not show it. Raises
        StepError if the order is wrong or a step unknown."""
        source, target = self._step(src_step_id), self._step(dst_step_id)
        if source.label >= target.label:
            raise StepError(
                f"step {dst_step_id!r} cannot depend on {src_step_id!r}, which comes after it"
            )
        source.before |= {dst_step_id}
        target.after |= {src_step_id}

    def edit_step(self, step_id: str, source: str) -> list[str]:
        """Replace the code of a step. Returns what becomes stale, in step order.

        A change of comments or layout alone makes nothing stale.
        """
        step = self._step(step_id)
        self._changed()
        if _same_code(step.source, source):
            step.source = source
            return []
        step.source = source
        moved = self._versions.replace(step, self._read_text(step))
        self._staleness.cause(step, Cause(Why.EDITED))
        return self._sorted(
            {step_id, *self._staleness.spread(step), *self._staleness.rebound(moved)}
        )

    def delete_step(self, step_id: str) -> list[str]:
        """Delete a step; its readers see the versions before it. Returns what becomes stale."""
        step = self._step(step_id)
        moved = self._versions.remove(step)
        for other in step.before:
            self._steps[other].after -= {step_id}
        for other in step.after:
            self._steps[other].before -= {step_id}
        del self._order[self._index(step)]
        del self._steps[step_id]
        self._staleness.removed(step)
        self._changed()
        stale = self._sorted(self._staleness.rebound(moved))
        for listener in self.listeners:
            listener(step_id, "")
        return stale

    def move_step(self, step_id: str, *, after: str = "") -> list[str]:
        """Move a step right after another one (`""`: before all). Returns what becomes stale.

        Raises StepError if an edge added by hand would point backwards.
        """
        step = self._step(step_id)
        if after == step_id:
            raise StepError(f"step {step_id!r} cannot come after itself")
        label = self._place(after)
        wrong = [each for each in step.after if self._steps[each].label > label]
        wrong += [each for each in step.before if self._steps[each].label < label]
        if wrong:
            raise StepError(f"an edge between {step_id!r} and {wrong[0]!r} would point backwards")
        old = dict(step.bound)
        moved = self._versions.remove(step)
        del self._order[self._index(step)]
        step.label = label
        moved += self._insert(step)
        self._changed()
        changed = [name for name in step.depends if old.get(name) != step.bound.get(name)]
        if step.reads_any:
            changed.append(ANY)
        return self._sorted(
            self._staleness.rebound([*moved, *((name, step_id) for name in changed)])
        )

    def rename_step(self, old: str, new: str) -> None:
        """Change the id of a step; this makes nothing stale."""
        step = self._step(old)
        if new in self._steps or not new:
            raise StepError(f"step {old!r} cannot be called {new!r}: the id is taken or empty")
        index = self._index(step)
        del self._steps[old]
        step.id = new
        self._steps[new] = step
        self._order[index] = new
        self._versions.rename(old, new)
        for other in step.before:
            self._steps[other].after ^= {old, new}
        for other in step.after:
            self._steps[other].before ^= {old, new}
        self._staleness.rename(old, new)
        self._changed()
        for listener in self.listeners:
            listener(old, new)

    def given_by(self, given: Callable[[str], bool]) -> None:
        """`given` says whether a name had a value, or a file existed, before any step: when no step
        deletes it any more, it is there again."""
        self._staleness.given = given

    def news(self) -> list[str]:
        """Steps added, or no longer up to date, since the last call, even if they are again."""
        found = [*self._staleness.news]
        self._staleness.news.clear()
        return [each for each in found if each in self._steps]

    def mark_stale(self, step_id: str) -> list[str]:
        """Declare that a step has to run again. Returns it and its dependants, in step order."""
        step = self._step(step_id)
        self._staleness.cause(step, Cause(Why.MARKED))
        return self._sorted({step_id, *self._staleness.spread(step)})

    # ---------------------------------------------------------------- what a run told

    def record_output(self, step_id: str, namespace: Mapping[str, object]) -> None:
        """Record that a step has run and left this namespace: it is up to date.

        Its outputs are the names that its code writes, and names that no earlier step made.
        """
        step = self._step(step_id)
        new = {
            name
            for name in namespace.keys() - step.writes
            if not name.startswith("__") and not self._versions.writer(name, step)
        }
        if new or step.writes_any:
            told = replace(step.known, writes=step.writes | new, kills=step.kills | new)
            told = replace(told, reads_unknown=False, writes_unknown=False)
            self._versions.replace(step, told)
        step.outputs = {name: namespace[name] for name in step.writes if name in namespace}
        self._staleness.fresh(step, same=False)

    def observe(
        self,
        step_id: str,
        reads: Mapping[str, str],
        writes: Mapping[str, str],
        *,
        kills: Iterable[str] = (),
        in_place: Iterable[str] = (),
        leads: Mapping[str, tuple[str, ...]] | None = None,
        saw_all: bool = False,
        seconds: float | None = None,
    ) -> list[str]:
        """Record a run of a step: what it actually read and wrote, with fingerprints of the values.

        `steps.ABSENT` stands for a missing name in `reads` and for a deleted one in `writes`.
        Regions of objects (store.py) are names with a `#`. `kills`: names it wrote without reading
        them. `in_place`: names whose objects it changed. `leads`: for what it wrote, the regions
        that it leads to. `saw_all`: it looked at the namespace as a whole, so any other name may
        matter.

        This replaces what its code suggested. Steps that were stale only because of this one, and
        would read what they read before, are up to date again (early cut-off). Returns the steps
        that are newly stale because they read other values or from other makers, in step order.
        """
        step = self._step(step_id)
        same = step.ran and step.made == writes
        unseen = {name for name, print_ in step.made.items() if print_ == UNSEEN}
        other = step.ran and not unseen and _names(step.made) != _names(writes)
        readers = [*self._versions.dependants(step)] if unseen else []
        unseen = unseen if step.status is Status.FRESH else set[str]()
        step.used, step.made, step.seconds = dict(reads), dict(writes), seconds
        step.in_place, step.leads = frozenset(in_place), leads or {}
        step.ran_source = step.source
        moved = self._versions.replace(step, Analysis.of_run(reads, writes, kills, saw_all=saw_all))
        if other:
            moved += self._versions.seeing_all(step)
        for name, each in readers:
            if name in unseen:
                moved += self._now_seen(self._steps[each], name)
        stale = {*self._staleness.fresh(step, same=same), *self._staleness.rebound(moved)}
        return self._sorted(stale)

    def _now_seen(self, reader: Step, name: str) -> list[tuple[str, str]]:
        """A step that ran in another process read a value nobody had seen here. Now that the value
        is made again, the step counts as having read it and all objects it leads to."""
        if reader.used.get(name) != UNSEEN:
            return []
        seen = {of: self._steps[by].made.get(of, ABSENT) for of, by in self._behind([name], reader)}
        if not seen:
            return []
        reader.used = {**reader.used, **seen}
        told = replace(reader.known, reads=reader.reads | seen.keys())
        return self._versions.replace(reader, told)

    def read_again(self, step_id: str, reads: Mapping[str, str]) -> None:
        """The present values of these names count as those that the step has read, without a run:
        it is up to date if it was stale only because of them."""
        step = self._step(step_id)
        step.used = {**step.used, **reads}
        for cause in [each for each in step.causes if each.name in reads]:
            del step.causes[cause]
        self._staleness.relax(step)

    def read_others(self, step_id: str, reads: Mapping[str, str]) -> list[str]:
        """Record that a step would do the same with these reads: it is up to date without a run.
        Returns what is newly stale, like `observe`."""
        step = self._step(step_id)
        return self.observe(
            step_id,
            reads,
            step.made,
            kills=step.kills,
            in_place=step.in_place,
            leads=step.leads,
            seconds=step.seconds,
        )

    def accept(self, step_id: str, name: str, fingerprint: str) -> list[str]:
        """Record that what a step made (a file) was changed from outside and stays so. Returns what
        becomes stale."""
        step = self._step(step_id)
        step.made = {**step.made, name: fingerprint}
        return self._sorted(self._staleness.remade(step))

    def failed(self, step_id: str) -> list[str]:
        """Record that a step has raised, so it makes nothing. Returns the steps that this
        blocks."""
        step = self._step(step_id)
        if step.ran:
            step.worked = Worked(step.ran_source, step.used)
        step.used, step.made, step.leads, step.ran = {}, {}, {}, False
        step.in_place = frozenset()
        return self._sorted(self._staleness.failed(step))

    def changed(self, resource: str, fingerprint: str = "") -> list[str]:
        """Record that a file, the environment or another resource has changed. Returns what becomes
        stale.

        `fingerprint`: of its present state; steps that read that state are not affected.
        """
        found = set[str]()
        for step in self._steps.values():
            used = step.used.get(resource)
            if used is not None and used != fingerprint and resource not in step.bound:
                self._staleness.cause(step, Cause(Why.RESOURCE, resource))
                found |= {step.id, *self._staleness.spread(step)}
        return self._sorted(found)

    # ---------------------------------------------------------------- inside

    def _changed(self, *, at_end: bool = False) -> None:
        self.revision += 1
        if not at_end:
            self._rewritten = self.revision

    def _read_text(self, step: Step) -> Analysis:
        try:
            step.analysis, step.error = analyse(step.source), ""
        except NO_PYTHON as error:
            step.analysis, step.error = Analysis(), fault_of(error)
        return step.analysis

    def _place(self, after: str | None) -> int:
        """A label for a step that comes right after that one."""
        if after is None or (self._order and after == self._order[-1]):
            return self._steps[self._order[-1]].label + _GAP if self._order else 0
        index = self._index(self._step(after)) + 1 if after else 0
        if index == 0:
            return self._steps[self._order[0]].label - _GAP if self._order else 0
        low, high = (self._steps[self._order[at]].label for at in (index - 1, index))
        if high - low > 1:
            return (low + high) // 2
        for number, each in enumerate(self._order):  # no room: relabel all, in the same order
            self._steps[each].label = number * _GAP
        return self._place(after)

    def _index(self, step: Step) -> int:
        return bisect_left(self._order, step.label, key=self._label)

    def _insert(self, step: Step) -> list[tuple[str, str]]:
        """Insert a step into the order; later steps that read what it makes become stale."""
        last = not self._order or self._label(self._order[-1]) < step.label
        if last:
            self._order.append(step.id)
        else:
            insort(self._order, step.id, key=self._label)
        moved = self._versions.add(step, last=last)
        self._staleness.rebound(moved)
        return moved


def infer_edges(steps: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """(maker, reader) for steps given as (id, source), in order. Raises SyntaxError."""
    graph = ExecutionStateGraph()
    for step_id, source in steps:
        analyse(source)
        graph.add_step(step_id, source)
    return [(maker, reader) for maker, reader, _ in graph.edges()]


def _names(made: Mapping[str, str]) -> list[tuple[str, bool]]:
    """(name, whether it was deleted) in the order that `globals()` shows."""
    return [(name, made[name] == ABSENT) for name in made if name.isidentifier()]


def _same_code(old: str, new: str) -> bool:
    """Equal except for comments and layout."""
    one, other = parsed(old), parsed(new)
    if one is None or other is None:
        return old == new
    return ast.dump(one) == ast.dump(other)
