"""The children of one run: started, resumed and stopped with it.

A child runs in a task of its own, on a stream of its own, started by `launch/launcher.py`. Its
parent's run owns it: children still live when the parent ends are stopped, and when the parent is
suspended they are suspended too. What can be done with children: `children.py`; which agent a child
is: `subagent_plans.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Hashable, Mapping
from typing import TYPE_CHECKING, Final

from lorimer.core import ancestry
from lorimer.core.ancestry import Ancestry
from lorimer.core.cancel import Cancellation, Reason, Stopped, inherited
from lorimer.core.children import ChildEnd
from lorimer.core.context import RunContext
from lorimer.core.errors import (
    ErrorCategory,
    ExecutorErrorCode,
    JournalError,
    LimitError,
    LorimerError,
)
from lorimer.core.facts import ABANDONED, CHILD
from lorimer.core.jsonable import JSON
from lorimer.core.plan import Plan
from lorimer.core.redaction import logger
from lorimer.core.result import PipelineResult
from lorimer.core.subagents import limits_within
from lorimer.journal.family import (
    ChildRecord,
    charged,
    children_in,
    count_descendants,
    is_part_of,
    uncharged,
    uncharged_cost,
)
from lorimer.journal.outcome import outcome
from lorimer.journal.recording import recorded
from lorimer.session.subagent_plans import AgentScope

if TYPE_CHECKING:
    from lorimer.core.tool import Toolbox
    from lorimer.session.children import ChildRuns


SUSPENDED: Final = "suspended"
_log: Final = logger("lorimer.session")


class Child:
    """A child that is live in this process."""

    __slots__ = ("begun", "born", "context", "stopped", "task")

    def __init__(self, born: ChildRecord) -> None:
        self.begun = asyncio.Event()
        """Whether the journal has its run, or never will."""
        self.born = born
        self.context: RunContext | None = None
        """None: it is being started."""
        self.task: asyncio.Task[ChildEnd]
        self.stopped: Reason | None = None

    def stop(self, reason: Reason) -> None:
        self.stopped = self.stopped or reason
        if self.context is not None:
            self.context.cancel(self.stopped)


class Family:
    """The children of one run. Belongs to the run, and ends with it: see `core.owned.Owned`."""

    def __init__(
        self,
        runs: ChildRuns,
        run: RunContext,
        home: AgentScope,
        names: Collection[str],
        tools: Toolbox | None,
        above: Family | None = None,
        name: str = "",
    ) -> None:
        """`names`: the sub-agents of `home` that it may delegate to; `name`: which one it is
        itself, of those that `above` declares."""
        self._runs = runs
        self._run = run
        self._scope = home
        self._names = names
        self._tools = tools
        self._above = above
        self._ancestry = _ancestry_of(run) if above is None else above._child_ancestry(run, name)
        self._records: dict[str, ChildRecord] = {}
        self._children: dict[str, Child] = {}
        """Children that are or were live here."""
        self._ends: dict[str, ChildEnd] = {}
        """How children ended, as far as known here."""
        self._paid: set[str] = set()
        self._to_revive = False
        """It was resumed, and its background children have not been resumed yet."""

    async def recall(self) -> None:
        """For a resumed run: what its facts record of its children."""
        facts, journal = self._run.facts, self._runs.launcher.journal
        self._records = {each.run_id: each for each in children_in(facts)}
        if not self._records:
            return
        self._paid = charged(facts)
        unpaid = uncharged(facts)
        for each in unpaid:
            row = await journal.find_run(each.run_id)
            if row is not None and not await is_part_of(journal, row, self._run.id):
                raise JournalError(
                    f"Run {self._run.id} cannot go on: its facts name run {each.run_id} as a part "
                    "of it, which it is not.",
                    hint=f"lorimer runs verify {self._run.id} tells what is damaged.",
                )
            self._run.spend.add_uncharged(await uncharged_cost(journal, each.run_id))
        if self._above is None:
            self._ancestry.count_descendants(await count_descendants(journal, facts))
        if unpaid:
            self._own()
            self._to_revive = any(each.task for each in unpaid)

    # --- starting ----------------------------------------------------------------------------

    async def _begin_child(self, agent: str, prompt: JSON, key: str, *, background: bool) -> Child:
        """The child of this call, started now or before; it keeps running."""
        run = self._run
        known = [e for e in self._records.values() if (e.iteration, e.key) == (run.iteration, key)]
        if known:
            return self._start(known[0], prompt)
        self._require_allowed(agent)
        self._own()
        number = 1 + sum(bool(each.task) for each in self._records.values())
        heard = tuple(sorted(run.strangers or ()))
        made = ChildRecord(
            run.world.new_id("run"),
            agent,
            run.iteration,
            key,
            f"t{number}" if background else "",
            str(prompt) if background else "",
            self._planning(),
            heard,
        )
        self._ancestry.count_descendants()
        self._records[made.run_id] = made  # before its fact: a second one gets another number
        await run.record("child", made.to_json(), key=key)
        if run.wants("subagent.spawned"):
            run.signal("subagent.spawned", {"run": made.run_id, "agent": agent, "task": made.task})
        return self._start(made, prompt)

    def _require_allowed(self, agent: str) -> None:
        """Raises LimitError if it may not be started."""
        if agent not in self._names:
            raise LimitError(
                f"there is no sub-agent {agent!r} here",
                code=ExecutorErrorCode.EXEC_TOOL_INVALID_INPUT,
            )
        self._ancestry.admit(self._identity(agent), agent)

    def _identity(self, name: str) -> Hashable:
        """What identifies a sub-agent of this scope among others."""
        said = next(each.identity for each in self._scope.manifest.agents if each.name == name)
        return said or (self._scope.digest, name)

    def _child_ancestry(self, run: RunContext, name: str) -> Ancestry:
        return self._ancestry.child(run.id, self._identity(name), run.bounds.limits)

    def _planning(self) -> bool:
        tools = self._tools
        return tools is not None and tools.planning(self._run)

    def _own(self) -> None:
        self._run.owned.own(Family, lambda: self)

    def _start(self, made: ChildRecord, prompt: JSON) -> Child:
        child = self._children.get(made.run_id)
        if child is None:
            child = self._children[made.run_id] = Child(made)
            if made.task:
                self._runs.listen(made.run_id, child.begun)
            loop = asyncio.get_running_loop()
            child.task = loop.create_task(self._run_to_end(child, prompt), name=made.run_id)
        return child

    # --- running -----------------------------------------------------------------------------

    async def _run_to_end(self, child: Child, prompt: JSON) -> ChildEnd:
        """Run a child in this process until it ends or is suspended. Never raises: the result says
        how it ended."""
        run_id = child.born.run_id
        try:
            row = await self._runs.launcher.journal.find_run(run_id)
            if row is not None and row.status:
                return await self._read(run_id)
            result = await self._execute(child, prompt)
            if result.exception is not None and result.exception.category is ErrorCategory.STORE:
                raise result.exception  # it has recorded no end
            end = _end_of(child.born, result)
        except LorimerError as error:
            status = SUSPENDED if error.category is ErrorCategory.STORE else "error"
            end = ChildEnd(run_id, child.born.agent, status, "", error.code, str(error))
        finally:
            self._runs.stop_listening(run_id)
            child.begun.set()
        if end.status != SUSPENDED:
            self._ends[run_id] = end
        if self._run.wants("subagent.completed"):
            told = {"run": run_id, "agent": end.agent, "status": end.status, "cost": end.cost_nano}
            self._run.signal("subagent.completed", told)
        return end

    async def _execute(self, child: Child, prompt: JSON) -> PipelineResult:
        parent, runs, made = self._run, self._runs, child.born
        kind = runs.plans.plan_of(self._scope, made.agent, planning=made.planning)
        limits = limits_within(kind.plan.limits, parent.bounds, parent.world.monotonic())
        run = await runs.launcher.start_child(
            kind.plan,
            made.run_id,
            prompt,
            limits,
            parent,
            made.agent,
            self._invoked(made.agent),
            wait_s=runs.launcher.claim_wait_s,
        )
        context = child.context = run.context
        if context.facts:  # it keeps running
            child.begun.set()
        context.bounds.most_s = kind.plan.limits.timeout_s
        context.strangers = {*made.heard, *(parent.strangers or ())}
        family = runs.below(context, kind, self, made.agent)
        parent.cancellation.children += (context.cancellation,)
        parent.below += (context,)
        context.above = parent
        try:
            await family.recall()
            family._ancestry.enter()
            if child.stopped is not None:
                context.cancel(child.stopped)
            return await run.execute()
        finally:
            family._ancestry.leave()
            children = parent.cancellation.children
            parent.cancellation.children = tuple(
                [one for one in children if one is not context.cancellation]
            )
            parent.below = tuple([each for each in parent.below if each is not context])

    def _invoked(self, agent: str) -> Mapping[str, JSON]:
        """The `invocation` in a child's run.start: caller and channel of its parent's."""
        above = self._run.origin.get("invocation")
        if not isinstance(above, Mapping):
            return {}
        told = {name: above[name] for name in ("caller", "channel") if name in above}
        who = self._identity(agent)
        return {"agent": who if isinstance(who, str) else agent, "parent": self._run.id, **told}

    async def _wait_for(self, child: Child) -> None:
        """Wait until a child has stopped. If this is cancelled, so is the child."""
        cancellation = self._run.cancellation
        cancellation.begin_change()  # a shutdown gives it time: it may be changing something
        try:
            await asyncio.wait([child.task])
        except asyncio.CancelledError:
            child.stop(inherited(self._run.reason))
            await _undisturbed(asyncio.wait([child.task]))
            raise
        finally:
            cancellation.end_change()

    def _suspend_parent(self, end: ChildEnd) -> None:
        """Suspend the parent of a suspended child. Raises Stopped or JournalError."""
        run = self._run
        if run.reason is not None:
            raise Stopped(run.reason.value)
        if end.code is ExecutorErrorCode.EXEC_RUN_WAITING:
            self._wait_for_a_person()
        run.broken = JournalError(
            end.message, code=end.code or ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
        )
        raise run.broken

    def _wait_for_a_person(self) -> None:
        run = self._run
        run.drain(run.bounds.limits.cleanup_s, Reason.WAITING)  # other children may be at work
        raise Stopped(Reason.WAITING.value)

    async def _read(self, run_id: str) -> ChildEnd:
        """How a child ended, from its own journal."""
        made = self._records[run_id]
        end = self._ends[run_id] = _end_of(
            made, outcome(await recorded(self._runs.launcher.journal, run_id))
        )
        return end

    def _charge(self, end: ChildEnd) -> Mapping[str, JSON]:
        """What the run is charged for a child; once."""
        data: dict[str, JSON] = {"runs": [end.run_id]}
        if end.run_id not in self._paid:
            self._paid.add(end.run_id)
            self._run.spend.remove_uncharged(end.cost_nano)
            data |= {"usage": end.usage or {}, "cost": end.cost_nano}
        return data

    # --- the end -----------------------------------------------------------------------------

    async def end(self) -> None:
        """The run is about to end or to be suspended: so are its children. See
        `core.owned.Owned`."""
        run = self._run
        reason = Reason.SHUTDOWN if run.leaves_unfinished else inherited(run.reason)
        going = [child for child in self._children.values() if not child.task.done()]
        for child in going:
            child.stop(reason)
        if going:
            await asyncio.wait([child.task for child in going])
        if run.leaves_unfinished:
            return
        try:
            for each in list(self._records.values()):
                if each.run_id not in self._paid:
                    await self._write_off(each)
        except JournalError as error:
            run.broken = error
        except LorimerError as error:
            _log.warning("the end of a run's children: %s", error)

    async def _write_off(self, made: ChildRecord) -> None:
        """Charge the run for a child whose end it never learned."""
        end = self._ends.get(made.run_id) or await self._abandon(made)
        if end is None:
            return
        run, key = self._run, f"{ABANDONED}{CHILD}:{made.run_id}"
        data = {"key": key, **self._charge(end)}
        await run.record("effect", data, key=key, ledger=run.spend.write_off(data))

    async def _abandon(self, made: ChildRecord) -> ChildEnd | None:
        """End a child that will not be resumed. Returns how it ended; None: it never began."""
        launcher = self._runs.launcher
        row = await launcher.journal.find_run(made.run_id)
        if row is None:
            return None
        if not row.status:
            await launcher.abandon(made.run_id, wait_s=launcher.claim_wait_s)
        return await self._read(made.run_id)


def _ancestry_of(run: RunContext) -> Ancestry:
    """The ancestry of a run that is not a sub-agent's."""
    line = ancestry.current()
    if line is not None and line.run_id == run.id:
        return line
    return Ancestry(run.id, None, run.bounds.limits)


def names_of(plan: Plan) -> frozenset[str]:
    """The sub-agents that a plan declares."""
    return frozenset([agent.name for agent in plan.manifest.agents])


def _end_of(made: ChildRecord, result: PipelineResult) -> ChildEnd:
    return ChildEnd(
        made.run_id,
        made.agent,
        result.status,
        result.text,
        result.code,
        result.error,
        result.usage.to_json(),
        result.cost_nano,
    )


async def _undisturbed(work: Coroutine[object, object, object]) -> None:
    with Cancellation.shielded():
        await work
