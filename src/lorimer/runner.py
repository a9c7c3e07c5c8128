"""Starts, resumes, reads and stops runs: what a pipeline and each of its sessions can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from lorimer.assembly import SomeLimits, limits_of
from lorimer.core.arguments import is_a, wrong
from lorimer.core.bus import Tap
from lorimer.core.cancel import Reason
from lorimer.core.events import Event
from lorimer.core.journal import Journal, find
from lorimer.core.jsonable import JSON
from lorimer.core.mail import answer
from lorimer.core.model import ModelResolver
from lorimer.core.own_loop import in_own_loop
from lorimer.core.plan import Plan
from lorimer.core.purse import Budgets
from lorimer.core.result import PipelineResult
from lorimer.core.snapshot import Snapshot
from lorimer.journal.outcome import outcome
from lorimer.journal.recording import Recording, recorded
from lorimer.launch.launcher import Launcher
from lorimer.launch.live import Run

if TYPE_CHECKING:
    from lorimer.core.catalogue import Catalogue
    from lorimer.journal.explain import Explanation
    from lorimer.journal.replay import Replayed

T = TypeVar("T")


class Runner(ABC):
    """Runs a plan. Two runs are never live at once in a conversation."""

    _launcher: Launcher
    _models: ModelResolver
    _name_in_code: str
    """The name of the object in code, for hints."""

    @property
    @abstractmethod
    def plan(self) -> Plan:
        """The plan that runs."""

    @abstractmethod
    def plan_of(self, digest: str) -> Plan:
        """The plan of this pipeline's manifest with this hash; else the current plan."""

    @property
    @abstractmethod
    def catalogue(self) -> Catalogue:
        """The stages and strategies that the manifest can name."""

    @property
    @abstractmethod
    def has_changed(self) -> bool:
        """Whether its manifest has changed since it was made."""

    @property
    def journal(self) -> Journal:
        """Where the runs are stored."""
        return self._launcher.journal

    async def run(
        self,
        input: JSON,
        *,
        limits: SomeLimits | None = None,
        budgets: Budgets = (),
        wait_s: float = 0.0,
        raise_on_error: bool = True,
    ) -> PipelineResult:
        """Run to the end. `limits` apply to this run: a mapping changes some of the manifest's
        limits (`{"max_cost_usd": 0.5}`), Limits replace all. `budgets` are further shared accounts
        that the run and its sub-agents are charged to (see docs/kernel.md). If a process that died
        holds the conversation, its claim has to expire first: `wait_s` is how many seconds to wait
        for that at most; then JournalError names the owner and until when the claim holds.

        Raises the typed error when the run did not end normally, with the partial `result`. With
        `raise_on_error=False` the result is returned in any case. Cancelling the caller ends the
        run, journals that, and then raises CancelledError.
        """
        run = await self._start(input, limits, None, budgets, wait_s)
        return _outcome(await run.execute(), raise_on_error)

    def run_sync(
        self,
        input: JSON,
        *,
        limits: SomeLimits | None = None,
        budgets: Budgets = (),
        wait_s: float = 0.0,
        raise_on_error: bool = True,
    ) -> PipelineResult:
        """`run` for programs without an event loop. Raises PipelineError inside of one."""
        run = self.run(
            input, limits=limits, budgets=budgets, wait_s=wait_s, raise_on_error=raise_on_error
        )
        return self._sync("run", run)

    async def run_stream(
        self,
        input: JSON,
        *,
        limits: SomeLimits | None = None,
        budgets: Budgets = (),
        wait_s: float = 0.0,
    ) -> AsyncGenerator[Event, None]:
        """`run`, yielding every event; the last one is `pipeline.complete` or `pipeline.error`,
        whose `result` is the result. A slow reader slows the run. Leaving the loop early ends the
        run and its spending."""
        tap = Tap()
        run = await self._start(input, limits, tap, budgets, wait_s)
        async with aclosing(run.events(tap)) as events:
            async for event in events:
                yield event

    async def resume(
        self,
        run_id: str,
        decision: bool | str | None = None,
        *,
        question: str = "",
        wait_s: float = 0.0,
        raise_on_error: bool = True,
    ) -> PipelineResult:
        """Resume an interrupted run: what its journal contains is not done again. If its owner
        died, the claim has to expire first: `wait_s` is how many seconds to wait for that at most.

        `decision` first answers the question it waits for, as `core.mail.answer` does: True or
        False, or a text for a question of a tool; `question` selects one if there are several.

        Raises PipelineError when there is no such run or it has ended, ConfigError when it was
        begun by a different pipeline, JournalError when another process has it.
        """
        if decision is not None:
            run_id = (await find(self.journal, run_id)).run_id
            await answer(self.journal, run_id, decision, question=question)
        plan = await self._plan_that_began(run_id)
        run = await self._launcher.resume(plan, run_id, None, wait_s=wait_s)
        return _outcome(await run.execute(), raise_on_error)

    async def resume_stream(
        self, run_id: str, *, wait_s: float = 0.0
    ) -> AsyncGenerator[Event, None]:
        """`resume`, yielding only new events."""
        tap = Tap()
        plan = await self._plan_that_began(run_id)
        run = await self._launcher.resume(plan, run_id, tap, wait_s=wait_s)
        async with aclosing(run.events(tap)) as events:
            async for event in events:
                yield event

    async def result(self, run_id: str) -> PipelineResult:
        """The result of an ended run, from its facts, whichever process and pipeline ran it:
        everything that `run` returned. `run_id` may be the unique beginning of an id. Of `output`
        only plain data is stored (otherwise it is None), and of the error its class, code and
        message. Never raises that error. Takes about 10 us per fact.

        Raises PipelineError, saying what to do about it, when there is no such run
        (`exec.run.unknown`), or it waits for an answer (`exec.run.waiting`), was suspended
        (`exec.run.shutdown`), or is unfinished (`exec.run.busy`).
        """
        return outcome(await recorded(self.journal, run_id))

    def result_sync(self, run_id: str) -> PipelineResult:
        """`result` for programs without an event loop. Raises PipelineError inside of one."""
        return self._sync("result", self.result(run_id))

    async def replay(self, run: str | Recording) -> Replayed:
        """Replay a recorded run from its facts alone: no model and no tool is called, and nothing
        is written. Reports the first thing that this pipeline would do differently.

        A run that was begun before this pipeline's manifest was changed is replayed with the
        manifest that it began with.

        `run` is an id, or the unique beginning of one, in this pipeline's journal; or a run from
        `read_export`. An unfinished run is replayed as far as it is recorded. Raises PipelineError
        when there is no such run.
        """
        from lorimer.journal.replay import replay

        recording = await self._recording(run)
        return await replay(self.plan_of(recording.digest), recording, self._launcher.redactor)

    async def explain(self, run: str | Recording) -> list[Explanation]:
        """Why a recorded run took its course: its decisions in order, each with a reason and with
        the manifest path, rule, limit or person responsible. `run` is as in `replay`, and may be
        any agent's; it may be unfinished. Nothing is called or written.

        Takes about 40 us per fact. Raises PipelineError when there is no such run.
        """
        from lorimer.journal.explain import explain

        recording = await self._recording(run)
        return explain(recording, self.catalogue)

    async def fork(
        self,
        run: str | Recording,
        *,
        after: int,
        input: JSON = None,
        limits: SomeLimits | None = None,
        budgets: Budgets | None = None,
        raise_on_error: bool = True,
    ) -> PipelineResult:
        """Continue from the middle of a run, with this pipeline, in a new conversation: with
        everything said up to the run's turn number `after` (from 1), including results of calls,
        none of which is repeated. The run itself is not changed.

        `input` comes next; without it, this pipeline's model is called in place of the model that
        was called then. `run` is as in `replay`; `budgets` as in `run`, by default those of the
        other run. Raises PipelineError when there is no such run, when it has fewer turns, or when
        turn `after` is an answer and there is no input.
        """
        parent = await self._recording(run)
        forked = await self._launcher.fork(
            lambda: self.plan, parent, after, input, limits_of(limits, self.plan.limits), budgets
        )
        return _outcome(await forked.execute(), raise_on_error)

    async def snapshot(self) -> Snapshot:
        """The current state: the manifest, and the position of the conversation in the journal,
        including what a live run has recorded so far. `Pipeline.restore` is the reverse. Raises
        JournalError."""
        manifest = self.plan.manifest.model_copy(deep=True)
        return Snapshot(manifest, *await self._launcher.position())

    async def abandon(self, run_id: str, *, wait_s: float = 0.0) -> None:
        """Abandon an interrupted run: it ends as cancelled, and its conversation can continue
        without it. `wait_s` is as in `resume`. Raises PipelineError when there is no such run or it
        has ended, JournalError when another process has it."""
        await self._launcher.abandon(run_id, wait_s=wait_s)

    def cancel(self, reason: Reason = Reason.CALLER) -> bool:
        """Stop what is running here, from any thread. The run ends as cancelled; with
        Reason.SHUTDOWN it is suspended, and can be resumed. Returns whether there was one."""
        if not is_a(reason, Reason):
            raise wrong("reason", reason, "a Reason", "pipeline.cancel(Reason.SHUTDOWN)")
        live = self._launcher.live
        for context in live:
            context.cancellation.in_its_loop(partial(context.cancel, reason))
        return bool(live)

    def shut_down(self, within_s: float = 10.0) -> bool:
        """Suspend what is running here: it begins nothing new, tool calls in progress that change
        something have `within_s` seconds to finish, and `resume` continues it later. From any
        thread. Returns whether there was one."""
        live = self._launcher.live
        for context in live:
            context.cancellation.in_its_loop(partial(context.drain, within_s))
        return bool(live)

    # --- inside --------------------------------------------------------------------------

    def begin(
        self,
        input: JSON,
        *,
        limits: SomeLimits | None = None,
        budgets: Budgets = (),
        run_id: str = "",
        invocation: Mapping[str, JSON] | None = None,
    ) -> Awaitable[Run]:
        """A run that is about to begin: `await run.execute()` runs it, `run.context` stops it. For
        code that drives runs, such as an executor; `invocation` is recorded in its run.start (see
        `core.events.Invoked`). It has to be executed. Raises as `Launcher.start` does."""
        return self._launcher.start(
            lambda: self.plan,
            input,
            limits_of(limits, self.plan.limits),
            None,
            wait_s=0.0,
            budgets=budgets,
            run_id=run_id,
            invocation=invocation or {},
        )

    async def begin_resumed(self, run_id: str) -> Run:
        """As `begin`, for an interrupted run. Raises as `resume` does."""
        plan = await self._plan_that_began(run_id)
        return await self._launcher.resume(plan, run_id, None, wait_s=0.0)

    def _start(
        self,
        input: JSON,
        limits: SomeLimits | None,
        tap: Tap | None,
        budgets: Budgets,
        wait_s: float,
    ) -> Awaitable[Run]:
        within = limits_of(limits, self.plan.limits)
        return self._launcher.start(
            lambda: self.plan, input, within, tap, wait_s=wait_s, budgets=budgets
        )

    async def _recording(self, run: str | Recording) -> Recording:
        return run if isinstance(run, Recording) else await recorded(self.journal, run)

    async def _plan_that_began(self, run_id: str) -> Plan:
        if not self.has_changed:
            return self.plan
        row = await find(self.journal, run_id)
        async with aclosing(self.journal.read(row.stream, row.first - 1)) as facts:
            async for start in facts:
                return self.plan_of(str(start.data.get("manifest")))
        return self.plan

    def _sync(self, name: str, work: Coroutine[object, None, T]) -> T:
        return in_own_loop(f"{self._name_in_code}.{name}", work, self._models)


def _outcome(result: PipelineResult, raise_on_error: bool) -> PipelineResult:
    if raise_on_error and result.exception is not None:
        raise result.exception
    return result
