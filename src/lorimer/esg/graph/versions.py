"""Which step makes the value that a step reads: the last writer before it.

Every write makes a version (name, step), as in static single assignment; a read binds to the latest
version before it. Writers of a name are kept in step order and found by bisection, readers with the
version they read. So the cost of adding a step depends on what it reads and writes, not on the
length of the history, and a step inserted between others rebinds exactly the readers after it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import Final

from lorimer.esg.analysis.text import BUILTINS, Analysis
from lorimer.esg.graph.steps import Step

ANY: Final = "*"
"""The name under which a step is listed that may write any name (`import *`, `exec` of a
variable)."""


class Versions:
    """The bindings of all steps. Owns `Step.bound`; makes no other decision.

    Methods that change something return (name, reader) for every step whose maker of that name has
    changed.
    """

    def __init__(self, steps: dict[str, Step]) -> None:
        self._steps = steps
        self._writers: dict[str, list[str]] = {}
        self._readers: dict[str, dict[str, list[str]]] = {}  # maker (or "") -> name -> readers
        self._omnivores: list[str] = []  # steps that may read any name, in step order
        self._shadowed: set[str] = set()  # names of builtins that some step writes

    def writer(self, name: str, step: Step) -> str:
        """The last step before this one that writes the name; empty if none does."""
        writers = self._writers.get(name)
        if not writers:
            return ""
        if self._label(writers[-1]) < step.label:
            return writers[-1]
        place = bisect_left(writers, step.label, key=self._label)
        return writers[place - 1] if place else ""

    def next_writer(self, name: str, step: Step) -> str:
        """The first step after this one that writes the name; empty if none does."""
        writers = self._writers.get(name, [])
        place = bisect_left(writers, step.label + 1, key=self._label)
        return writers[place] if place < len(writers) else ""

    def names_before(self, step: Step) -> list[str]:
        """Every name that some step before this one writes."""
        return [name for name in self._writers if self.writer(name, step)]

    def writers(self, name: str) -> list[str]:
        """All steps that write a name, in step order."""
        return list(self._writers.get(name, ()))

    def dependants(self, step: Step) -> Iterator[tuple[str, str]]:
        """(name, reader) for every step that reads a value made by this one; empty name: by
        hand."""
        yield from self._readers_of(step)
        for other in step.before:
            yield "", other

    def _readers_of(self, step: Step) -> Iterator[tuple[str, str]]:
        for name, readers in self._readers.get(step.id, {}).items():
            for reader in readers:
                yield name, reader
        if step.writes:
            yield from self.seeing_all(step)

    def seeing_all(self, step: Step) -> list[tuple[str, str]]:
        """Later steps that may read any name, as readers of ANY."""
        place = bisect_left(self._omnivores, step.label + 1, key=self._label)
        return [(ANY, reader) for reader in self._omnivores[place:]]

    def makers(self, step: Step, names: Iterable[str] | None = None) -> set[str]:
        """The steps that make what this one reads, or the part of it with these names."""
        if names is None and step.reads_any:
            return {other.id for other in self._steps.values() if other.label < step.label}
        wanted = step.bound if names is None else {*names, ANY} & step.bound.keys()
        return {step.bound[name] for name in wanted}

    # ---------------------------------------------------------------- changes

    def add(self, step: Step, *, last: bool) -> list[tuple[str, str]]:
        """Bind a step's reads and publish its writes. `last`: no step comes after it."""
        for name in self._depends(step):
            self._bind(step, name)
        if step.reads_any:
            insort(self._omnivores, step.id, key=self._label)
        moved = self.seeing_all(step) if step.writes else []
        for name in step.writes:
            moved += self._publish(step, name, last)
        if step.writes_any:
            moved += self._publish(step, ANY, last)
        return moved

    def remove(self, step: Step) -> list[tuple[str, str]]:
        """Withdraw a step's reads and writes."""
        for name in self._depends(step):
            self._unbind(step, name)
        if step.reads_any:
            self._omnivores.remove(step.id)
        moved = self.seeing_all(step) if step.writes else []
        for name in step.writes:
            moved += self._withdraw(step, name)
        if step.writes_any:
            moved += self._withdraw(step, ANY)
        return moved

    def replace(self, step: Step, told: Analysis) -> list[tuple[str, str]]:
        """Replace a step's reads and writes, in the same place; touches only what differs."""
        moved = list[tuple[str, str]]()
        depended, wrote = self._depends(step), step.writes
        if step.reads_any and not told.reads_unknown:
            self._omnivores.remove(step.id)
        elif told.reads_unknown and not step.reads_any:
            insort(self._omnivores, step.id, key=self._label)
        if step.writes_any and not told.writes_unknown:
            moved += self._withdraw(step, ANY)
        published = told.writes_unknown and not step.writes_any
        step.take(told)
        depends = self._depends(step)
        for name in depended - depends:
            self._unbind(step, name)
        for name in depends - depended:
            self._bind(step, name)
        for name in wrote - step.writes:
            moved += self._withdraw(step, name)
        for name in step.writes - wrote:
            moved += self._publish(step, name, last=False)
        if published:
            moved += self._publish(step, ANY, last=False)
        return moved

    def rename(self, old: str, new: str) -> None:
        """A step has a new id, already in `steps`."""
        step = self._steps[new]
        for name in (*step.writes, ANY):
            _swap(self._writers.get(name, []), old, new)
        for name in self._depends(step):
            readers = self._readers.get(step.bound.get(name, ""), {})
            _swap(readers.get(name, []), old, new)
        _swap(self._omnivores, old, new)
        for name, readers in self._readers.pop(old, {}).items():
            self._readers.setdefault(new, {})[name] = readers
            for reader in readers:
                self._steps[reader].bound[name] = new

    def _depends(self, step: Step) -> set[str]:
        """The names whose makers matter to a step. A step that reads anything may read what was
        made by a step that may write any name, names of builtins included."""
        names = {*step.depends, *self._shadowed.intersection(step.builtins)}
        if names or step.builtins:
            names.add(ANY)
        return names

    def _bind(self, step: Step, name: str) -> None:
        writer = self.writer(name, step)
        if writer:
            step.bound[name] = writer
        if writer or name != ANY:
            readers = self._readers.setdefault(writer, {})
            if name in readers:
                readers[name].append(step.id)
            else:
                readers[name] = [step.id]

    def _unbind(self, step: Step, name: str) -> None:
        readers = self._readers.get(step.bound.pop(name, ""), {})
        waiting = readers.get(name, [])
        if step.id in waiting:
            waiting.remove(step.id)
            if not waiting:
                del readers[name]

    def _publish(self, step: Step, name: str, last: bool) -> list[tuple[str, str]]:
        if name in BUILTINS and name not in self._shadowed:
            self._shadow(name)
        if last:
            writers = self._writers.get(name)
            if writers is None:
                self._writers[name] = [step.id]  # no spare capacity: most names have one writer
            else:
                writers.append(step.id)
            return []
        before = self.writer(name, step)
        insort(self._writers.setdefault(name, []), step.id, key=self._label)
        if name == ANY and not before:  # steps without such a maker are not listed as readers
            steps = self._steps.values()
            behind = [other for other in steps if other.label > step.label and self._depends(other)]
        else:
            readers = self._readers.get(before, {}).get(name, [])
            behind = [self._steps[each] for each in readers if self._steps[each].label > step.label]
        return self._again(behind, name)

    def _withdraw(self, step: Step, name: str) -> list[tuple[str, str]]:
        self._writers[name].remove(step.id)
        if not self._writers[name]:
            del self._writers[name]
        readers = self._readers.get(step.id, {}).get(name, [])
        return self._again([self._steps[each] for each in readers], name)

    def _again(self, steps: Iterable[Step], name: str) -> list[tuple[str, str]]:
        moved = list[tuple[str, str]]()
        for step in steps:
            maker = step.bound.get(name, "")
            self._unbind(step, name)
            self._bind(step, name)
            if step.bound.get(name, "") != maker:
                moved.append((name, step.id))
        return moved

    def _shadow(self, name: str) -> None:
        """From now on the name of a builtin is treated like other names."""
        self._shadowed.add(name)
        for step in self._steps.values():
            if name in step.builtins:
                self._bind(step, name)

    def _label(self, step: str) -> int:
        return self._steps[step].label


def _swap(ids: list[str], old: str, new: str) -> None:
    if old in ids:
        ids[ids.index(old)] = new
