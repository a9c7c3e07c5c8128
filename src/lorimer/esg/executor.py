"""Runs steps in this process, each with the values that are right for its place, and replays.

For code that is trusted: nothing confines it here. The graph says what is stale and why; this
module runs it, tells the graph what was really read and written, and goes on until nothing is
stale. What cannot be had from the store is made again by the step that made it, so a replay may
run more than it had to, but it ends where running everything again would end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from types import FunctionType, MappingProxyType
from typing import Final, Protocol

from lorimer.core.world import World
from lorimer.esg import resources
from lorimer.esg.displays import Display
from lorimer.esg.graph import ExecutionStateGraph
from lorimer.esg.namespace import Missing, TrackedNamespace
from lorimer.esg.patches import PatchResult
from lorimer.esg.questions import StepError
from lorimer.esg.running import Failure, Outcome, run
from lorimer.esg.steps import ABSENT, UNSEEN, Status
from lorimer.esg.store import Lost, Version, VersionStore
from lorimer.world.real import RealWorld

_AGAIN: Final = 20
"""How often a step may run within one replay: one that never settles is told."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of a step."""

    step_id: str
    source: str
    stdout: str
    stderr: str
    value: object
    """Of the last line, if that is an expression. It is the session's own: do not change it."""
    shown: str
    """That value as an interactive Python would show it, at the time; empty for None."""
    displays: tuple[Display, ...]
    """Its figures, and that value as a page or picture."""
    failure: Failure | None
    """Why it raised; it has then changed nothing."""
    error: BaseException | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    seconds: float
    values: Callable[[], dict[str, object]] = field(repr=False, compare=False)

    @property
    def namespace(self) -> dict[str, object]:
        """Every name as it is after the step; of one that failed, what it used is as it left it.

        The values are the session's own: do not change them. Those that are gone are left out.
        """
        return self.values()

    @property
    def ok(self) -> bool:
        """It ran to its end."""
        return self.failure is None


class Held(StepError):
    """A step is not to run now: an `Observer` says so."""

    def __init__(self, step_id: str, why: str) -> None:
        super().__init__(why)
        self.step_id = step_id


