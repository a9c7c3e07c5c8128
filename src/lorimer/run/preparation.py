"""From a request to an executor to a run that is about to begin: its budget, observers and critic,
its tools, its limits, and its pipeline. The whole life of a run: `executor.py`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial

from lorimer.core.context import RunContext
from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.journal import Journal
from lorimer.core.limits import Limits
from lorimer.core.model import ModelResolver
from lorimer.core.purse import Budgets
from lorimer.core.world import World
from lorimer.journal.family import ChildRecord, uncharged
from lorimer.journal.recording import facts_of
from lorimer.launch.admission import require_new, require_no_parent, require_unfinished
from lorimer.launch.claims import LOOK_S
from lorimer.launch.live import Run
from lorimer.pipeline import Pipeline
from lorimer.run.agent import RunnableAgent
from lorimer.run.config import Settings, limits_now
from lorimer.run.critic.watching import Watch, is_watched
from lorimer.run.job import Job, unknown
from lorimer.run.job_ports import JobWithPorts
from lorimer.run.lowering import limits_of
from lorimer.run.palette import reachable
from lorimer.run.phase_results import usable
from lorimer.run.pipelines import Pipelines
from lorimer.run.ports import Ports


class RunPreparation:
    """Prepares the runs of an executor: checks, ports, pipeline, limits, critic."""

    def __init__(
        self,
        models: ModelResolver,
        journal: Journal,
        limits: Limits,
        ports: Ports,
        settings: Settings,
        pipelines: Pipelines,
        world: World,
    ) -> None:
        self._models = models
        self._journal = journal
        self._limits = limits
        self._ports = ports
        self._settings = settings
        self._pipelines = pipelines
        self._world = world

    async def prepare(
        self, job: JobWithPorts
    ) -> tuple[Run, AbstractAsyncContextManager[None] | None]:
        """The run of a job, ready to be executed, and the context to execute it in, if there are
        observers or a critic. Raises LorimerError for a job that cannot be run."""
        agent = usable(job.agent, self._models, job.warn)
        await self._require_possible(job)
        await job.begin()
        palette = job.asked.palette or self._ports.palette
        found = await reachable(agent, palette, self._limits.cleanup_s)
        delegates = tuple(
            [replace(each, agent=usable(each.agent, self._models, job.warn)) for each in found]
        )
        job.attach_delegates(delegates)
        pipeline, observers = self._pipelines.of(
            agent, job.caller, job.tools, delegates, once=job.has_own_tools
        )
        base = limits_now(self._settings, self._limits)
        limits = limits_of(agent, base)
        watch = self._watch(job, agent, limits)
        if watch is not None:
            own = watch.limits
        else:
            own = limits if base is not self._limits else None  # not those of its manifest
        below: Sequence[tuple[str, ChildRecord]] = ()
        if job.again:
            run, below = await self._resumed(pipeline, job)
        else:
            run = await pipeline.begin(
                job.run_input,
                limits=own,
                budgets=self._budgets(job),
                run_id=job.run_id,
                invocation=job.recorded_invocation,
            )
        if job.stopped is not None:
            run.context.cancel(job.stopped)
        job.run = run
        job.attach_run(run.context)
        heard, said = job.observers, job.text_observers
        if not heard and not said and watch is None:
            return run, None
        return run, _observed(run.context, observers.of(run.context, heard, said, below), watch)

    async def _resumed(
        self, pipeline: Pipeline, job: Job
    ) -> tuple[Run, Sequence[tuple[str, ChildRecord]]]:
        """The run, and the runs below it that may go on."""
        observed = bool(job.agent.phases) or self._ports.audit is not None
        # not `resume(wait_s=)`, which ignores the shutdown of the program
        until = self._world.monotonic() + job.wait_s
        while True:
            # each time: the process that had it may have begun more of them
            below = await unfinished_below(self._journal, job.run_id) if observed else ()
            try:
                return await pipeline.begin_resumed(job.run_id), below
            except JournalError as error:
                taken = error.code is ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
                left = until - self._world.monotonic()
                if not taken or left <= 0 or job.stopped is not None:
                    raise
            await self._world.sleep(min(LOOK_S, left))

    def _watch(self, job: JobWithPorts, agent: RunnableAgent, limits: Limits) -> Watch | None:
        critic = self._ports.critic
        if critic is None or not is_watched(critic, agent):
            return None
        run_id, caller_id = job.run_id, job.asked.caller_id
        return Watch(critic, agent, limits, run_id, caller_id, job.warnings)

    async def _require_possible(self, job: Job) -> None:
        """Raises PipelineError for a job whose run cannot be begun or resumed: before any port is
        notified of it."""
        run_id = job.run_id
        if job.again:
            row = await require_unfinished(self._journal, run_id)
            if row.run_id != run_id:
                raise unknown(run_id, row.run_id)
            async with aclosing(self._journal.read(row.stream, row.first - 1)) as facts:
                async for start in facts:
                    require_no_parent(start)
                    break
        elif job.asked.run_id:
            await require_new(self._journal, run_id)

    def _budgets(self, job: Job) -> Budgets:
        budget = self._ports.budget
        return () if budget is None else partial(budget.admit, job.agent, job.asked, self._journal)


@asynccontextmanager
async def _observed(
    run: RunContext, observed: AbstractAsyncContextManager[None], watch: Watch | None
) -> AsyncGenerator[None, None]:
    """Observers are notified of the run, and its critic watches it."""
    async with observed:
        if watch is None:
            yield
        else:
            async with watch.during(run):
                yield


async def unfinished_below(journal: Journal, run_id: str) -> list[tuple[str, ChildRecord]]:
    """The runs below an interrupted run whose ends their parents do not know yet, each with the id
    of its parent, parents first."""
    found: list[tuple[str, ChildRecord]] = []
    known, waiting = {run_id}, [run_id]
    while waiting:
        above = waiting.pop()
        row = await journal.find_run(above)
        if row is None or row.status:
            continue
        below = uncharged(await facts_of(journal, row))
        found += [(above, each) for each in below if each.run_id not in known]
        waiting += [each.run_id for each in below if each.run_id not in known]
        known.update(waiting)
    return found
