"""A live run: the engine, and what happens around it (heartbeat, inbox, snapshot).

Whether a run may begin is decided in `admission.py`, on which stream in `launcher.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from functools import partial
from typing import Final, Protocol

from lorimer.core import engine
from lorimer.core.bus import Tap
from lorimer.core.cancel import Cancellation, Reason
from lorimer.core.context import RunContext
from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON
from lorimer.core.mailbox import mail_of
from lorimer.core.plan import Plan
from lorimer.core.redaction import logger
from lorimer.core.result import PipelineResult
from lorimer.core.state import PipelineState
from lorimer.journal.conversation import Conversation
from lorimer.journal.heartbeat import Heartbeat

_log: Final = logger("lorimer.live")

_LEFT: Final = (Reason.SHUTDOWN, Reason.WAITING)
"""A run that stopped for one of these reasons is left to whoever resumes it."""


class RunOwner(Protocol):
    """The launcher of a run."""

    def run_ended(self, plan: Plan, context: RunContext) -> None:
        """The run has ended; may be called twice."""
        ...

    async def drop_conversation(self) -> None:
        """Stop keeping its conversation open."""
        ...


class Run:
    """A run about to begin: in the caller's own task, or in a task whose events are read. Unless
    its plan keeps a conversation, the stream is only its own, and is released afterwards."""

    __slots__ = ("_conversation", "_owner", "_input", "_plan", "context", "result")

    def __init__(
        self,
        owner: RunOwner,
        plan: Plan,
        context: RunContext,
        conversation: Conversation,
        input: JSON,
    ) -> None:
        self.context = context
        self._owner = owner
        self._plan = plan
        self._conversation = conversation
        self._input = input
        self.result: PipelineResult | None = None
        """The result; None: it has not ended. For callers that receive a CancelledError."""

    async def execute(self) -> PipelineResult:
        """Run it in this task. If the task is cancelled, or code of the host's raises what is meant
        for the program (KeyboardInterrupt), the run ends and journals that, then it is raised."""
        try:
            result = self.result = await self._live()
        finally:
            self._owner.run_ended(self._plan, self.context)
        await self.context.cancellation.raise_again()
        return result

    async def events(self, tap: Tap) -> AsyncGenerator[Event, None]:
        """Run it in a task of its own and yield its events. Leaving early ends the run, and waits
        until its last fact is written."""
        task = asyncio.get_running_loop().create_task(self._live(), name=self.context.id)

        def ended(_: object) -> None:  # also if it never got to begin, or failed
            self._owner.run_ended(self._plan, self.context)
            tap.put(None)

        task.add_done_callback(ended)
        try:
            while (event := await tap.get()) is not None:
                yield event
            await task
            if (error := self.context.cancellation.for_the_program) is not None:
                raise error
        finally:
            if not task.done():
                tap.abandon()
                self.context.cancel(Reason.CLOSED)
                with Cancellation.shielded():  # else a tool that waits here is closed before
                    while not task.done():
                        try:
                            await asyncio.wait([task])
                        except asyncio.CancelledError:
                            continue
            self._owner.run_ended(self._plan, self.context)

    async def _live(self) -> PipelineResult:
        context, conversation = self.context, self._conversation
        journal = context.journal
        heartbeat = None
        if journal.durable:
            heartbeat = Heartbeat(conversation, partial(context.cancel, Reason.FENCED))
        end = journal.watch(context.stream, partial(_posted, context))
        try:
            if context.replayed:
                # from now on it can be stopped, and waited for
                context.cancellation.enter(asyncio.get_running_loop())
                await mail_of(context).look_or_log()  # arrived while no process had the run
            elif journal.durable and conversation.seq:
                mail_of(context).look_soon()
            state = PipelineState(context, conversation.history, self._input)
            try:
                result = await engine.run(self._plan, state)
            except BaseException:  # it has recorded no end, which shows when it is opened again
                await self._let_go()
                raise
            conversation.add(context.facts[context.replayed :])
            if context.facts and not conversation.unfinished:
                conversation.sums.add(
                    context.facts[0].time,
                    context.facts[-1].time,
                    result.iterations,
                    result.cost_nano,
                )
            left = context.reason in _LEFT
            if left or context.cut_short or _lost_touch(result):
                await self._let_go()
            if context.snapshot_due:
                await _or_log(conversation.snapshot(context.facts))
            return result
        finally:
            end()
            try:
                if context.mail is not None:
                    await context.mail.close()
            finally:  # a cancelled task must not renew a claim forever
                if heartbeat is not None:
                    await heartbeat.stop()
            if not self._plan.converses:
                await _or_log(conversation.release())

    async def _let_go(self) -> None:
        """Release the conversation that is kept from run to run: whoever resumes the run need not
        wait."""
        if self._plan.converses:
            await self._owner.drop_conversation()
            await _or_log(self._conversation.release())


def _posted(context: RunContext) -> None:
    mail_of(context).look_soon()


async def _or_log(work: Coroutine[None, None, None]) -> None:
    """Await it and log its JournalError: a failure after a run's last fact does not change its
    result."""
    try:
        await work
    except JournalError as error:
        _log.warning("after the end of a run: %s", error)


def _lost_touch(result: PipelineResult) -> bool:
    """The store failed, but may have written what it was asked to."""
    return result.code is ExecutorErrorCode.EXEC_JOURNAL_FAILED
