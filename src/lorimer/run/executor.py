"""Runs agents of a host: each within bounds, and each to one result, whatever happens.

The order of a run: lower the agent to a manifest, begin a run of it, notify the ports. What happens
in the run is up to the engine (`core/engine.py`); there is no second loop here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Unpack

from lorimer.assembly import RunOptions, ToolSource, registry_of, reusable
from lorimer.core.ancestry import Ancestry, current, enter_run
from lorimer.core.arguments import check_port, check_seconds, is_a, wrong
from lorimer.core.cancel import Reason
from lorimer.core.errors import ConfigError, ExecutorErrorCode, LorimerError, RunCancelled
from lorimer.core.journal import KeptInFiles
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.model import ModelResolver
from lorimer.core.own_loop import in_own_loop
from lorimer.core.result import PipelineResult
from lorimer.journal.memory import MemoryJournal
from lorimer.journal.outcome import outcome
from lorimer.journal.recording import recorded
from lorimer.launch.admission import require_no_parent, require_unfinished
from lorimer.launch.live import Run
from lorimer.run.agent import RunnableAgent
from lorimer.run.config import LaneCap, Settings
from lorimer.run.handle import RunHandle
from lorimer.run.invocation import Invocation, check_agent, check_asked, check_invocation
from lorimer.run.job import Job, busy, claimed, just_ended, unknown
from lorimer.run.job_ports import Host, JobWithPorts
from lorimer.run.lanes.lane import ASK_AGAIN, Lane, Slot
from lorimer.run.lowering import DEFAULTS
from lorimer.run.palette import Delegate
from lorimer.run.phase_results import gather
from lorimer.run.pipelines import FALLBACK_TIER, Pipelines
from lorimer.run.ports import Ports
from lorimer.run.preparation import RunPreparation
from lorimer.run.result import RunResult, failed, result_of
from lorimer.world.real import RealWorld


class Executor:
    """Runs agents, as many at once as requested; safe to share.

    models: the models, by tier, spec or chain. tools: the host's, of which agents name those they
    have. limits: of each run, unless its agent sets them. ports: what the host plugs in.
    system_header: the beginning of every system prompt. tier: the model of agents that name none.
    lane: where runs wait for their turn, by caller; none: all run at once. A run's time begins
    after it. The rest is as for a Pipeline (journal, world, rules, workspace, ...).

    Raises ConfigError at once for what is missing or wrong.
    """

    def __init__(
        self,
        *,
        models: ModelResolver | None = None,
        tools: ToolSource | None = None,
        limits: Limits = DEFAULTS,
        ports: Ports | None = None,
        system_header: str = "",
        tier: str = FALLBACK_TIER,
        lane: Lane | None = None,
        **options: Unpack[RunOptions],
    ) -> None:
        if models is None:
            raise ConfigError(
                "an executor needs models", hint="Executor(models=Models(tiers=Tiers({...})))"
            )
        check_port("models", models, ModelResolver, 'Models(tiers=Tiers({"fast": ...}))')
        if not is_a(limits, Limits):
            raise wrong("limits", limits, "Limits", "Limits(max_turns=20)")
        if not is_a(ports, Ports, NoneType):
            raise wrong("ports", ports, "Ports", "Ports(delivery=Stdout())")
        if not is_a(lane, Lane, NoneType):
            raise wrong("lane", lane, "a Lane", 'Lane("runs", 10)')
        for name, given in (("system_header", system_header), ("tier", tier)):
            if not is_a(given, str):
                raise wrong(name, given, "text", f'{name}="..."')
        options = reusable(options)
        self.models = models
        self.world = options.get("world") or RealWorld()
        self.journal = options.get("journal") or MemoryJournal(self.world)
        self.limits = limits
        self.ports = ports or Ports()
        self.lane = lane
        settings = Settings(self.ports.config)
        self._lane_cap = None if lane is None else LaneCap(settings, lane)
        hidden = (*options.get("hidden", ()), *_files_of(self.ports))
        options.update(journal=self.journal, world=self.world, hidden=hidden)
        self._owner = options.get("owner", "")
        self._host = Host(self.ports, self.world, self.journal, limits.cleanup_s, self.result)
        self._going: dict[str, Job] = {}
        """The runs whose ports have not been notified of the end yet, by id."""
        self._ended: asyncio.Future[None] | None = None
        """Set when the next of them has ended; None: no one waits for that."""
        self._closed = False
        self._pipelines = Pipelines(
            models,
            registry_of(tools),
            limits,
            system_header,
            tier,
            options,
            self.ports.critic,
            adjustable=settings.configured,
            audited=self.ports.audit is not None,
        )
        self._preparation = RunPreparation(
            models, self.journal, limits, self.ports, settings, self._pipelines, self.world
        )

    def run(
        self, agent: RunnableAgent, input: str = "", invocation: Invocation | None = None
    ) -> Coroutine[object, None, RunResult]:
        """Run an agent to its end, in the caller's task. Never raises for failures within the run,
        which are in the result; only arguments of the wrong type raise ConfigError. If the task is
        cancelled, the run ends, the ports are notified, and CancelledError is raised."""
        return self._run_job(self._job(agent, input, invocation or Invocation()))

    def __repr__(self) -> str:
        return f"<Executor of {self.models!r}, journal {self.journal!r}>"

    def run_sync(
        self, agent: RunnableAgent, input: str = "", invocation: Invocation | None = None
    ) -> RunResult:
        """`run` for programs without an event loop. Raises PipelineError inside of one."""
        return in_own_loop("executor.run", self.run(agent, input, invocation), self.models)

    def start(
        self, agent: RunnableAgent, input: str = "", invocation: Invocation | None = None
    ) -> RunHandle:
        """Begin a run in a task of its own, which the handle owns."""
        job = self._job(agent, input, invocation or Invocation())
        task = asyncio.get_running_loop().create_task(self._run_job(job), name=job.run_id)
        self._going.setdefault(job.run_id, job)  # a shutdown finds it before its task has begun
        task.add_done_callback(lambda _: self._forget(job))  # even if that never does
        return RunHandle(job, task)

    async def resume(
        self,
        agent: RunnableAgent,
        run_id: str,
        invocation: Invocation | None = None,
        *,
        wait_s: float = 0.0,
    ) -> RunResult:
        """Resume an interrupted run: what its journal contains is not done again. `agent` and
        `invocation` are those that it was begun with, including files. The result says if there is
        no such run, if it has ended, or if another process has it. If that process died, its claim
        has to expire first: `wait_s` is how many seconds to wait for that at most, in the slot of
        the lane."""
        check_seconds("wait_s", wait_s)
        asked = _of_run(run_id, invocation)
        return await self._run_job(self._job(agent, "", asked, again=True, wait_s=wait_s))

    async def finish(
        self,
        agent: RunnableAgent,
        run_id: str,
        invocation: Invocation | None = None,
        *,
        after_s: float = 0.0,
    ) -> RunResult:
        """Notify the ports of a run that has ended, if its process died before it could: the answer
        is delivered, the audit closed, files are dropped. Nothing is run. Ports may be notified of
        the same things twice. `agent` and `invocation` as in `resume`; the result is that of the
        run, or says that there is no such run, that it has not ended, or that it is part of another
        (`exec.child.part`), with which it is reported.

        If the process that ran it may still be alive and about to notify them, `after_s` says how
        many seconds ago the run has to have ended; until then it is left alone (`exec.run.busy`).
        If there is no such run, the audit is notified of that and nothing is delivered: its process
        died before it had begun the run, but after it had notified the audit. A run that another
        process has claimed and is about to begin is also left alone, until that claim has expired.
        """
        check_seconds("after_s", after_s)
        asked = _of_run(run_id, invocation)
        job = self._job(agent, "", asked, again=True, over=True)
        job.after_s = after_s
        return await self._run_job(job)

    async def abandon(self, run_id: str, *, wait_s: float = 0.0) -> None:
        """Abandon an interrupted run, even if its agent no longer exists: it ends as cancelled,
        with its cost so far, and nothing is run. `finish` notifies the ports. Raises as
        `Pipeline.abandon` does, and PipelineError for a run that is live here."""
        row = await require_unfinished(self.journal, run_id)
        if row.run_id != run_id:
            raise unknown(run_id, row.run_id)
        if row.run_id in self._going:
            raise busy(row.run_id)
        pipeline, _ = self._pipelines.of(RunnableAgent(), None)  # any can end it
        await pipeline.abandon(row.run_id, wait_s=wait_s)

    async def result(self, run_id: str) -> RunResult:
        """The result of an ended run, from its journal, whichever process ran it. No one is
        notified. `run_id` is its full id. Raises PipelineError as `Pipeline.result` does, if there
        is no such run or it has not ended."""
        found = result_of(await self._recorded(run_id))
        await gather(found, self.journal)
        return found

    def manifest(
        self, agent: RunnableAgent, delegates: Sequence[Delegate] = ()
    ) -> EnvironmentManifest:
        """The manifest of an agent; `delegates`: those it can reach (`run.palette.reachable`)."""
        check_agent(agent)
        return self._pipelines.manifest(agent, delegates)

    def shut_down(self, within_s: float = 10.0) -> bool:
        """Suspend what is running here: it begins nothing new, tool calls in progress that change
        something have `within_s` seconds to finish, and `resume` continues it later. Runs that have
        not begun are cancelled, with `exec.run.shutdown`: no journal has them, and they have to be
        requested again. Returns whether there was anything; the results say when it is over."""
        going = list(self._going.values())
        for job in going:
            job.shut_down(within_s)
        return bool(going)

    async def aclose(self, within_s: float = 10.0) -> None:
        """Suspend what is running here, as `shut_down` does, wait until it has stopped and its
        ports are notified, and close connections. From then on, runs are refused like those that
        had not begun. Called within a run, it waits for none. The journal stays open: it belongs to
        whoever created it."""
        self._closed = True
        try:
            self.shut_down(within_s)
            going = set(self._going.values())
            while current() is None and not going.isdisjoint(self._going.values()):
                self._ended = self._ended or asyncio.get_running_loop().create_future()
                await asyncio.wait([self._ended])
        finally:
            await self.models.aclose()

    async def __aenter__(self) -> Executor:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # --- one run -----------------------------------------------------------------------------

    def _job(
        self,
        agent: RunnableAgent,
        input: str,
        asked: Invocation,
        *,
        again: bool = False,
        over: bool = False,
        wait_s: float = 0.0,
    ) -> JobWithPorts:
        check_asked(agent, input, asked)
        above = current()
        if above is not None and not asked.parent_run_id:
            asked = replace(asked, parent_run_id=above.run_id)
        run_id = asked.run_id or self.world.new_id("run")
        job = JobWithPorts(
            self._host, run_id, self.lane, agent, input, asked, again=again, over=over
        )
        job.wait_s = wait_s
        return job

    async def _run_job(self, job: JobWithPorts) -> RunResult:
        # kept small, as thousands of runs have this frame: the preparation is elsewhere
        run_id = job.run_id
        if self._going.setdefault(run_id, job) is not job:  # what ports have of it is the other's
            return failed(run_id, busy(run_id))
        interrupted: BaseException | None = None
        try:
            line = self._enter_ancestry(job)
            slot = self._slot(job)
            try:
                if slot is not None:
                    await slot.enter()
                if job.over:
                    ended = await self._finish_ended(job)
                else:
                    run, overseen = await self._preparation.prepare(job)
                    ended = await (run.execute() if overseen is None else _within(overseen, run))
                result = result_of(ended)
                if job.agent.phases:
                    await gather(result, self.journal)
            finally:
                if slot is not None:
                    slot.leave()
                line.leave()
        except Exception as error:  # noqa: BLE001 - a coded error of it: every run has a result
            result = failed(run_id, error, again=job.again)
        except GeneratorExit:  # whoever drove it has given it up: nothing more can be waited for
            self._forget(job)
            raise
        except BaseException as error:  # noqa: BLE001 - cancelled, or meant for the program
            interrupted, result = error, _interrupted_result(job, error)
        try:
            interrupted = await job.finish(result) or interrupted
        finally:
            self._forget(job)
        if interrupted is not None:
            raise interrupted
        return result

    def _forget(self, job: Job) -> None:
        """The job is over. A second call changes nothing."""
        if self._going.get(job.run_id) is not job:
            return
        del self._going[job.run_id]
        if self._ended is not None:
            self._ended.set_result(None)
            self._ended = None

    def _enter_ancestry(self, job: Job) -> Ancestry:
        agent = job.agent
        if self._closed or job.stopped is Reason.SHUTDOWN:
            raise RunCancelled(
                "The executor is closed." if self._closed else "The program was shut down.",
                code=ExecutorErrorCode.EXEC_RUN_SHUTDOWN,
                hint=ASK_AGAIN,
            )
        if job.stopped is not None:
            raise RunCancelled(f"The run was cancelled: {job.stopped.value}.")
        if self._lane_cap is not None:
            self._lane_cap.apply()
        return enter_run(job.run_id, agent.who, agent.name, self.limits)

    def _slot(self, job: Job) -> Slot | None:
        if self.lane is None or job.over:
            return None
        asked, run_id = job.asked, job.run_id
        return self.lane.slot(caller=asked.caller_id, priority=asked.priority, id=run_id)

    async def _finish_ended(self, job: JobWithPorts) -> PipelineResult:
        try:
            ended = await self._recorded(job.run_id)
        except LorimerError as error:
            if error.code is ExecutorErrorCode.EXEC_RUN_UNKNOWN:
                await self._require_unclaimed(job.run_id)
                await job.audit_unrecorded()
            raise
        require_no_parent(ended.events[0])  # it is reported with that one
        if job.after_s > 0 and ended.events[-1].time > self.world.time() - job.after_s:
            raise just_ended(job.run_id, job.after_s)
        await job.begin()
        return ended

    async def _require_unclaimed(self, run_id: str) -> None:
        """Raises PipelineError while another process holds the stream of this run: it is about to
        begin the run, or it was and died so recently that its claim has not expired."""
        held = await self.journal.holder(run_id)
        if held is not None and held[0] != self._owner and held[1] > self.world.time():
            raise claimed(run_id, held[0])

    async def _recorded(self, run_id: str) -> PipelineResult:
        """The result of a run that has ended. Raises PipelineError for another."""
        found = outcome(await recorded(self.journal, run_id))
        if found.run_id != run_id:
            raise unknown(run_id, found.run_id)
        return found


def _files_of(ports: Ports) -> list[Path]:
    """Where ports store what programs of a run must not see."""
    kept = (ports.audit, ports.input_files, ports.palette)
    return [path for port in kept if isinstance(port, KeptInFiles) for path in port.files]


async def _within(scope: AbstractAsyncContextManager[None], run: Run) -> PipelineResult:
    async with scope:
        return await run.execute()


def _of_run(run_id: str, invocation: Invocation | None) -> Invocation:
    if run_id == "":
        raise ConfigError("run_id is empty", hint="Give the run_id of a RunResult.")
    asked = invocation or Invocation()
    check_invocation(asked)
    return replace(asked, run_id=run_id)


def _interrupted_result(job: Job, why: BaseException) -> RunResult:
    """The result of a run whose task was cancelled, or that was left with what is meant for the
    program."""
    ended = job.run.result if job.run is not None else None
    if ended is not None:
        return result_of(ended)
    if not isinstance(why, asyncio.CancelledError):
        return failed(job.run_id, why, again=job.again)
    return failed(job.run_id, RunCancelled("The run was cancelled before it began."))
