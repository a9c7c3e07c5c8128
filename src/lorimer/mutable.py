"""Changes of a pipeline's manifest: validated, made all or none, logged, and passed to its live
runs.

What a change is: `core/mutation`. How a live run applies it: `core/pending_changes.py`.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar, cast

from lorimer.compiled import CompiledManifest
from lorimer.core.arguments import is_a, wrong
from lorimer.core.bindings import Bindings
from lorimer.core.catalogue import Catalogue
from lorimer.core.context import PendingChange, RunContext
from lorimer.core.errors import ConfigError, MutationError, MutationLocked, nearest
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import EnvironmentManifest, StageEntry
from lorimer.core.plan import Plan
from lorimer.core.record import record
from lorimer.core.stage import AnyStage, Stage, Strategy
from lorimer.core.world import World

if TYPE_CHECKING:
    from lorimer.core.mutation import Change

In = TypeVar("In")
Out = TypeVar("Out")

LOGGED: Final = 1000
"""Most changes and former manifests that a pipeline remembers; the oldest are dropped."""


@record
class ChangeLogEntry:
    """One entry of the change log: changes made together."""

    time: float
    """Wall clock, seconds."""
    changes: Sequence[JSON]
    """As JSON; see `core/mutation`."""
    parts: Mapping[str, tuple[JSON, JSON]]
    """The parts of the manifest that differ (`model`, `stages.context`), before and after."""
    digest: str
    """Hash of the manifest afterwards."""


@record
class _Draft:
    """Changes that have not been made yet."""

    changes: list[Change]
    catalogue: Catalogue
    """The catalogue that they refer to."""
    manifest: EnvironmentManifest
    """The manifest with these changes."""


class MutableManifest(CompiledManifest):
    """A compiled manifest that can be changed while runs are live: `mutate`, `batch`, `lock`."""

    world: World

    def __init__(
        self, manifest: EnvironmentManifest, catalogue: Catalogue, bindings: Bindings
    ) -> None:
        """Raises ConfigError naming every fault of the manifest."""
        super().__init__(manifest, catalogue, bindings)
        self._locked: set[str] = set()
        self._log: deque[ChangeLogEntry] = deque(maxlen=LOGGED)
        self._draft: _Draft | None = None

    @property
    def change_log(self) -> tuple[ChangeLogEntry, ...]:
        """The log of changes, oldest first: the last 1,000."""
        return tuple(self._log)

    def mutate(self, *changes: Change | Mapping[str, JSON]) -> None:
        """Change the manifest: all of these changes, or none. They apply to runs that begin later.
        A live run applies them before it prepares its next model call, and records them as the fact
        `mutated`, so that they are the same when it is resumed or replayed. A run keeps the limits
        that it began with. Call this on the event loop of the runs.

        `changes` are those of `lorimer.core.mutation`, or their JSON. Raises MutationError, and
        changes nothing, when they are invalid; with `exec.mutation.locked` for what is locked.
        """
        from lorimer.core import mutation  # imported only when something is changed

        made = [
            each if isinstance(each, mutation.Change) else mutation.read(each) for each in changes
        ]
        if self._draft is not None:
            draft = self._drafted([*self._draft.changes, *made], self._draft.catalogue)
            self._require_unlocked(self.manifest, draft.manifest)
            self._draft = draft
            return
        self._commit(self._drafted(made, self._catalogue))

    @contextmanager
    def batch(self) -> Generator[None]:
        """Changes that are made together when the block ends: all, or none if it raises or the
        result is invalid. Within the block the manifest may be invalid."""
        if self._draft is not None:
            raise MutationError("a batch of changes is open already")
        self._draft = _Draft([], self._catalogue.copy(), self.manifest)
        try:
            yield
            draft = self._draft
        finally:
            self._draft = None
        self._commit(draft)

    def lock(self, *parts: str) -> None:
        """Refuse changes of these: names of stages, or `metadata`, `model`, `limits`, `tools`,
        `permissions`. Raises MutationError for unknown ones."""
        for part in parts:
            self._locked.add(self._part(part))

    def unlock(self, *parts: str) -> None:
        """Allow them again."""
        for part in parts:
            self._locked.discard(self._part(part))

    def register_stage(self, stage: Stage[In, Out]) -> None:
        """Add a stage of your own. It replaces a stage of the same name; otherwise it runs right
        after the built-in stage of its order. Takes effect as with `mutate`. Raises ConfigError for
        an invalid name or order, and as `mutate` does."""
        if not is_a(stage, Stage):
            raise wrong("stage", stage, "an instance of a Stage", "register_stage(MyStage())")
        if not inspect.iscoroutinefunction(stage.execute):
            raise ConfigError(
                f"{type(stage).__name__}.execute must be async: async def execute(...)"
            )
        name, order = stage.name, stage.order
        if not name or not 1 <= order <= 21:
            raise ConfigError(f"{type(stage).__name__} needs a name and an order from 1 to 21")
        entry = StageEntry(order=order, name=name)
        known = name in self._current_manifest().stages
        plain = entry.model_dump(exclude_defaults=True)
        change: dict[str, JSON] = {"kind": "register_stage", "entry": plain}
        if known:
            change = {"kind": "replace_stage", "stage": name, "by": plain}
        with self._joined_batch() as draft:
            draft.catalogue.add_stage(name, lambda: cast("AnyStage", stage))
            self.mutate(change)

    def swap_strategy(
        self,
        stage: str,
        slot: str,
        strategy: str | type[Strategy] | list[str | type[Strategy]],
        config: Mapping[str, JSON] | None = None,
    ) -> None:
        """Put another strategy into a slot: a shipped one by name, or a class of your own. A chain
        takes a list, or one strategy for a chain of one; for a list, `config` maps strategies to
        configurations. Takes effect as with `mutate`.

        Raises MutationError, and changes nothing, when that is invalid.
        """
        with self._joined_batch() as draft:
            several = isinstance(strategy, list)
            given = strategy if several else [strategy]
            names = [_named_strategy(draft.catalogue, stage, slot, item) for item in given]
            self.mutate(
                {
                    "kind": "swap_strategy",
                    "stage": stage,
                    "slot": slot,
                    "strategy": names if several else names[0],
                    "config": dict(config or {}),
                }
            )

    @contextmanager
    def _joined_batch(self) -> Generator[_Draft]:
        """A batch of its own, unless one is open: what is added to its catalogue is kept only if
        the changes are made."""
        if self._draft is not None:
            yield self._draft
            return
        with self.batch():
            if self._draft is not None:
                yield self._draft

    def _current_manifest(self) -> EnvironmentManifest:
        """The manifest, including the changes of an open batch."""
        return self.manifest if self._draft is None else self._draft.manifest

    def _drafted(self, changes: list[Change], catalogue: Catalogue) -> _Draft:
        """Raises MutationError when the changes are invalid."""
        from lorimer.core import mutation

        return _Draft(changes, catalogue, mutation.apply(self.manifest, changes, catalogue))

    def _commit(self, draft: _Draft) -> None:
        from lorimer.core import mutation

        if not draft.changes:
            return
        before, catalogue, manifest = self.manifest, self._catalogue, draft.manifest
        self._require_unlocked(before, manifest)
        self._catalogue = draft.catalogue  # live runs are compiled with it too
        try:
            plan, bindings = self._plan_for(manifest)
            changes: list[JSON] = [mutation.plain(each) for each in draft.changes]
            told = [(run, self._for_run(run, changes, plan)) for run in self._live_runs()]
            self._prepare(manifest, bindings)
        except BaseException:
            self._catalogue = catalogue
            raise
        for run, upcoming in told:
            run.pending_changes = [*run.pending_changes, upcoming]
        self._earlier[self._plan.digest] = self._plan.manifest
        self._earlier.pop(plan.digest, None)
        while len(self._earlier) > LOGGED:
            del self._earlier[next(iter(self._earlier))]
        self._plan, self._bindings, self.manifest = plan, bindings, manifest
        parts = mutation.difference(before, manifest)
        self._log.append(ChangeLogEntry(self.world.time(), changes, parts, plan.digest))

    def _for_run(self, run: RunContext, changes: Sequence[JSON], plan: Plan) -> PendingChange:
        """The changes for a live run, which may have an earlier manifest. Raises MutationError when
        they are invalid for it."""
        its = run.pending_changes[-1].plan if run.pending_changes else run.plan
        if its is None:
            raise MutationError(f"run {run.id} cannot be changed")
        # whatever was changed in place is not part of the changes, which are what is recorded
        same = its.digest == self._plan.digest and self.manifest == self._plan.manifest
        after = plan if same else its.with_changes(changes)
        require_unchanged("whether it remembers", after.converses == its.converses, f"run {run.id}")
        require_unchanged(
            "sub-agents", after.manifest.agents == its.manifest.agents, f"run {run.id}"
        )
        self._check_live(after)
        return PendingChange(changes, after)

    def _prepare(self, manifest: EnvironmentManifest, bindings: Bindings) -> None:
        """Prepare whatever else runs of this manifest need. Raises ConfigError, and changes
        nothing, when that fails."""

    def _live_runs(self) -> Sequence[RunContext]:
        """The live runs."""
        return ()

    def _require_live_change(self, before: Plan, after: Plan) -> None:
        require_unchanged("whether it remembers", after.converses == before.converses)
        require_unchanged("sub-agents", after.manifest.agents == before.manifest.agents)
        require_unchanged("limits", after.limits == before.limits)
        self._require_unlocked(before.manifest, after.manifest)
        self._check_live(after)

    def _check_live(self, plan: Plan) -> None:
        """Raises ConfigError when a live run may not record the changes that lead to this plan."""

    def _require_unlocked(self, before: EnvironmentManifest, after: EnvironmentManifest) -> None:
        if not self._locked:
            return
        from lorimer.core import mutation

        touched = self._locked & mutation.difference(before, after).keys()
        if touched:
            part = min(touched)
            raise MutationLocked(
                f"{part} is locked", hint=f"pipeline.unlock({part.removeprefix('stages.')!r})"
            )

    def _part(self, name: str) -> str:
        from lorimer.core import mutation

        known = mutation.sections(self.manifest)
        for part in (name, f"stages.{name}"):
            if part in known:
                return part
        names = [part.removeprefix("stages.") for part in known]
        raise MutationError(f"there is nothing called {name!r} to lock{nearest(name, names)}")


def require_unchanged(what: str, same: bool, run: str = "a run") -> None:
    """Raises MutationError, unless `same`, for something that a run keeps until it ends."""
    if not same:
        raise MutationError(
            f"{what} cannot be changed while {run} is going on",
            hint="Wait for its end, or cancel it.",
        )


def _named_strategy(
    catalogue: Catalogue, stage: str, slot: str, strategy: str | type[Strategy]
) -> str:
    if isinstance(strategy, str):
        return strategy
    if not (is_a(strategy, type) and Strategy in strategy.__mro__):
        raise wrong(
            "strategy", strategy, "a name or a subclass of Strategy", "class Mine(Strategy)"
        )
    name = strategy.name or strategy.__name__
    catalogue.add_strategy(stage, slot, name, strategy)
    return name
