"""Runs that are part of another: begun, waited for, gone on with and stopped with it. The one
implementation of `core/children.py`.

A child runs in a task of its own, on a stream of its own, begun by `launch.py`. Its parent's run
owns it: what is left of it when the parent ends is stopped, and when the parent is suspended it is
suspended too. Which agent a child is: `kinds.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Final

from lorimer.core import mail
from lorimer.core.bindings import Bindings
from lorimer.core.bus import Bus
from lorimer.core.cancel import Cancellation, Reason, Stopped, inherited
from lorimer.core.children import RUNNING, WAITING, ChildEnd, Task, told_of
from lorimer.core.compile import Catalogue
from lorimer.core.context import RunContext, Safety
from lorimer.core.errors import (
    ErrorCategory,
    ExecutorErrorCode,
    JournalError,
    LimitError,
    LorimerError,
    PipelineError,
)
from lorimer.core.events import Event
from lorimer.core.facts import ABANDONED, CHILD
from lorimer.core.hooks import Hooks
from lorimer.core.jsonable import JSON, fingerprint
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.plan import Plan
from lorimer.core.redaction import logger
from lorimer.core.result import PipelineResult
from lorimer.core.subagents import within
from lorimer.journal.family import Born, born, descendants, open_ones, owed, paid, said
from lorimer.journal.outcome import outcome
from lorimer.journal.recording import recorded
from lorimer.launch import Launcher
from lorimer.session.kinds import Home, Kinds, Terms

if TYPE_CHECKING:
    from lorimer.core.tool import Toolbox
    from lorimer.tools.registry import ToolRegistry

_SUSPENDED: Final = "suspended"
_log: Final = logger("lorimer.session")


class ChildRuns:
    """The children of all runs of one pipeline."""

    def __init__(
        self,
        catalogue: Catalogue,
        bindings: Bindings,
        host: ToolRegistry,
        toolset: Terms,
        launcher: Launcher,
        bus: Bus,
    ) -> None:
        """`host` and `toolset` as in `Kinds`; `launcher` launches nothing else, and tells `bus`."""
        self.kinds = Kinds(catalogue, bindings, host, toolset)
        self.launcher = launcher
        self._bus = bus
        self._pieces: dict[str, list[str]] = {}

    async def adopt(self, plan: Plan, context: RunContext) -> None:
        """See `launch.Relatives`."""
        home, names = self.kinds.home(plan.manifest), _names(plan)
        context.children = family = Family(self, context, home, names, self.kinds.tools)
        await family.recall()

    def check(self, manifest: EnvironmentManifest) -> None:
        """See `launch.Relatives`."""
        self.kinds.check(manifest)

    def guard(self, hooks: Hooks) -> None:
        """See `launch.Relatives`."""
        self.kinds.hooks = hooks

    def listen(self, run_id: str) -> None:
        """Keep the pieces of an answer that this run is being given."""
        if not self._pieces and self._bus.silent:
            self._bus.on("text.delta", self._piece)
            self._bus.on("model.reply", self._over)
        self._pieces.setdefault(run_id, [])

    def piece(self, run_id: str) -> str:
        """What was heard of the answer that is being made."""
        return "".join(self._pieces.get(run_id, ()))

    def deaf(self, run_id: str) -> None:
        self._pieces.pop(run_id, None)

    def _piece(self, event: Event) -> None:
        if event.run_id in self._pieces:
            self._pieces[event.run_id].append(str(event.data.get("text", "")))

    def _over(self, event: Event) -> None:
        if event.run_id in self._pieces:
            self._pieces[event.run_id].clear()


class _Child:
    """A child that goes on in this process."""

    __slots__ = ("born", "context", "stopped", "task")

    def __init__(self, born: Born) -> None:
        self.born = born
        self.context: RunContext | None = None
        """None: it is being begun."""
        self.task: asyncio.Task[ChildEnd]
        self.stopped: Reason | None = None

    def stop(self, reason: Reason) -> None:
        self.stopped = self.stopped or reason
        if self.context is not None:
            self.context.cancel(self.stopped)


class Family:
    """The children of one run: `core.children.Children`. Belongs to the run, and ends with it."""

    def __init__(
        self,
        runs: ChildRuns,
        run: RunContext,
        home: Home,
        names: Collection[str],
        tools: Toolbox | None,
        above: Family | None = None,
        name: str = "",
    ) -> None:
        """`names`: the sub-agents of `home` that it may give work to; `name`: which one it is
        itself, of those that `above` declares."""
        self._runs = runs
        self._run = run
        self._home = home
        self._names = names
        self._tools = tools
        self._above = above
        self._is = ("", "") if above is None else (above._home.digest, name)
        self._root: Family = self if above is None else above._root
        self._depth: int = 0 if above is None else above._depth + 1
        self._descendants = 0
        """Of the root: how many there are."""
        self._born: dict[str, Born] = {}
        self._children: dict[str, _Child] = {}
        """Those that go on here, or did."""
        self._ends: dict[str, ChildEnd] = {}
        """How those came to their end of which that is known here."""
        self._paid: set[str] = set()
        self._asleep = False
        """It was resumed, and its children in the background were not yet."""

    async def recall(self) -> None:
        """Of a resumed run: what its facts tell of its children."""
        facts, journal = self._run.facts, self._runs.launcher.journal
        self._born = {each.run_id: each for each in born(facts)}
        if not self._born:
            return
        self._paid = paid(facts)
        unpaid = open_ones(facts)
        for each in unpaid:
            self._run.spend.owe(await owed(journal, each.run_id))
        if self._above is None:
            self._descendants = await descendants(journal, facts)
        if unpaid:
            self._own()
            self._asleep = any(each.task for each in unpaid)

    # --- beginning ---------------------------------------------------------------------------

    async def call(self, agent: str, prompt: str, key: str) -> ChildEnd:
        run, begun = self._run, list[_Child]()

        async def work() -> Mapping[str, JSON]:
            child = await self._begun(agent, prompt, key, background=False)
            begun.append(child)
            await self._over(child)
            end = child.task.result()
            if end.status == _SUSPENDED:
                self._suspended(end)
            return self._charged(end)

        def aborted() -> Mapping[str, JSON]:
            done = [child.task for child in begun if child.task.done()]
            ends = [task.result() for task in done if not task.cancelled()]
            return self._charged(ends[0]) if ends and ends[0].status != _SUSPENDED else {}

        request = fingerprint({"agent": agent, "prompt": prompt})
        data = await run.effect(
            CHILD, key, work, request=request, safety=Safety.READ_ONLY, aborted=aborted
        )
        runs = data.get("runs")
        run_id = str(runs[0]) if isinstance(runs, list | tuple) else ""
        return self._ends.get(run_id) or await self._read(run_id)

    async def begin(self, agent: str, prompt: str, key: str) -> Task:
        child = await self._begun(agent, prompt, key, background=True)
        return self._task(child.born)

    async def _begun(self, agent: str, prompt: str, key: str, *, background: bool) -> _Child:
        """The child of this call, begun now or before; it goes on."""
        run = self._run
        known = [e for e in self._born.values() if (e.iteration, e.key) == (run.iteration, key)]
        if known:
            return self._go_on(known[0], prompt)
        self._may_have(agent)
        self._own()
        number = 1 + sum(bool(each.task) for each in self._born.values())
        heard = tuple(sorted(run.strangers or ()))
        made = Born(
            run.world.new_id("run"),
            agent,
            run.iteration,
            key,
            f"t{number}" if background else "",
            prompt if background else "",
            self._planning(),
            heard,
        )
        self._root._descendants += 1
        self._born[made.run_id] = made  # before its fact: a second one has another number
        await run.record("child", made.to_json(), key=key)
        if run.wants("subagent.spawned"):
            run.signal("subagent.spawned", {"run": made.run_id, "agent": agent, "task": made.task})
        return self._go_on(made, prompt)

    def _may_have(self, agent: str) -> None:
        """Raises LimitError where it may not."""
        limits = self._root._run.bounds.limits
        if agent not in self._names:
            raise LimitError(
                f"there is no sub-agent {agent!r} here",
                code=ExecutorErrorCode.EXEC_TOOL_INVALID_INPUT,
            )
        family: Family | None = self
        while family is not None:
            if family._is == (self._home.digest, agent):
                raise LimitError(
                    f"{agent!r} is at work on this already: it cannot be given work from here.",
                    code=ExecutorErrorCode.EXEC_CHILD_ANCESTOR,
                    hint="Do it yourself, or give it to another sub-agent.",
                )
            family = family._above
        if self._depth >= limits.max_depth:
            raise LimitError(
                f"a run within a run is at most {limits.max_depth} deep, and this one is.",
                code=ExecutorErrorCode.EXEC_CHILD_DEPTH,
                hint="Do it yourself; whoever runs this may raise limits.max_depth.",
            )
        if self._root._descendants >= limits.max_descendants:
            raise LimitError(
                f"work was given to sub-agents {limits.max_descendants} times, the limit.",
                code=ExecutorErrorCode.EXEC_CHILD_DESCENDANTS,
                hint="Do it yourself; whoever runs this may raise limits.max_descendants.",
            )

    def _planning(self) -> bool:
        tools = self._tools
        return tools is not None and tools.planning(self._run)

    def _own(self) -> None:
        self._run.owned.own(Family, lambda: self)

    def _go_on(self, made: Born, prompt: str) -> _Child:
        child = self._children.get(made.run_id)
        if child is None:
            child = self._children[made.run_id] = _Child(made)
            if made.task:
                self._runs.listen(made.run_id)
            loop = asyncio.get_running_loop()
            child.task = loop.create_task(self._play(child, prompt), name=made.run_id)
        return child

    # --- going on ----------------------------------------------------------------------------

    async def _play(self, child: _Child, prompt: str) -> ChildEnd:
        """A child's whole life in this process. Raises nothing: it says how it ended."""
        run_id = child.born.run_id
        try:
            row = await self._runs.launcher.journal.find_run(run_id)
            if row is not None and row.status:
                return await self._read(run_id)
            result = await self._live(child, prompt)
            if result.exception is not None and result.exception.category is ErrorCategory.STORE:
                raise result.exception  # it got no last word
            end = _end_of(child.born, result)
        except LorimerError as error:
            status = _SUSPENDED if error.category is ErrorCategory.STORE else "error"
            end = ChildEnd(run_id, child.born.agent, status, "", error.code, str(error))
        finally:
            self._runs.deaf(run_id)
        if end.status != _SUSPENDED:
            self._ends[run_id] = end
        if self._run.wants("subagent.completed"):
            told = {"run": run_id, "agent": end.agent, "status": end.status, "cost": end.cost_nano}
            self._run.signal("subagent.completed", told)
        return end

    async def _live(self, child: _Child, prompt: str) -> PipelineResult:
        parent, runs, made = self._run, self._runs, child.born
        kind = runs.kinds.kind(self._home, made.agent, planning=made.planning)
        limits = within(kind.plan.limits, parent.bounds, parent.world.monotonic())
        run = await runs.launcher.descend(
            kind.plan,
            made.run_id,
            prompt,
            limits,
            parent,
            made.agent,
            wait_s=runs.launcher.patience_s,
        )
        context = child.context = run.context
        context.strangers = {*made.heard, *(parent.strangers or ())}
        names = _names(kind.plan)
        context.children = family = Family(
            runs, context, kind.home, names, kind.tools, self, made.agent
        )
        parent.cancellation.heirs.add(context.cancellation)
        try:
            await family.recall()
            if child.stopped is not None:
                context.cancel(child.stopped)
            return await run.here()
        finally:
            parent.cancellation.heirs.discard(context.cancellation)

    async def _over(self, child: _Child) -> None:
        """Wait until a child is at rest. When this is cancelled so is the child."""
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

    def _suspended(self, end: ChildEnd) -> None:
        """Its parent is suspended too."""
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
        run.drain(run.bounds.limits.cleanup_s, Reason.WAITING)  # others may be at work beside it
        raise Stopped(Reason.WAITING.value)

    async def _read(self, run_id: str) -> ChildEnd:
        """How a child ended, from its own journal."""
        made = self._born[run_id]
        end = self._ends[run_id] = _end_of(
            made, outcome(await recorded(self._runs.launcher.journal, run_id))
        )
        return end

    def _charged(self, end: ChildEnd) -> Mapping[str, JSON]:
        """What the run is charged for a child; once."""
        data: dict[str, JSON] = {"runs": [end.run_id]}
        if end.run_id not in self._paid:
            self._paid.add(end.run_id)
            self._run.spend.take_over(end.cost_nano)
            data |= {"usage": end.usage or {}, "cost": end.cost_nano}
        return data

    # --- in the background -------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return any(each.task and each.run_id not in self._paid for each in self._born.values())

    async def revive(self) -> None:
        if self._asleep:
            self._asleep = False
            for each in self._background():
                self._go_on(each, each.input)

    async def tasks(self) -> Sequence[Task]:
        found: list[Task] = []
        for each in self._born.values():
            if each.task:
                if each.run_id in self._paid and each.run_id not in self._ends:
                    await self._read(each.run_id)
                found.append(self._task(each))
        return found

    def _task(self, made: Born) -> Task:
        end, child = self._ends.get(made.run_id), self._children.get(made.run_id)
        status = RUNNING
        if end is not None:
            status = end.status
        elif child is not None and child.task.done():
            status = WAITING
        return Task(made.task, made.run_id, made.agent, made.input, status)

    async def output(self, task: Task) -> str:
        child = self._children.get(task.run_id)
        if child is not None and child.context is not None:
            texts = said(child.context.facts)
        else:
            row = await self._runs.launcher.journal.find_run(task.run_id)
            texts = (
                said((await recorded(self._runs.launcher.journal, row.run_id)).facts) if row else []
            )
        piece = self._runs.piece(task.run_id)
        return "\n\n".join([*texts, piece] if piece else texts)

    async def tell(self, task: Task, text: str, id: str) -> bool:
        child = self._children.get(task.run_id)
        if child is not None and child.context is not None and child.context.strangers is not None:
            child.context.strangers |= self._run.strangers or set()
        try:
            return await mail.send(self._runs.launcher.journal, task.run_id, text, id=id)
        except PipelineError as error:
            if error.code in (ExecutorErrorCode.EXEC_RUN_ENDED, ExecutorErrorCode.EXEC_RUN_UNKNOWN):
                return False
            raise

    async def stop(self, task: Task) -> None:
        child = self._children.get(task.run_id)
        if child is None:
            return
        child.stop(Reason.CALLER)
        await asyncio.wait([child.task])
        if child.task.result().status == _SUSPENDED:
            await self._given_up(child.born)

    async def wait(self, timeout_s: float, task: Task | None = None) -> None:
        going = [
            child.task
            for run_id, child in self._children.items()
            if (child.born.task if task is None else run_id == task.run_id)
        ]
        if going:
            await asyncio.wait(going, timeout=None if timeout_s == inf else timeout_s)

    @property
    def ripe(self) -> bool:
        return any(each.run_id in self._ends for each in self._background())

    def harvest(self) -> Mapping[str, JSON]:
        tasks: list[JSON] = []
        runs: list[JSON] = []
        usage: dict[str, int] = {}
        cost = 0
        for each in self._background():
            end = self._ends.get(each.run_id)
            if end is None:
                continue
            charged = self._charged(end)
            runs.append(each.run_id)
            cost += end.cost_nano
            theirs = charged.get("usage")
            for name, count in theirs.items() if isinstance(theirs, Mapping) else ():
                usage[name] = usage.get(name, 0) + (count if isinstance(count, int) else 0)
            told: dict[str, JSON] = {"id": each.task, "agent": each.agent, "status": end.status}
            tasks.append({**told, "text": told_of(end)})
        return {"tasks": tasks, "runs": runs, "usage": usage, "cost": cost}

    def rest(self) -> None:
        for each in self._background():
            child = self._children.get(each.run_id)
            if child is not None and child.task.done() and each.run_id not in self._ends:
                self._suspended(child.task.result())

    def _background(self) -> list[Born]:
        """Those of which the run was not told how they ended."""
        return [e for e in self._born.values() if e.task and e.run_id not in self._paid]

    # --- the end -----------------------------------------------------------------------------

    async def end(self) -> None:
        """The run is about to end, or to be left: so are its children. See `core.owned.Owned`."""
        run = self._run
        reason = Reason.SHUTDOWN if run.left else inherited(run.reason)
        going = [child for child in self._children.values() if not child.task.done()]
        for child in going:
            child.stop(reason)
        if going:
            await asyncio.wait([child.task for child in going])
        if run.left:
            return
        try:
            for each in list(self._born.values()):
                if each.run_id not in self._paid:
                    await self._written_off(each)
        except JournalError as error:
            run.broken = error
        except LorimerError as error:
            _log.warning("the end of a run's children: %s", error)

    async def _written_off(self, made: Born) -> None:
        """The run is charged for a child that it was not told of."""
        end = self._ends.get(made.run_id) or await self._given_up(made)
        if end is None:
            return
        run, key = self._run, f"{ABANDONED}{CHILD}:{made.run_id}"
        data = {"key": key, **self._charged(end)}
        await run.record("effect", data, key=key, ledger=run.spend.write_off(data))

    async def _given_up(self, made: Born) -> ChildEnd | None:
        """The end of a child that nobody goes on with; None: it never began."""
        launcher = self._runs.launcher
        row = await launcher.journal.find_run(made.run_id)
        if row is None:
            return None
        if not row.status:
            await launcher.abandon(made.run_id, wait_s=launcher.patience_s)
        return await self._read(made.run_id)


def _names(plan: Plan) -> frozenset[str]:
    return frozenset([agent.name for agent in plan.manifest.agents])


def _end_of(made: Born, result: PipelineResult) -> ChildEnd:
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
    with Cancellation.undisturbed():
        await work