class Observer(Protocol):
    """Is asked before each run of a step, and told of it."""

    def starting(self, step_id: str) -> None:
        """It is about to run. Raises Held: then it does not, and neither does what needs it."""
        ...

    def finished(self, result: StepResult) -> None:
        """It has run, or failed."""
        ...


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay did."""

    ran: tuple[str, ...]
    """The steps that ran, in the order of their runs."""
    failed: tuple[str, ...]
    blocked: tuple[str, ...]
    """Steps that need what a failed one did not make."""
    held: Mapping[str, Held] = field(default_factory=dict[str, Held])
    """Steps that were not to run, or that need one: why."""

    @property
    def ok(self) -> bool:
        """All steps are up to date."""
        return not self.failed and not self.blocked and not self.held


@dataclass(frozen=True, slots=True)
class _Commit:
    """What a step has done to the names."""

    writes: dict[str, str]
    kills: set[str]
    in_place: set[str]
    opaque: set[str]


class StepExecutor:
    """A session: a graph, and the values of all its versions.

    `namespace`: names that are there before the first step. `graph`: steps that are there already;
    a new graph otherwise. One owner; not for several threads.
    """

    def __init__(
        self,
        namespace: Mapping[str, object] | None = None,
        *,
        graph: ExecutionStateGraph | None = None,
        world: World | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.graph = ExecutionStateGraph() if graph is None else graph
        self.results: dict[str, StepResult] = {}
        """Of every step that has run: the last one's."""
        self._store = VersionStore()
        self._globals = TrackedNamespace()
        self._ran: dict[str, str] = {}  # step -> the text of its last run
        self._files: dict[str, str] = {}  # fingerprints of files when they were first opened
        self._states: dict[tuple[str, str], object] = {}  # (resource, step) -> state
        self._observer = observer
        self._gone: set[tuple[str, str]] = set()  # (resource, step): states that are not known
        self._world = RealWorld() if world is None else world
        self._given = frozenset(namespace or ())
        for name, value in (namespace or {}).items():
            self._store.put(name, "", value)

    def execute(self, step_id: str, source: str) -> StepResult:
        """Add a step at the end (or give one another text), and run it. See `replay` for the rest.

        A step that raises is told in the result's `failure`, and leaves all values as they were.
        """
        if step_id in self.graph:
            self.graph.edit_step(step_id, source)
        else:
            self.graph.add_step(step_id, source)
        self._run(step_id, {})
        return self.results[step_id]

    def replay(self, on_step: Callable[[StepResult], None] | None = None) -> Replay:
        """Run what is stale, in step order, until nothing is. `on_step` is told of each run.

        What a run shows decides what runs next: a step that makes what it had made leaves its
        readers alone. Raises StepError for steps that do not settle.
        """
        ran: dict[str, int] = {}
        order = list[str]()
        held: dict[str, Held] = {}
        self._changed_files()
        while (step := self._next(ran, held)) is not None:
            try:
                # Where makers have to run first, a step before this one may be stale afterwards.
                for each in self._needed(step) or [step]:
                    done = self._run(each, ran)
                    order += done
                    if on_step is not None:
                        for one in done:
                            on_step(self.results[one])
            except Held as back:
                held[step] = back
                order += [each for each in ran if each not in order]
        order += self._restored_files(ran)
        status = {each: self.graph.status(each) for each in self.graph.steps}
        return Replay(
            tuple(order),
            tuple(each for each, is_ in status.items() if is_ is Status.FAILED),
            tuple(each for each, is_ in status.items() if is_ is Status.BLOCKED),
            held,
        )

    def repair(self, patch: PatchResult, step_id: str) -> bool:
        """Apply a patch, replay, and keep it only if the step runs and no other fails by it.

        Otherwise the texts are as they were, and what ran with others has run again.
        """
        before = {each: self.graph.source(each) for each in patch.hashes}
        failed = {each for each in self.graph.steps if self.graph.status(each) is Status.FAILED}
        patch.apply(self.graph)
        done = self.replay()
        if step_id not in {*done.failed, *done.blocked, *done.held} and failed.issuperset(
            done.failed
        ):
            return True
        for each, source in before.items():
            self.graph.edit_step(each, source)
        self.replay()
        return False

    def recall(self, step_id: str, reads: Iterable[str], writes: Iterable[str]) -> None:
        """A step of the graph has run elsewhere: it is up to date, and its values are gone.

        It runs again when somebody needs one of them. `reads` and `writes`: names, and resources;
        the files among them are taken to be as they are.
        """
        reads, writes = dict.fromkeys(reads, UNSEEN), dict.fromkeys(writes, UNSEEN)
        for names in (reads, writes):
            names |= {n: resources.fingerprint(n) for n in names if n.startswith(resources.FILE)}
        for name in writes:
            if ":" not in name:
                self._store.put_lost(name, step_id)
            elif not name.startswith(resources.FILE):
                self._gone.add((name, step_id))
        self.graph.observe(
            step_id,
            reads,
            writes,
            kills=writes.keys() - reads.keys(),
            in_place=writes.keys() & reads.keys(),
            saw_all=self.graph.reads_unknown(step_id),
        )
        self._ran[step_id] = self.graph.source(step_id)

    def namespace(self, after: str | None = None) -> dict[str, object]:
        """Every name as it is after a step, or after all. The values are the session's own.

        Values that are gone are made again: steps may run.
        """
        for _ in range(_AGAIN):
            lost = {
                maker
                for name, maker in self._visible(after).items()
                if (version := self._store.get(name, maker)) is not None and version.lost
            }
            if not lost:
                break
            ran: dict[str, int] = {}
            for step in [each for each in self.graph.steps if each in lost]:
                self._run(step, ran)
        return self._held(after)

    def _held(self, after: str | None) -> dict[str, object]:
        found = dict[str, object]()
        for name, maker in self._visible(after).items():
            version = self._store.get(name, maker)
            if version is not None and not version.lost:
                found[name] = version.value
        return found

    # ---------------------------------------------------------------- a run

    def _next(self, ran: Mapping[str, int], held: dict[str, Held]) -> str | None:
        for step in self.graph.stale():
            status = self.graph.status(step)
            if status is Status.BLOCKED or (status is Status.FAILED and step in ran):
                continue
            if held and step not in held:
                for each in self.graph.get_ancestors(step):
                    if each in held:
                        held[step] = Held(each, f"it needs {each}, which was not run")
            if step not in held:
                return step
        return None

    def _run(self, step_id: str, ran: dict[str, int]) -> list[str]:
        """Run a step, and before it those whose values it needs and that are gone. All that ran."""
        order = list[str]()
        needed = self._needed(step_id)
        for _ in range(_AGAIN):
            for maker in needed:
                order += self._run(maker, ran)
            if self._observer is not None:
                self._observer.starting(step_id)
            ran[step_id] = ran.get(step_id, 0) + 1
            if ran[step_id] > _AGAIN:
                raise StepError(f"step {step_id!r} does not settle: each run makes other values")
            lost = self._attempt(step_id)
            if lost is None:
                if self._observer is not None:
                    self._observer.finished(self.results[step_id])
                return [*order, step_id]
            if not lost.maker:
                raise StepError(
                    f"step {step_id!r} needs {lost.name!r} as it was given to the session, "
                    "which a step has changed and which cannot be copied: begin anew"
                )
            needed = [lost.maker]
        raise StepError(f"step {step_id!r} needs values that do not stay")

    def _needed(self, step_id: str) -> list[str]:
        """Makers of what it will read, as far as is known, that have to run before it."""
        found: dict[str, None] = {}
        for name, maker in self.graph.needs(step_id).items():
            version = self._store.get(name, maker)
            if version is not None and version.lost:
                found[maker] = None
            elif name.startswith(resources.FILE):
                made = self.graph.made(maker).get(name)
                if made != resources.fingerprint(name):
                    found[maker] = None
        return [each for each in self.graph.steps if each in found]

    def _attempt(self, step_id: str) -> Lost | None:
        graph, space = self.graph, self._globals
        if (gone := self._gone_state(step_id)) is not None:
            return gone
        may_change = graph.may_write(step_id)
        reads: dict[str, str] = {}
        touched: dict[str, Version] = {}
        losses: list[Lost] = []
        saw_all = False

        def lend(name: str) -> object:
            maker = graph.maker(name, step_id)
            version = self._store.get(name, maker)
            if version is None:
                reads[name] = ABSENT  # a step before this one may make it one day
                raise Missing(name)
            try:
                value = self._store.lend(name, maker, may_change=name in may_change)
            except Lost as lost:
                losses.append(lost)
                raise
            reads[name] = self._print(version)
            touched[name] = version
            return value

        def known() -> Iterable[str]:
            nonlocal saw_all
            saw_all = True
            names = [name for name in graph.names_before(step_id) if ":" not in name]
            return dict.fromkeys([*self._given, *names])

        before = self._set_states(step_id)
        watch = resources.watch()
        files = watch.log = resources.FileLog()
        space.begin(lend, known)
        try:
            outcome = run(
                step_id,
                graph.source(step_id),
                space,
                self._world.monotonic,
                whole=graph.reads_unknown(step_id),
            )
        finally:
            watch.log = None
        left = space.end()
        lost = outcome.lost or (losses[0] if losses else self._lost_file(step_id, files))
        if lost is not None or outcome.failure is not None:
            self._store.changed(touched.values())
            if lost is None:
                for name in graph.made(step_id):
                    self._store.drop(name, step_id)
                graph.failed(step_id)
                self._keep(step_id, outcome, tuple(reads), (), space.lent)
            self._set_states(step_id)
            return lost
        done = self._commit(step_id, reads, touched, space.lent, left)
        writes, kills = done.writes, done.kills
        spoken = _words(graph.source(step_id), space.lent.values())
        self._compare_states(step_id, before, files.relative, spoken, reads, writes)
        reads |= files.read
        for name in files.written:
            writes[name] = resources.fingerprint(name)
            if name not in files.read:
                kills.add(name)
        if self._ran.get(step_id) == graph.source(step_id) and reads == graph.used(step_id):
            # What cannot be looked into is taken for what it was: it came of the same.
            alike = graph.made(step_id)
            writes |= {name: alike[name] for name in done.opaque & alike.keys()}
        self._ran[step_id] = graph.source(step_id)
        self._gone -= {(name, step_id) for name in graph.made(step_id)}
        graph.made_again(step_id, writes)
        graph.observe(
            step_id,
            reads,
            writes,
            kills=kills,
            in_place=done.in_place,
            saw_all=saw_all,
            seconds=outcome.seconds,
        )
        self._keep(step_id, outcome, tuple(reads), tuple(writes))
        return None

    def _commit(
        self,
        step_id: str,
        reads: dict[str, str],
        touched: Mapping[str, Version],
        lent: Mapping[str, object],
        left: Mapping[str, object],
    ) -> _Commit:
        """Make versions of what the step bound, deleted or changed."""
        graph, store = self.graph, self._store
        made = dict[str, Version]()
        deleted = lent.keys() - left.keys()
        before = graph.made(step_id).keys()
        in_place = set[str]()
        for version, value, seen in store.changed(touched.values()):
            name = version.name
            if graph.maker(name, step_id) != version.step:
                # Not the one that is seen from here; if it comes to be, this step changes it.
                seen_here = store.get(name, graph.maker(name, step_id))
                reads.setdefault(name, ABSENT if seen_here is None else self._print(seen_here))
                continue
            in_place.add(name)
            reads.setdefault(name, self._print(version))  # it was changed through another name
            if left.get(name, value) is value and name not in deleted:
                made[name] = store.put(name, step_id, value, seen=seen, lent=touched.values())
        for name, value in left.items():
            if name not in lent or lent[name] is not value:
                made[name] = store.put(name, step_id, value, lent=touched.values())
        for name in {*before, *deleted} - made.keys():
            store.drop(name, step_id)
        writes = {
            name: " ".join([_like(version), *self._shared(version, step_id, made, deleted)])
            for name, version in made.items()
        }
        kills = {*deleted, *(name for name in made if name not in lent and name not in in_place)}
        opaque = {name for name, version in made.items() if version.seen.opaque}
        return _Commit(writes | dict.fromkeys(deleted, ABSENT), kills, in_place, opaque)

    def _shared(
        self, version: Version, step_id: str, made: Mapping[str, Version], deleted: Set[str]
    ) -> list[str]:
        """Names that share a part with this one: a change of one is a change of the other."""
        found = set[str]()
        for other in self._store.sharers(version):
            name = other.name
            if name in made or name in deleted:
                seen = made.get(name) is other
            else:
                seen = self.graph.maker(name, step_id) == other.step
            if seen and name != version.name:
                found.add(name)
        return sorted(found)

    def _print(self, version: Version) -> str:
        """The fingerprint that a version has in the graph."""
        if not version.step:
            return version.seen.digest
        return self.graph.made(version.step).get(version.name, version.seen.digest)

    def _keep(
        self,
        step_id: str,
        outcome: Outcome,
        reads: tuple[str, ...],
        writes: tuple[str, ...],
        lent: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
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
            tuple(sorted(reads)),
            tuple(sorted(writes)),
            outcome.seconds,
            lambda: {**self._held(step_id), **lent},
        )

    def _visible(self, after: str | None) -> dict[str, str]:
        """Name -> the step that makes it, as it is after a step."""
        found = dict.fromkeys(self._given, "")
        for step in self.graph.steps:
            for name, digest in self.graph.made(step).items():
                if digest == ABSENT:
                    found.pop(name, None)
                else:
                    found[name] = step
            if step == after:
                break
        return found

    # ---------------------------------------------------------------- resources

    def _gone_state(self, step_id: str) -> Lost | None:
        """A state at the step's place that is not known any more."""
        for name, maker in sorted(self._gone):
            if self.graph.maker(name, step_id) == maker:
                return Lost(name, maker)
        return None

    def _set_states(self, step_id: str) -> dict[str, object]:
        """Set every state to what it is at the step's place."""
        now: dict[str, object] = {}
        for name, state in resources.states().items():
            present = state.get()
            value = self._states.setdefault((name, self.graph.maker(name, step_id)), present)
            if not resources.same(value, present):
                state.set(value)
            now[name] = value
        return now

    def _compare_states(
        self,
        step_id: str,
        before: Mapping[str, object],
        relative: bool,
        spoken: str,
        reads: dict[str, str],
        writes: dict[str, str],
    ) -> None:
        for name, state in resources.states().items():
            value = state.get()
            moved = name in before and not resources.same(value, before[name])
            asked = any(word in spoken for word in resources.SPEAKS_OF[name])
            asked |= relative and name == "cwd"
            if moved or asked:
                reads[name] = resources.mark(before[name]) if name in before else ""
            if moved:
                self._states[name, step_id] = value
                writes[name] = resources.mark(value)

    def _lost_file(self, step_id: str, files: resources.FileLog) -> Lost | None:
        """A file that was read, and was not as it is at the step's place."""
        for name, found in files.before.items():
            self._files.setdefault(name, found)
        for name, found in files.read.items():
            maker = self.graph.maker(name, step_id)
            if maker and found != self.graph.made(maker).get(name):
                return Lost(name, maker)
            if not maker and found != self._files[name] and self.graph.last_writer(name):
                return Lost(name, "")
        return None

    def _changed_files(self) -> None:
        """Files that are others now than when a step read them, and that no step has left so."""
        for name in self.graph.outside():
            if name.startswith(resources.FILE):
                now, last = resources.fingerprint(name), self.graph.last_writer(name)
                if not last or self.graph.made(last).get(name) != now:
                    self.graph.changed(name, now)

    def _restored_files(self, ran: dict[str, int]) -> list[str]:
        """Files end as their last writers left them: those whose content was gone run again."""
        order = list[str]()
        for step in self.graph.steps:
            for name, made in self.graph.made(step).items():
                last = name.startswith(resources.FILE) and self.graph.last_writer(name) == step
                if last and resources.fingerprint(name) != made and step not in order:
                    with suppress(Held):
                        order += self._run(step, ran)
        return order


def _like(version: Version) -> str:
    """What a version is like. Of what can change its maker counts too: an equal object that another
    step has made is another object, which shares nothing with what shared the first."""
    digest = version.seen.digest
    return f"{digest}@{version.step}" if version.seen.parts else digest


def _words(source: str, lent: Iterable[object]) -> str:
    """The text of a step, and the names that the functions it was lent speak of."""
    codes = [value.__code__ for value in lent if isinstance(value, FunctionType)]
    return " ".join([source, *(name for code in codes for name in code.co_names)])
