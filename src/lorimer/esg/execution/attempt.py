"""One run of one step: what it is lent, what it leaves, what the graph is told."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Final

from lorimer.core.world import World
from lorimer.esg.execution.attributes import PREFIX, Attributes
from lorimer.esg.execution.commit import Commit, Left
from lorimer.esg.execution.lending import Lending
from lorimer.esg.execution.modules import Modules
from lorimer.esg.execution.namespace import TrackedNamespace
from lorimer.esg.execution.results import StepResult
from lorimer.esg.execution.running import MAX_OUTPUT, Failure, Outcome, run
from lorimer.esg.execution.showing import SHOWN, Showing
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.part_reads import PartReads
from lorimer.esg.graph.steps import ABSENT, UNSEEN, Status
from lorimer.esg.resources import resources
from lorimer.esg.resources.files import Files
from lorimer.esg.resources.surroundings import Surroundings, asked, words
from lorimer.esg.resources.watching import watch
from lorimer.esg.values.budget import COPIES, keep_within
from lorimer.esg.values.figures import shared
from lorimer.esg.values.owners import MISSING
from lorimer.esg.values.store import Lost, Region, VersionStore, Visit, gone

_NOT_MADE: Final[Mapping[Status, str]] = {
    Status.NEW: "has not run",
    Status.FAILED: "has failed",
    Status.BLOCKED: "needs one that has failed",
}


class Attempts:
    """Runs steps, each with the values of its place, and tells the graph what they did."""

    def __init__(
        self,
        graph: ExecutionStateGraph,
        world: World,
        given: Mapping[str, object],
        snapshot_bytes: int = COPIES,
    ) -> None:
        self.graph = graph
        self.results: dict[str, StepResult] = {}
        self.store = VersionStore()
        self.surroundings = Surroundings(graph, given=bool(given))
        self.files = Files(graph)
        self._attributes = Attributes(self.store)
        self._modules = Modules(graph, self.files)
        self._showing = Showing(graph, self.store, self.surroundings)
        self._parts = PartReads(graph, self.store)
        self.given = dict.fromkeys(given)
        self._world = world
        self._most = snapshot_bytes
        self._globals = TrackedNamespace()
        Commit(Visit(self.store, lambda _: ""), "").take(given)

    def run(self, step_id: str) -> Lost | None:
        """Run a step. What it needs and is gone: nothing has changed then."""
        graph, space = self.graph, self._globals
        if (unknown := self.surroundings.lost_state(step_id)) is not None:
            return unknown
        self._let_go(step_id, self._modules.begin(step_id))
        lending = Lending(graph, self.store, self._attributes, self.given, step_id, space.prepare)
        visit, reads, kept = lending.visit, lending.reads, lending.using
        before = self.surroundings.set_states(step_id)
        shared().renew()
        hook = watch()
        files = hook.log = self.files.begin(step_id)
        space.begin(lending.lend, lending.known, lending.sees)
        try:
            outcome = run(
                step_id,
                graph.source(step_id),
                space,
                self._world.monotonic,
                whole=graph.reads_unknown(step_id),
                parts=self._parts.may_be(step_id),
            )
            set_by_it = kept.end()
        except Lost as lost:
            outcome, set_by_it = Outcome(lost=lost), {}
        except BaseException:
            kept.undo()
            visit.undo()
            raise
        finally:
            hook.log = None
        left, deleted = space.end(), space.deleted
        shared().renew()
        lost = outcome.lost or lending.lost or self.files.lost(step_id, files)
        if lost is not None or outcome.failure is not None:
            kept.undo()
        if lost is not None:
            visit.undo()
            self.surroundings.set_states(step_id)
            return lost
        if outcome.failure is not None:
            outcome.failure = self._with_maker(step_id, outcome.failure, outcome.error)
            self._failed(step_id, outcome, reads, visit, space.lent, left)
            return None
        lent = space.lent | {slot.name: value for slot, value in kept.lent.items()}
        left |= {slot.name: slot.get() for slot in kept.lent}
        left = {name: value for name, value in left.items() if value is not MISSING}
        done = self._commit(step_id, visit, lent, left, outcome.value)
        there = {name for name in deleted if name in self.given or graph.maker(name, step_id)}
        deleted = {name for name in lent.keys() - left.keys() if lent[name] is not MISSING} | there
        in_place = self._in_place(step_id, visit, lent, done)
        reads |= done.read
        writes = {name: version.print for name, version in done.bound.items()} | done.made
        writes |= {region.name: state.print for region, state in done.changed.items()}
        writes |= dict.fromkeys(deleted, ABSENT)
        kills = {*deleted, *done.made, *(name for name in done.bound if name not in lent)}
        spoken = words(graph.source(step_id), space.lent.values())
        used = outcome.used | outcome.used_to_show
        used |= {resources.CWD} if files.relative else set[str]()
        self.surroundings.brings(step_id, libraries=kept.brings)
        self.surroundings.compare_states(step_id, before, used, spoken, reads, writes)
        told = outcome.used_to_show | outcome.used
        told -= writes.keys() | asked(spoken)
        self._showing.ran(step_id, frozenset(told), outcome)
        writes |= self.files.left(step_id, files)
        reads |= self._modules.ran(step_id, kept.imported, files) | files.read
        kills |= files.written - files.read.keys()
        graph.observe(
            step_id,
            reads,
            writes,
            kills=kills,
            in_place=in_place,
            leads=self._leads(step_id, done),
            saw_all=lending.saw_all,
            seconds=outcome.seconds,
        )
        self._parts.ran(step_id, {} if lending.saw_all else space.parts, space.lent, visit, done)
        for each in done.displaced | kept.displaced:
            if each in graph:
                graph.mark_stale(each)
        if self._attributes.first_written({*(slot.name for slot in set_by_it), *in_place}):
            for each in graph.steps_after(step_id):  # none has told whether it reads that
                if graph.status(each) is Status.FRESH:
                    graph.mark_stale(each)
        changed = (*writes, *in_place)
        self._keep(step_id, outcome, (*reads, *in_place), changed)
        keep_within(self.store, self._most, self._seconds)
        return None

    def _let_go(self, step_id: str, modules: list[ModuleType]) -> None:
        """A step is about to load these anew: it is as if everything from there on were."""
        self._attributes.forget(modules)
        for each in self.graph.steps_after(step_id) if modules else ():
            if self.graph.status(each) is Status.FRESH:
                self.graph.mark_stale(each)

    def _with_maker(self, step_id: str, failure: Failure, error: BaseException | None) -> Failure:
        """Why there is no such name, where a step before was to make it."""
        name = getattr(error, "name", None) if isinstance(error, NameError) else None
        if not isinstance(name, str) or name in self._globals.lent:
            return failure
        maker = self.graph.maker(name, step_id)
        why = _NOT_MADE.get(self.graph.status(maker)) if maker else None
        if why is None:
            return failure
        message = f"{failure.message} (step {maker!r}, which makes it, {why})"
        return replace(failure, message=message)

    def _seconds(self, step: str) -> float:
        return self.graph.seconds(step) or 0.0 if step in self.graph else 0.0

    def as_before(self, step_id: str) -> bool:
        """Whether all that has changed for a step are parts of values that it does not use: it is
        up to date then."""
        return self._parts.as_before(step_id, self._globals)

    def show_again(self, step_id: str) -> StepResult | None:
        """Show the last value of a step anew, where nothing else is to be done. None: it has to
        run."""
        result = self._showing.again(step_id, self.results, self._globals, MAX_OUTPUT)
        if result is not None:
            self.results[step_id] = result
        return result

    def recall(self, step_id: str, reads: Iterable[str], writes: Iterable[str]) -> None:
        """A step has run elsewhere: it is up to date, and its values are gone."""
        reads, writes = dict.fromkeys(reads, UNSEEN), dict.fromkeys(writes, UNSEEN)
        for names in (reads, writes):
            names |= {n: resources.fingerprint(n) for n in names if n.startswith(resources.FILE)}
        for name in filter(str.isidentifier, writes):
            self.store.put_lost(name, step_id)
        self.surroundings.brings(step_id, libraries=not resources.READ_BY_ALL.isdisjoint(reads))
        self.surroundings.recall(step_id, [name for name in writes if ":" in name])
        self.graph.observe(
            step_id,
            reads,
            writes,
            kills=writes.keys() - reads.keys(),
            in_place=writes.keys() & reads.keys(),
            saw_all=self.graph.reads_unknown(step_id),
        )

    def _failed(
        self,
        step_id: str,
        outcome: Outcome,
        reads: Mapping[str, str],
        visit: Visit,
        lent: Mapping[str, object],
        left: Mapping[str, object],
    ) -> None:
        changed = {region: None for region in visit.entered if visit.changed(region) is not None}
        memo: dict[int, object] = {}
        seen: dict[str, object] = {}
        for name, value in lent.items():
            version = self.store.get(name, self.graph.maker(name, step_id))
            moved = version is not None and visit.reaches(version, changed)
            seen[name] = _copied(value, memo) if moved else value
        seen |= {name: left[name] for name in left if lent.get(name) is not left[name]}
        visit.undo()
        self.forget(step_id)
        self.graph.failed(step_id)
        self.surroundings.set_states(step_id)
        self._keep(step_id, outcome, tuple(reads), (), seen)

    def _commit(
        self,
        step_id: str,
        visit: Visit,
        lent: Mapping[str, object],
        left: Mapping[str, object],
        value: object,
    ) -> Left:
        bound = {
            name: value
            for name, value in left.items()
            if name not in lent or lent[name] is not value
        }
        for name in self.graph.made(step_id).keys() - bound.keys():
            self.store.unbind(name, step_id)
        if not self._showing.can_be_kept(value):
            self.store.unbind(SHOWN, step_id)
            return Commit(visit, step_id).take(bound)
        found = Commit(visit, step_id).take({**bound, SHOWN: value})
        del found.bound[SHOWN]
        return found

    def _in_place(
        self, step_id: str, visit: Visit, lent: Mapping[str, object], done: Left
    ) -> list[str]:
        """The names that the step has used whose objects it has changed."""
        found = list[str]()
        for name in lent if done.changed else ():
            version = self.store.get(name, self.graph.maker(name, step_id))
            if version is not None and visit.reaches(version, done.changed):
                found.append(name)
        return found

    def _leads(self, step_id: str, done: Left) -> dict[str, tuple[str, ...]]:
        """The regions that what the step has left leads to at once."""
        found = {name: version.regions for name, version in done.bound.items()}
        for region in self.store.wrote(step_id):
            found[region.name] = region.states[step_id].refs
        return {name: tuple(each.name for each in to) for name, to in found.items() if to}

    def forget(self, step_id: str) -> None:
        """A step has made nothing."""
        self.store.forget(step_id)
        self._parts.forget(step_id)
        self.surroundings.forget(step_id)

    def rename(self, old: str, new: str) -> None:
        """A step has another id, or, if `new` is empty, is no more."""
        result = self.results.pop(old, None)
        self._showing.rename(old, new)
        self._parts.rename(old, new)
        if not new:
            self.forget(old)
            return
        if result is not None:
            self.results[new] = replace(result, step_id=new)
        self.store.rename(old, new)
        self._modules.rename(old, new)
        self.surroundings.rename(old, new)

    # ---------------------------------------------------------------- looking at values

    def values(self, after: str | None, *, apart: bool) -> dict[str, object]:
        """Every name as it is after a step, or after all; those that are gone are left out.

        `apart`: copies of what is another now, so that what was handed out stays as it is.
        """
        visible = self.visible(after)
        visit = Visit(self.store, lambda name: visible.get(name, ""))
        found, memo = dict[str, object](), dict[int, object]()
        live = {name: region.live for name, region in self.store.regions().items()}
        for name, maker in visible.items():
            version = None if name.startswith(PREFIX) else self.store.get(name, maker)
            if version is None:
                continue
            try:
                found[name] = visit.lend(version, may_change=False)
            except Lost:
                continue
        if not apart:
            self._put_attributes(visit)
        moved: dict[Region, None] = {
            region: None
            for region, state in visit.entered.items()
            if live.get(region.name) is not state
        }
        if not apart or not moved:
            return found
        for name in found:
            version = self.store.get(name, visible[name])
            if version is not None and visit.reaches(version, moved):
                found[name] = _copied(found[name], memo)
        for region in moved:
            state = live[region.name]
            if state is not None:
                self.store.restore(region, state)
        return found

    def _put_attributes(self, visit: Visit) -> None:
        """Let modules and classes hold what they do after all steps."""
        for slot in self._attributes.slots.values():
            version = self.store.get(slot.name, self.graph.last_writer(slot.name))
            with suppress(Lost):
                value = MISSING if version is None else visit.lend(version, may_change=False)
                if slot.get() is not value:
                    slot.put(value)

    def gone(self, after: str | None) -> set[str]:
        """Steps that have to run again for all that `values` would leave out."""
        visible = self.visible(after)
        versions = (self.store.get(name, maker) for name, maker in visible.items())
        return gone([each for each in versions if each], lambda name: visible.get(name, ""))

    def visible(self, after: str | None) -> dict[str, str]:
        """Name or region -> the step that makes it, as it is after a step."""
        found = dict.fromkeys(self.given, "")
        for step in self.graph.steps:
            for name, print_ in self.graph.made(step).items():
                if print_ == ABSENT:
                    found.pop(name, None)
                else:
                    found[name] = step
            if step == after:
                break
        return found

    def _keep(
        self,
        step_id: str,
        outcome: Outcome,
        reads: Iterable[str],
        writes: Iterable[str],
        left: Mapping[str, object] | None = None,
    ) -> None:
        more = left or {}
        self.results[step_id] = StepResult(
            step_id,
            self.graph.source(step_id),
            outcome.stdout,
            outcome.stderr,
            outcome.value,
            outcome.shown,
            outcome.displays,
            outcome.failure,
            outcome.error,
            tuple(sorted({name for name in reads if "#" not in name})),
            tuple(sorted({name for name in writes if "#" not in name})),
            outcome.seconds,
            lambda after: {
                **self.values(after, apart=True),
                **(more if after == step_id else {}),
            },
        )


def _copied(value: object, memo: dict[int, object]) -> object:
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # noqa: BLE001 - whatever a class raises: then it is shown as it is
        return value
