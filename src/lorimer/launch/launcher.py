"""Starts runs and resumes interrupted ones, each on the stream that it belongs to.

A pipeline that remembers has one conversation, in which two runs are never live at once; any other
pipeline gives every run a stream of its own. Refusals: `admission.py`; claims on streams:
`claims.py`; which runs are live here: `roster.py`; what happens around a live run: `live.py`; the
run itself: the engine; how a stream is read: `journal/conversation.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol
from weakref import WeakValueDictionary
from zlib import crc32

from lorimer.core.bus import Bus, Listeners, Tap
from lorimer.core.context import RunContext
from lorimer.core.errors import ExecutorErrorCode, PipelineError
from lorimer.core.events import Event
from lorimer.core.hooks import Hooks
from lorimer.core.journal import Journal, RunRow
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Bounds, Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.plan import Plan
from lorimer.core.purse import Budgets, ask_budgets, purses_of
from lorimer.core.redaction import Redactor
from lorimer.core.spend import Spend
from lorimer.core.world import World
from lorimer.journal.conversation import Conversation
from lorimer.journal.fork import history_after, history_at, open_fork
from lorimer.journal.projection import started_row
from lorimer.journal.recording import Recording, origin_of, used_s
from lorimer.launch.admission import (
    require_asyncio,
    require_known_calls,
    require_new,
    require_no_parent,
    require_plain,
    require_same_manifest,
    require_unfinished,
)
from lorimer.launch.claims import Claims
from lorimer.launch.interrupted import Interrupted
from lorimer.launch.live import Run
from lorimer.launch.manifest_store import ManifestStore
from lorimer.launch.roster import Roster

_NOTHING: Final[Mapping[str, JSON]] = {}


class ChildRunProvider(Protocol):
    """Gives runs access to child runs (`core/children.py`)."""

    async def adopt(self, plan: Plan, context: RunContext) -> None:
        """Called for a run without a parent before it begins or resumes."""
        ...

    def check(self, manifest: EnvironmentManifest) -> None:
        """Raises ConfigError naming every fault of its sub-agents."""
        ...

    def guard(self, hooks: Hooks) -> None:
        """Use these hooks in children that begin from now on."""
        ...


class Launcher:
    """The runs of one pipeline. Owns its conversation; the journal belongs to the host."""

    def __init__(
        self,
        journal: Journal,
        world: World,
        bus: Bus,
        claims: Claims,
        keeper: ManifestStore,
        parent: Launcher | None = None,
    ) -> None:
        """`parent`: the launcher of the pipeline, if this one is a branch of it."""
        self.journal = journal
        self.world = world
        self._bus = bus
        self._claims = claims
        self._manifests = keeper
        self._roster = Roster(None if parent is None else parent._roster)
        self._interrupted = Interrupted(journal, world, claims, self._roster)
        self._parent = parent
        self._child_runs: ChildRunProvider | None = None
        self._branches: WeakValueDictionary[str, Launcher] = WeakValueDictionary()
        """By conversation."""

    def branch(self, session_id: str) -> Launcher:
        """The launcher of another conversation of the same pipeline: as long as it is in use, the
        same one, as two would write to the conversation at once, under one claim."""
        found = self._branches.get(session_id)
        if found is not None and found._claims.session_id != session_id:
            self._branches[found._claims.session_id] = found  # it has the conversation of a fork
            found = None
        if found is None or found._claims.deleted:
            claims = self._claims.for_session(session_id)
            found = Launcher(self.journal, self.world, self._bus, claims, self._manifests, self)
            self._branches[session_id] = found
        return found

    @property
    def conversation(self) -> Conversation | None:
        """The conversation that is kept from run to run; None: there is none at the moment."""
        return self._claims.kept

    @property
    def redactor(self) -> Redactor | None:
        """The redactor of the pipeline's secrets; None: there are none."""
        return self._manifests.redactor

    @property
    def child_runs(self) -> ChildRunProvider | None:
        """None: there are no sub-agents."""
        return self._child_runs if self._parent is None else self._parent.child_runs

    @child_runs.setter
    def child_runs(self, relatives: ChildRunProvider | None) -> None:
        self._child_runs = relatives

    @property
    def claim_wait_s(self) -> float:
        """Seconds within which the claim of a process that died has expired."""
        return 2 * self._claims.claim_s

    @property
    def live(self) -> tuple[RunContext, ...]:
        """The live runs, including those of branches."""
        return self._roster.live

    async def position(self) -> tuple[str, int]:
        """The stream of the conversation, and its last fact, also of a live run; ("", 0): there is
        none yet."""
        stream = self._claims.session_id
        for context in self._roster.live:
            if context.stream == stream:
                return stream, context.position
        return await self._claims.position()

    async def check_place(self, session_id: str, seq: int) -> None:
        """Raises PipelineError if the journal does not have that position, and while a run is
        live."""
        self._roster.require_free()
        if seq:
            await history_at(self.journal, session_id, seq)

    async def go_to(self, session_id: str, seq: int) -> None:
        """Let the next run continue from there; see `Claims.go_to`."""
        self._roster.require_free()
        await self._claims.go_to(session_id, seq)

    def retire(self) -> None:
        """The conversation was deleted: no run begins in it any more."""
        self._claims.deleted = True

    def require_free(self) -> None:
        """Raises PipelineError while a run is live in the conversation."""
        self._roster.require_free()

    async def stopped(self) -> None:
        """Wait for the end of the runs that somebody has stopped, those of branches included."""
        await self._roster.stopped()

    async def release(self) -> None:
        """Release the conversation, unless a run is live in it, and those of all branches."""
        if not self._roster.busy:
            await self._claims.give_back()
        for branch in tuple(self._branches.values()):
            await branch.release()

    async def start(
        self,
        current: Callable[[], Plan],
        input: JSON,
        limits: Limits,
        tap: Tap | None,
        *,
        wait_s: float,
        budgets: Budgets = (),
        run_id: str = "",
        invocation: Mapping[str, JSON] = _NOTHING,
    ) -> Run:
        """Begin a run with the current plan. `run_id`: its id, unless it is to get a new one;
        `invocation` is what the host records about it (`Invoked`); `budgets` pay for it. Raises
        PipelineError when the conversation has a live or unfinished run, when the id is taken, and
        when the input cannot be recorded; ConfigError for invalid purses; JournalError when another
        owner's claim is still in force after `wait_s` seconds."""
        require_asyncio()
        require_plain(input)
        shared = current().converses
        if shared and self._roster.busy:
            await self._roster.streams_left()
        with self._roster.conversing(shared):
            if run_id:
                await require_new(self.journal, run_id)
            run_id = run_id or self.world.new_id("run")
            claims = self._claims
            origin, refused = await ask_budgets(budgets) if budgets else ({}, None)
            conversation = await (claims.claim_own(wait_s) if shared else claims.claim(run_id, 0.0))
            try:
                if invocation:
                    origin["invocation"] = self._manifests.clean(invocation)
                context = self._context(run_id, conversation, limits, tap, origin)
                context.refused = refused
                plan = await self._stored_plan(current, context, shared)
            except BaseException:
                if not shared:  # a stream of its own, still empty
                    await conversation.release()
                raise
            return self._launch(plan, context, conversation, self._manifests.clean(input))

    async def fork(
        self,
        current: Callable[[], Plan],
        parent: Recording,
        after: int,
        input: JSON,
        limits: Limits,
        budgets: Budgets | None,
    ) -> Run:
        """Begin a run on a new stream that continues another run after the given number of its
        turns. If the pipeline has a conversation, the new one takes its place. Raises PipelineError
        as `start` does, when the parent has fewer turns, and when there is nothing to continue
        from."""
        require_plain(input)
        history = history_after(parent, after, prompted=input is not None)
        shared = current().converses
        with self._roster.conversing(shared):
            if budgets is None:
                budgets = purses_of(parent.facts[0].data)
            origin, refused = await ask_budgets(budgets)
            await self._claims.give_back()
            run_id = self.world.new_id("run")
            stream = self.world.new_id("session") if shared else run_id
            left: JSON = {"run": parent.run_id, "iteration": after - 1}
            origin["parent"] = left
            owner, claim_s = self._claims.owner, self._claims.claim_s
            conversation = await open_fork(
                self.journal, stream, owner, self.world, history, left, claim_s
            )
            try:
                if input is None:
                    origin["title"] = started_row("", 0, parent.facts[0]).title
                context = self._context(run_id, conversation, limits, None, origin)
                context.refused = refused
                plan = await self._stored_plan(current, context, shared)
            except BaseException:
                await conversation.release()
                raise
            if shared:
                self._claims.keep(conversation)
            return self._launch(plan, context, conversation, self._manifests.clean(input))

    async def start_child(
        self,
        plan: Plan,
        run_id: str,
        input: JSON,
        limits: Limits,
        above: RunContext,
        agent: str,
        invocation: Mapping[str, JSON] = _NOTHING,
        *,
        wait_s: float,
    ) -> Run:
        """A child of the run `above`, begun or resumed, on a stream with its own id. `invocation`
        says on whose behalf (`Invoked`). Raises as `resume` does."""
        conversation = await self._claims.claim(run_id, wait_s)
        try:
            facts = conversation.unfinished
            if facts:
                require_same_manifest(facts[0], plan)
                require_known_calls(facts)
                limits, given = _limits(facts[0], plan), facts[0].data.get("input")
            else:
                await self._manifests.store(plan)
                given = self._manifests.clean(input)
            origin = origin_of(facts[0]) if facts else _of_child(above, agent, invocation)
            context = self._context(run_id, conversation, limits, None, origin, above.spend)
            context.root = above.root
        except BaseException:
            await conversation.release()
            raise
        return self._launch(plan, context, conversation, given)

    def _context(
        self,
        run_id: str,
        conversation: Conversation,
        limits: Limits,
        tap: Tap | None,
        origin: Mapping[str, JSON] = _NOTHING,
        above: Spend | None = None,
    ) -> RunContext:
        """Conditions for a new run, or for the unfinished run of the conversation."""
        facts = conversation.unfinished
        seed = facts[0].data.get("seed") if facts else crc32(run_id.encode())
        used = used_s(facts) if facts else 0.0
        return RunContext(
            id=run_id,
            stream=conversation.stream,
            epoch=conversation.epoch,
            seed=seed if isinstance(seed, int) else 0,
            world=self.world,
            journal=self.journal,
            bounds=Bounds(limits, self.world.monotonic() - used),
            listeners=Listeners(self._bus, tap),
            recorded=facts,
            position=conversation.seq,
            snapshot_at=conversation.snapshot_at,
            runs_since_snapshot=conversation.runs_since_snapshot,
            origin=origin,
            check_claim=conversation.check if self.journal.durable else None,
            redactor=self.redactor,
            above=above,
        )

    async def resume(self, plan: Plan, run_id: str, tap: Tap | None, *, wait_s: float) -> Run:
        """Resume an interrupted run. Raises PipelineError when there is no such run, or it has
        ended or is live already; ConfigError when it was begun with another manifest; JournalError
        when another owner's claim is still in force after `wait_s` seconds."""
        require_asyncio()
        row = await require_unfinished(self.journal, run_id)
        self._roster.reserve(row.run_id)
        try:
            with self._roster.conversing(plan.converses):
                return await self._reopened(row, plan, tap, wait_s)
        except BaseException:
            self._roster.release(row.run_id)
            raise

    async def abandon(self, run_id: str, *, wait_s: float) -> None:
        """Abandon an interrupted run: it ends as cancelled, and its conversation becomes free. Also
        for a damaged run, which cannot be resumed. Raises PipelineError and JournalError as
        `resume` does."""
        row = await require_unfinished(self.journal, run_id)
        self._roster.reserve(row.run_id)
        try:
            await self.release()
            await self._interrupted.end(row, wait_s)
        finally:
            self._roster.release(row.run_id)

    async def _reopened(self, row: RunRow, plan: Plan, tap: Tap | None, wait_s: float) -> Run:
        if plan.converses:
            await self._claims.give_back()
        conversation = await self._interrupted.opened(row, wait_s)
        facts = conversation.unfinished
        start = facts[0]
        try:
            require_no_parent(start)
            require_same_manifest(start, plan)
            require_known_calls(facts)
            limits = _limits(start, plan)
            context = self._context(row.run_id, conversation, limits, tap, origin_of(start))
            if self.child_runs is not None:
                await self.child_runs.adopt(plan, context)
        except BaseException:
            await conversation.release()
            raise
        if plan.converses:
            self._claims.keep(conversation)
        return self._launch(plan, context, conversation, start.data.get("input"))

    def _launch(
        self, plan: Plan, context: RunContext, conversation: Conversation, input: JSON
    ) -> Run:
        if plan.converses and not conversation.taken_up:
            conversation.taken_up = True
            source = "resume" if conversation.seq else "new"
            context.session = {"session_id": conversation.stream, "source": source}
        context.plan = plan
        self._roster.add(context)
        return Run(self, plan, context, conversation, input)

    def run_ended(self, plan: Plan, context: RunContext) -> None:
        """A run has ended, in whatever way. A second call changes nothing."""
        self._roster.remove(context, plan.converses)

    async def drop_conversation(self) -> None:
        """Stop keeping the conversation open: more may be recorded than is known of it here."""
        await self._claims.leave()

    async def _stored_plan(
        self, current: Callable[[], Plan], context: RunContext, shared: bool
    ) -> Plan:
        """The current plan, after its manifest was stored and the run was given its child runs.
        Later changes of the plan are sent to the live run."""
        while True:
            plan = current()
            if plan.converses != shared:
                raise PipelineError(
                    "The pipeline was changed while this run was about to begin: whether it "
                    "remembers is another now.",
                    code=ExecutorErrorCode.EXEC_RUN_BUSY,
                    hint="Begin it again.",
                )
            await self._manifests.store(plan)
            if self.child_runs is not None:
                await self.child_runs.adopt(plan, context)
            if plan is current():
                return plan


def _of_child(above: RunContext, agent: str, invocation: Mapping[str, JSON]) -> dict[str, JSON]:
    """What a child's run.start records of its parent, on whose behalf it runs, and who pays."""
    parent = {"run": above.id, "iteration": above.iteration, "agent": agent}
    budgets = above.origin.get("budgets")
    said: dict[str, JSON] = {"parent": parent, "invocation": invocation, "budgets": budgets}
    return {name: value for name, value in said.items() if value}


def _limits(start: Event, plan: Plan) -> Limits:
    given = start.data.get("limits")
    return Limits.from_json(given) if isinstance(given, Mapping) else plan.limits
