"""Child runs, waited for or in the background. The only implementation of `core/children.py`; for
their lifetime see `family.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING

from lorimer.core import mail
from lorimer.core.bindings import Bindings
from lorimer.core.bus import Bus
from lorimer.core.cancel import Reason
from lorimer.core.catalogue import Catalogue
from lorimer.core.children import RUNNING, WAITING, ChildEnd, Task, describe_end
from lorimer.core.context import RunContext, Safety
from lorimer.core.errors import (
    ExecutorErrorCode,
    PipelineError,
)
from lorimer.core.events import Event
from lorimer.core.facts import CHILD
from lorimer.core.hooks import Hooks
from lorimer.core.jsonable import JSON, fields_of, fingerprint, texts_of
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import Message
from lorimer.core.plan import Plan
from lorimer.journal.family import ChildRecord
from lorimer.journal.outcome import outcome, texts_said
from lorimer.journal.recording import recorded
from lorimer.launch.launcher import Launcher
from lorimer.session.family import SUSPENDED, Child, Family, names_of
from lorimer.session.subagent_plans import SubAgentPlan, SubAgentPlans, ToolsetFactory

if TYPE_CHECKING:
    from lorimer.tools.registry import ToolRegistry


class ChildRuns:
    """The children of all runs of one pipeline."""

    def __init__(
        self,
        catalogue: Catalogue,
        bindings: Bindings,
        host: ToolRegistry,
        toolset: ToolsetFactory,
        launcher: Launcher,
        bus: Bus,
        allowed: Callable[[Plan, Plan], None],
    ) -> None:
        """`host`, `toolset` and `allowed` as in `SubAgentPlans`; `launcher` launches only child
        runs, and reports to `bus`."""
        self.plans = SubAgentPlans(catalogue, bindings, host, toolset, allowed)
        self.launcher = launcher
        self._bus = bus
        self._pieces: dict[str, list[str]] = {}
        self._begun: dict[str, asyncio.Event] = {}
        self._listens = False

    async def adopt(self, plan: Plan, context: RunContext) -> None:
        """See `launch.ChildRunProvider`."""
        home, names = self.plans.scope_of(plan.manifest), names_of(plan)
        context.children = family = ChildrenOfRun(self, context, home, names, self.plans.tools)
        await family.recall()

    def below(self, context: RunContext, kind: SubAgentPlan, above: Family, name: str) -> Family:
        """The children that a child may have; `name`: which sub-agent it is."""
        names = names_of(kind.plan)
        context.children = family = ChildrenOfRun(
            self, context, kind.scope, names, kind.tools, above, name
        )
        return family

    def check(self, manifest: EnvironmentManifest) -> None:
        """See `launch.ChildRunProvider`."""
        self.plans.check(manifest)

    def guard(self, hooks: Hooks) -> None:
        """See `launch.ChildRunProvider`."""
        self.plans.hooks = hooks

    def listen(self, run_id: str, begun: asyncio.Event) -> None:
        """Collect the pieces of the answer that this run is receiving; set `begun` when the journal
        has the run."""
        if not self._listens:
            self._listens = True
            self._bus.on("run.start", self._start)
            self._bus.on("text.delta", self._piece)
            self._bus.on("model.reply", self._over)
        self._pieces.setdefault(run_id, [])
        self._begun[run_id] = begun

    def piece(self, run_id: str) -> str:
        """The pieces so far of the answer in progress."""
        return "".join(self._pieces.get(run_id, ()))

    def stop_listening(self, run_id: str) -> None:
        self._pieces.pop(run_id, None)
        self._begun.pop(run_id, None)

    def _start(self, event: Event) -> None:
        if event.run_id in self._begun:
            self._begun[event.run_id].set()

    def _piece(self, event: Event) -> None:
        if event.run_id in self._pieces:
            self._pieces[event.run_id].append(str(event.data.get("text", "")))

    def _over(self, event: Event) -> None:
        if event.run_id in self._pieces:
            self._pieces[event.run_id].clear()


class ChildrenOfRun(Family):
    """`core.children.Children`."""

    async def call(self, agent: str, prompt: JSON, key: str) -> ChildEnd:
        run, begun = self._run, list[Child]()

        async def work() -> Mapping[str, JSON]:
            child = await self._begin_child(agent, prompt, key, background=False)
            begun.append(child)
            await self._wait_for(child)
            end = child.task.result()
            if end.status == SUSPENDED:
                self._suspend_parent(end)
            return self._charge(end)

        def aborted() -> Mapping[str, JSON]:
            done = [child.task for child in begun if child.task.done()]
            ends = [task.result() for task in done if not task.cancelled()]
            return self._charge(ends[0]) if ends and ends[0].status != SUSPENDED else {}

        request = fingerprint({"agent": agent, "prompt": prompt})
        data = await run.effect(
            CHILD, key, work, request=request, safety=Safety.READ_ONLY, aborted=aborted
        )
        run_id = next(iter(texts_of(data.get("runs"))), "")
        return self._ends.get(run_id) or await self._read(run_id)

    async def transcript(self, end: ChildEnd) -> Sequence[Message]:
        return outcome(await recorded(self._runs.launcher.journal, end.run_id)).messages

    async def begin(self, agent: str, prompt: str, key: str) -> Task:
        child = await self._begin_child(agent, prompt, key, background=True)
        return self._task(child.born)

    # --- in the background -------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return any(each.task and each.run_id not in self._paid for each in self._records.values())

    async def revive(self) -> None:
        if self._to_revive:
            self._to_revive = False
            for each in self._background():
                self._start(each, each.input)

    async def tasks(self) -> Sequence[Task]:
        found: list[Task] = []
        for each in self._records.values():
            if each.task:
                if each.run_id in self._paid and each.run_id not in self._ends:
                    await self._read(each.run_id)
                found.append(self._task(each))
        return found

    def _task(self, made: ChildRecord) -> Task:
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
            texts = texts_said(child.context.facts)
        else:
            row = await self._runs.launcher.journal.find_run(task.run_id)
            texts = []
            if row is not None:
                recording = await recorded(self._runs.launcher.journal, row.run_id)
                texts = texts_said(recording.facts)
        piece = self._runs.piece(task.run_id)
        return "\n\n".join([*texts, piece] if piece else texts)

    async def tell(self, task: Task, text: str, id: str) -> bool:
        child = self._children.get(task.run_id)
        if child is not None:
            await child.begun.wait()
            if child.context is not None and child.context.strangers is not None:
                child.context.strangers |= self._run.strangers or set()
        try:
            await mail.send(self._runs.launcher.journal, task.run_id, text, id=id)
        except PipelineError as error:
            if error.code in (ExecutorErrorCode.EXEC_RUN_ENDED, ExecutorErrorCode.EXEC_RUN_UNKNOWN):
                return False
            raise
        return True  # even if it was sent before: it is stored once

    async def stop(self, task: Task) -> None:
        child = self._children.get(task.run_id)
        if child is None:
            return
        child.stop(Reason.CALLER)
        await asyncio.wait([child.task])
        if child.task.result().status == SUSPENDED:
            await self._abandon(child.born)

    async def wait(self, timeout_s: float, task: Task | None = None) -> None:
        going = [
            child.task
            for run_id, child in self._children.items()
            if (child.born.task if task is None else run_id == task.run_id)
        ]
        if going:
            await asyncio.wait(going, timeout=None if timeout_s == inf else timeout_s)

    @property
    def has_ended_tasks(self) -> bool:
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
            charged = self._charge(end)
            runs.append(each.run_id)
            cost += end.cost_nano
            for name, count in fields_of(charged.get("usage")).items():
                usage[name] = usage.get(name, 0) + (count if isinstance(count, int) else 0)
            told: dict[str, JSON] = {"id": each.task, "agent": each.agent, "status": end.status}
            tasks.append({**told, "text": describe_end(end)})
        return {"tasks": tasks, "runs": runs, "usage": usage, "cost": cost}

    def suspend_if_waiting(self) -> None:
        for each in self._background():
            child = self._children.get(each.run_id)
            if child is not None and child.task.done() and each.run_id not in self._ends:
                self._suspend_parent(child.task.result())

    def _background(self) -> list[ChildRecord]:
        """The children whose end has not been reported to the run."""
        return [e for e in self._records.values() if e.task and e.run_id not in self._paid]
