"""From what an executor is asked for to a run that is about to begin: whoever pays, listens and
looks, its tools, its limits, the pipeline that it runs on. Its whole life: `executor.py`."""

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
from lorimer.launch.admission import require_new, require_no_parent, require_unfinished
from lorimer.launch.claims import LOOK_S
from lorimer.launch.live import Run
from lorimer.pipeline import Pipeline
from lorimer.run.agent import RunnableAgent
from lorimer.run.around import Around
from lorimer.run.config import Settings, limits_now
from lorimer.run.critic.watching import Watch, is_watched
from lorimer.run.job import Job, unknown
from lorimer.run.lowering import limits_of
from lorimer.run.observing import Observer, Observers
from lorimer.run.palette import reachable
from lorimer.run.phase_results import usable
from lorimer.run.pipelines import Pipelines
from lorimer.run.ports import Ports


class Beginning:
    """Of all runs of an executor."""

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

    async def run(self, job: Around) -> tuple[Run, AbstractAsyncContextManager[None] | None]:
        """Of what is asked for, and what it goes on in, if that is anything. Raises LorimerError
        for what cannot be."""
        agent = usable(job.agent, self._models, job.warn)
        await self._must_be(job)
        await job.begin()
        palette = job.asked.palette or self._ports.palette
        found = await reachable(agent, palette, self._limits.cleanup_s)
        delegates = tuple(
            [replace(each, agent=usable(each.agent, self._models, job.warn)) for each in found]
        )
        pipeline, observers = self._pipelines.of(
            agent, job.caller, job.tools, delegates, once=job.own
        )
        base = limits_now(self._settings, self._limits)
        limits = limits_of(agent, base)
        watch = self._watch(job, agent, limits)
        if watch is not None:
            own = watch.limits
        else:
            own = limits if base is not self._limits else None  # not those of its manifest
        if job.again:
            run = await self._taken_up(pipeline, job)
        else:
            run = await pipeline.begin(
                job.given,
                limits=own,
                budgets=self._budgets(job),
                run_id=job.run_id,
                invocation=job.told,
            )
        if job.stopped is not None:
            run.context.cancel(job.stopped)
        job.run = run
        job.live(run.context)
        heard, said = job.observers, job.said
        if not heard and not said and watch is None:
            return run, None
        return run, _overseen(run.context, observers, heard, said, watch)

    async def _taken_up(self, pipeline: Pipeline, job: Job) -> Run:
        # not `resume(wait_s=)`, which does not hear that the program stops
        until = self._world.monotonic() + job.wait_s
        while True:
            try:
                return await pipeline.begin_resumed(job.run_id)
            except JournalError as error:
                taken = error.code is ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
                left = until - self._world.monotonic()
                if not taken or left <= 0 or job.stopped is not None:
                    raise
            await self._world.sleep(min(LOOK_S, left))

    def _watch(self, job: Around, agent: RunnableAgent, limits: Limits) -> Watch | None:
        critic = self._ports.critic
        if critic is None or not is_watched(critic, agent):
            return None
        run_id, caller_id = job.run_id, job.asked.caller_id
        return Watch(critic, agent, limits, run_id, caller_id, job.warnings)

    async def _must_be(self, job: Job) -> None:
        """What is asked for can be: before the ports hear of a run that is another's."""
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
async def _overseen(
    run: RunContext,
    observers: Observers,
    heard: Sequence[Observer],
    said: Sequence[Observer],
    watch: Watch | None,
) -> AsyncGenerator[None, None]:
    """Whoever listens is told of the run, and its critic looks at it."""
    async with observers.of(run, heard, said):
        if watch is None:
            yield
        else:
            async with watch.over(run):
                yield
