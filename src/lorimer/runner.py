"""Begins, goes on with, reads and stops runs: what a pipeline and each of its sessions can."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from lorimer.assembly import SomeLimits, limits_of
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
    """What runs a plan. Never two runs at once in a conversation."""

    _launcher: Launcher
    _models: ModelResolver
    _name_in_code: str
    """What a person calls it in code, for hints."""

    @property
    @abstractmethod
    def plan(self) -> Plan:
        """What runs."""

    @abstractmethod
    def plan_of(self, digest: str) -> Plan:
        """The plan of the manifest of this hash, where that was this pipeline's; else the present
        one."""

    @property
    @abstractmethod
    def catalogue(self) -> Catalogue:
        """What the names of its stages and strategies mean."""

    @property
    @abstractmethod
    def has_changed(self) -> bool:
        """Its manifest is another than it was made with."""

    @property
    def journal(self) -> Journal:
        """Where the runs are kept."""
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
        """Run to the end. `limits` hold for this run: a mapping changes some of the manifest's
        (`{"max_cost_usd": 0.5}`), Limits replace them all. `budgets` are shared accounts that it
        and its sub-agents are charged to, besides (see docs/kernel.md). When a process that died
        has the conversation, its claim has to run out first: `wait_s` is how many seconds to wait
        for that at most, and then JournalError says who has it, and until when.

        Raises the typed error when the run did not end well; it carries the partial `result`.
        With `raise_on_error=False` the result is returned either way. Cancelling the caller
        ends the run, journals that, and then raises CancelledError.
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
        whose `result` is the result. A slow reader slows the run. Leaving the loop
        early ends the run and its spending."""
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
        """Go on with a run that was interrupted: what its journal holds is not done again. When
        its owner died without giving it back, the claim has to run out first: `wait_s` is how
        many seconds to wait for that at most.

        `decision` answers what it waits for first, as `core.mail.answer` does: True or False, or a
        text to a question of a tool; `question` says to which, where there are several.

        Raises PipelineError when there is no such run or it has ended, ConfigError when this
        pipeline is not the one that began it, JournalError when another process has it.
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
        """`resume`, yielding the events of what is new."""
        tap = Tap()
        plan = await self._plan_that_began(run_id)
        run = await self._launcher.resume(plan, run_id, tap, wait_s=wait_s)
        async with aclosing(run.events(tap)) as events:
            async for event in events:
                yield event

    async def result(self, run_id: str) -> PipelineResult:
        """What an ended run gave, as its facts tell it, whichever process and pipeline ran it:
        all that `run` returned. `run_id` may be the beginning of one. Of `output` only plain data
        is kept (else it is None), and of the error its class, code and message. Never raises that
        error. Costs about 10 us a fact.

        Raises PipelineError, with what to do about it, when there is no such run
        (`exec.run.unknown`), when it waits for an answer (`exec.run.waiting`), was suspended
        (`exec.run.shutdown`), or is unfinished (`exec.run.busy`).
        """
        return outcome(await recorded(self.journal, run_id))

    def result_sync(self, run_id: str) -> PipelineResult:
        """`result` for programs without an event loop. Raises PipelineError inside of one."""
        return self._sync("result", self.result(run_id))

    async def replay(self, run: str | Recording) -> Replayed:
        """Run a recorded run again from its facts alone: no model and no tool is called, nothing
        is written. Says the first thing that this pipeline would do otherwise than is recorded.

        A run that was begun before this pipeline's manifest was changed is run again with the
        manifest that it began with.

        `run` is an id, or the beginning of one, in this pipeline's journal; or what `read_export`
        gave. The run may be unfinished: then it is replayed as far as it is recorded. Raises
        PipelineError when there is no such run.
        """
        from lorimer.journal.replay import replay

        recording = await recorded(self.journal, run) if isinstance(run, str) else run
        return await replay(self.plan_of(recording.digest), recording, self._launcher.redactor)

    async def explain(self, run: str | Recording) -> list[Explanation]:
        """Why a recorded run went as it did: its decisions in order, each with a reason and with
        the path of the manifest, the rule, the limit or the person that made it. `run` is as in
        `replay`, and may be any agent's; it may be unfinished. Nothing is called or written.

        Costs about 40 us a fact. Raises PipelineError when there is no such run.
        """
        from lorimer.journal.explain import explain

        recording = await recorded(self.journal, run) if isinstance(run, str) else run
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
        """Go on from the middle of a run, with this pipeline, in a conversation of its own: with
        all that was said until the run's turn number `after` (from 1), results of calls included,
        and nothing of it done again. The run itself stays as it is.

        With an `input`, that comes next; without one, this pipeline's model is asked in place of
        the one that was asked then. `run` is as in `replay`; `budgets` as in `run`, by default
        those of the other run. Raises PipelineError when there is no
        such run, when it has not so many turns, or when turn `after` is an answer and there is no
        input.
        """
        parent = await recorded(self.journal, run) if isinstance(run, str) else run
        forked = await self._launcher.fork(
            lambda: self.plan, parent, after, input, limits_of(limits, self.plan.limits), budgets
        )
        return _outcome(await forked.execute(), raise_on_error)

    async def snapshot(self) -> Snapshot:
        """What it is now: its manifest, and where its conversation is in the journal. Of a live run
        also what is recorded so far. `Pipeline.restore` is the reverse. Raises JournalError."""
        manifest = self.plan.manifest.model_copy(deep=True)
        return Snapshot(manifest, *await self._launcher.position())

    async def abandon(self, run_id: str, *, wait_s: float = 0.0) -> None:
        """Give an interrupted run up: it ends as cancelled, and its conversation can go on
        without it. `wait_s` is as in `resume`. Raises PipelineError when there is no such run, or
        it has ended, JournalError when another process has it."""
        await self._launcher.abandon(run_id, wait_s=wait_s)

    def cancel(self, reason: Reason = Reason.CALLER) -> bool:
        """Stop what is running here, from whatever thread. The run ends as cancelled; with
        Reason.SHUTDOWN it is suspended, and can be resumed. Returns whether there was one."""
        live = self._launcher.live
        for context in live:
            context.cancellation.in_its_loop(partial(context.cancel, reason))
        return bool(live)

    def shut_down(self, within_s: float = 10.0) -> bool:
        """Suspend what is running here: it begins nothing new, calls of tools under way
        that change something have `within_s` seconds to end, and `resume` goes on later. From
        whatever thread. Returns whether there was one."""
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
        whoever drives runs, such as an executor; `invocation` is recorded in its run.start (see
        `core.events.Invoked`). It has to be run. Raises as `Launcher.start` does."""
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
        """As `begin`, of a run that was interrupted. Raises as `resume` does."""
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
