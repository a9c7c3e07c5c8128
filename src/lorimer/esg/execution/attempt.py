"""One run of one step: what it is supplied with, what it leaves, what is reported to the graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from mmap import mmap
from types import ModuleType
from typing import Final, NamedTuple

from lorimer.core.world import World
from lorimer.esg.execution.attributes import Attributes, Slot
from lorimer.esg.execution.commit import Commit, Left
from lorimer.esg.execution.lending import Lending
from lorimer.esg.execution.main import stand_for
from lorimer.esg.execution.modules import Modules
from lorimer.esg.execution.namespace import TrackedNamespace
from lorimer.esg.execution.owners import MISSING
from lorimer.esg.execution.part_reads import PartReads
from lorimer.esg.execution.places import Places, copied
from lorimer.esg.execution.results import StepResult
from lorimer.esg.execution.running import Failure, Outcome, run
from lorimer.esg.execution.showing import SHOWN, Showing
from lorimer.esg.execution.streams import MAX_OUTPUT, Streams
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.steps import ABSENT, UNSEEN, Status
from lorimer.esg.resources import resources
from lorimer.esg.resources.files import FileLog, Files
from lorimer.esg.resources.settings import OF_FIGURES
from lorimer.esg.resources.surroundings import Surroundings, spoken_of
from lorimer.esg.resources.watching import watch
from lorimer.esg.values.budget import COPIES, keep_within
from lorimer.esg.values.content import home_of
from lorimer.esg.values.figures import shared
from lorimer.esg.values.store import Lost, VersionStore, Visit

_NOT_MADE: Final[Mapping[Status, str]] = {
    Status.NEW: "has not run",
    Status.FAILED: "has failed",
    Status.BLOCKED: "needs one that has failed",
}


@dataclass(slots=True)
class _Trial:
    """One run of a step, before its outcome is accepted or undone."""

    step: str
    lending: Lending
    states: dict[str, object]
    """Random states, settings etc. as they were before the run."""
    files: FileLog
    outcome: Outcome
    slots: dict[Slot, object]
    """Attributes of modules and classes that it has set."""
    lent: dict[str, object]
    left: dict[str, object]
    """Its globals at the end."""
    deleted: set[str]


class _Told(NamedTuple):
    """What is reported to the graph about a run, as `observe` takes it."""

    reads: dict[str, str]
    writes: dict[str, str]
    kills: set[str]


def _draws(value: object) -> bool:
    """Whether a step that has this value may draw with matplotlib: its modules, figures, axes."""
    home = value.__name__ if type(value) is ModuleType else home_of(type(value))
    return home.partition(".")[0] == "matplotlib"


def _before_forks(space: TrackedNamespace, lending: Lending) -> Callable[[], None]:
    """Supplies all names before a fork: what the child reads then cannot be seen here."""
    thread = threading.get_ident()

    def forking() -> None:
        known = lending.known()
        if threading.get_ident() == thread:  # values move only between the step's own actions
            space.fetch(known)

    return forking


class Attempts:
    """Runs steps, each with the values of its place, and reports to the graph what they did."""

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
        self.places = Places(graph, self.store, self._attributes, self.given)
        self._world = world
        self._most = snapshot_bytes
        self._globals = TrackedNamespace()
        self._streams = Streams()
        Commit(Visit(self.store, lambda _: ""), "").take(given)
        graph.given_by(lambda name: self.store.given(name) or self.files.given(name))

    def run(self, step_id: str) -> Lost | None:
        """Run a step. Returns what it needs and is gone; in that case nothing has changed."""
        if (unknown := self.surroundings.lost_state(step_id)) is not None:
            return unknown
        reloaded = self._modules.begin(step_id)
        self._attributes.forget(reloaded)
        if reloaded:  # everything from there on counts as reloaded
            self._mark_later(step_id)
        trial = self._tried(step_id)
        outcome, visit, kept = trial.outcome, trial.lending.visit, trial.lending.using
        self.files.reached(step_id, trial.files, visit.opened_by())
        lost = outcome.lost or trial.lending.lost or self.files.lost(step_id, trial.files)
        if lost is not None:
            self._written(trial)
            kept.undo()
            visit.undo()
            self.surroundings.set_states(step_id)
        elif outcome.failure is not None:
            self._written(trial)
            kept.undo()
            self._failed(trial, outcome.failure)
        else:
            self._succeeded(trial)
        self._cut_off()
        return lost

    def _cut_off(self) -> None:
        """Files opened by such steps are no longer at their paths. Objects that hold them are
        discarded here, and made again before somebody uses them."""
        steps, self.files.cut_off = self.files.cut_off, set()
        for region in self.store.regions().values() if steps else ():
            held = () if region.live is None else region.live.contents
            if not steps.isdisjoint(region.states) and any(each.opaque for each in held):
                region.live = None

    def _tried(self, step_id: str) -> _Trial:
        """Run a step with the values of its place. What it raises is in the outcome. An exception
        that asks the process to end is raised, and nothing has changed then."""
        graph, space = self.graph, self._globals
        lending = Lending(graph, self.store, self._attributes, self.given, step_id, space.prepare)
        states = self.surroundings.set_states(step_id)
        shared().renew()
        hook, files = watch(), self.files.begin(step_id, lending.using.spoken)
        self._cut_off()
        hook.log, hook.forking = files, _before_forks(space, lending)
        stand_for(space)
        space.begin(lending.lend, lending.known, lending.sees)
        slots = dict[Slot, object]()
        try:
            outcome = run(
                step_id,
                graph.source(step_id),
                space,
                self._world.monotonic,
                self._streams,
                whole=graph.reads_unknown(step_id),
                parts=self._parts.may_be(step_id),
            )
            slots = lending.using.end()
        except Lost as lost:
            outcome = Outcome(lost=lost)
        except BaseException:
            lending.using.undo()
            lending.visit.undo()
            raise
        finally:
            hook.log = hook.forking = None
        left, deleted = space.end(), space.deleted
        shared().renew()
        return _Trial(step_id, lending, states, files, outcome, slots, space.lent, left, deleted)

    def _succeeded(self, trial: _Trial) -> None:
        """Accept what the step has left, and report it to the graph."""
        graph, step_id, outcome, kept = self.graph, trial.step, trial.outcome, trial.lending.using
        visit, parts = trial.lending.visit, self._globals.parts
        lent = trial.lent | {slot.name: value for slot, value in kept.lent.items()}
        left = trial.left | {slot.name: slot.get() for slot in kept.lent}
        left = {name: value for name, value in left.items() if value is not MISSING}
        done = self._commit(step_id, visit, lent, left, outcome.value)
        told = self._told(trial, lent, left, done)
        in_place = self._in_place(step_id, visit, lent, done)
        graph.observe(
            step_id,
            told.reads,
            told.writes,
            kills=told.kills,
            in_place=in_place,
            leads=self._leads(step_id, done),
            saw_all=trial.lending.saw_all,
            seconds=outcome.seconds,
        )
        self._parts.ran(step_id, {} if trial.lending.saw_all else parts, trial.lent, visit, done)
        for each in done.displaced | kept.displaced:
            if each in graph:
                graph.mark_stale(each)
        if done.shared:
            later = {*graph.steps_after(step_id)}
            for each in {each for region in done.shared for each in later & region.states.keys()}:
                graph.mark_stale(each)
        if self._attributes.first_written({*(slot.name for slot in trial.slots), *in_place}):
            self._mark_later(step_id)  # no run has shown whether they read that
        if not resources.READ_ONCE_SET.isdisjoint(told.writes):
            self.overlooked()
        self._keep(step_id, outcome, (*told.reads, *in_place), (*told.writes, *in_place))
        keep_within(self.store, self._most, self._seconds)

    def _told(
        self, trial: _Trial, lent: Mapping[str, object], left: Mapping[str, object], done: Left
    ) -> _Told:
        """What it has read and written: names, regions, resources."""
        graph, step_id, outcome, files = self.graph, trial.step, trial.outcome, trial.files
        deleted = {name for name in lent.keys() - left.keys() if lent[name] is not MISSING}
        deleted |= {
            each for each in trial.deleted if each in self.given or graph.maker(each, step_id)
        }
        reads = trial.lending.reads | done.read
        writes = {name: version.print for name, version in done.bound.items()} | done.made
        writes |= {region.name: state.print for region, state in done.changed.items()}
        writes |= dict.fromkeys(deleted, ABSENT)
        kills = {*deleted, *done.made, *(name for name in done.bound if name not in lent)}
        kept, settings = trial.lending.using, outcome.used | outcome.used_to_show
        spoken = spoken_of(graph.source(step_id), kept.spoken)
        if any(map(_draws, trial.lent.values())):
            spoken |= OF_FIGURES
        used = settings | spoken
        if files.relative:
            used |= {resources.CWD}
        if files.starts:
            used |= {resources.ENV}
        self.surroundings.brings(step_id, libraries=kept.brings)
        self.surroundings.compare_states(step_id, trial.states, used, reads, writes)
        only_used = settings - writes.keys() - spoken
        self._showing.ran(step_id, only_used, outcome)
        writes |= self._written(trial)
        reads |= self._modules.ran(step_id, kept.imported, files) | files.read
        return _Told(reads, writes, kills | (files.written - files.read.keys()))

    def _written(self, trial: _Trial) -> dict[str, str]:
        """The files that it has written. However it ended, its next run finds them as they were
        before."""
        reached = (each for region in trial.lending.visit.entered for each in region.objects)
        maps = any(issubclass(type(each), mmap) for each in reached)
        return self.files.left(trial.step, trial.files, reached_maps=maps)

    def overlooked(self) -> None:
        """Mark later steps stale that have to see what an earlier step sets for all, but ran before
        that step set it, or before they were placed after it."""
        slots = self._attributes.slots.values()
        names = {each.name for each in slots if each.everyone and each.written}
        for name in names | resources.READ_ONCE_SET:
            behind = False
            for step in self.graph.steps if self.graph.last_writer(name) else ():
                if behind and name not in self.graph.used(step):
                    self._mark(step)
                behind = behind or name in self.graph.made(step)

    def _mark_later(self, step_id: str) -> None:
        """Mark all steps after this one stale."""
        for each in self.graph.steps_after(step_id):
            self._mark(each)

    def _mark(self, step_id: str) -> None:
        """Mark a step stale, so that it runs even if the values that made it stale turn out
        unchanged."""
        if self.graph.status(step_id) in (Status.FRESH, Status.STALE):
            self.graph.mark_stale(step_id)

    def _with_maker(self, step_id: str, failure: Failure, error: BaseException | None) -> Failure:
        """Explain a missing name that an earlier step should have made."""
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
        """Whether all changes since the last run concern parts of values that the step does not
        use: if so, it is now up to date."""
        return self._parts.as_before(step_id, self._globals)

    def show_again(self, step_id: str) -> StepResult | None:
        """Display the last value of a step again, if nothing else is to be done. None: it has to
        run."""
        result = self._showing.again(step_id, self.results, self._globals, MAX_OUTPUT)
        if result is not None:
            self.results[step_id] = result
        return result

    def recall(self, step_id: str, reads: Iterable[str], writes: Iterable[str]) -> None:
        """Record that a step has run elsewhere: it is up to date, but its values are gone."""
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

    def _failed(self, trial: _Trial, failure: Failure) -> None:
        """Restore what the step has changed; what it left is kept for inspection."""
        step_id, visit, outcome = trial.step, trial.lending.visit, trial.outcome
        lent, left = trial.lent, trial.left
        outcome.failure = self._with_maker(step_id, failure, outcome.error)
        changed = {region: None for region in visit.entered if visit.changed(region) is not None}
        memo: dict[int, object] = {}
        seen: dict[str, object] = {}
        for name, value in lent.items():
            version = self.store.get(name, self.graph.maker(name, step_id))
            moved = version is not None and visit.reaches(version, changed)
            seen[name] = copied(value, memo) if moved else value
        seen |= {name: left[name] for name in left if lent.get(name) is not left[name]}
        visit.undo()
        self.forget(step_id)
        self.graph.failed(step_id)
        self.surroundings.set_states(step_id)
        self._keep(step_id, outcome, trial.lending.reads, (), seen)

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
        found = Commit(visit, step_id).take({**bound, SHOWN: value}, apart=SHOWN)
        found.bound.pop(SHOWN, None)
        return found

    def _in_place(
        self, step_id: str, visit: Visit, lent: Mapping[str, object], done: Left
    ) -> list[str]:
        """The names used by the step whose objects it has changed."""
        found = list[str]()
        for name in lent if done.changed else ():
            version = self.store.get(name, self.graph.maker(name, step_id))
            if version is not None and visit.reaches(version, done.changed):
                found.append(name)
        return found

    def _leads(self, step_id: str, done: Left) -> dict[str, tuple[str, ...]]:
        """The regions that the values the step left lead to directly."""
        found = {name: version.regions for name, version in done.bound.items()}
        for region in self.store.wrote(step_id):
            found[region.name] = region.states[step_id].refs
        return {name: tuple(each.name for each in to) for name, to in found.items() if to}

    def forget(self, step_id: str) -> None:
        """Record that a step has made nothing."""
        self.store.forget(step_id)
        self._parts.forget(step_id)
        self.surroundings.forget(step_id)

    def rename(self, old: str, new: str) -> None:
        """The id of a step has changed; if `new` is empty, the step was deleted."""
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
        self.files.rename(old, new)

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
                **self.places.values(after, apart=True),
                **(more if after == step_id else {}),
            },
        )
