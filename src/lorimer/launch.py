"""Starts runs and goes on with interrupted ones: each on the stream that it belongs to.

A pipeline that remembers has one conversation, and never two runs at once in it; any other gives
every run a stream of its own. What happens in a run is the engine's; how a stream is read is
`journal/conversation.py`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Final
from zlib import crc32

from lorimer.core import engine
from lorimer.core.bus import Bus, Listeners, Tap
from lorimer.core.cancel import Reason
from lorimer.core.context import RunContext
from lorimer.core.errors import ConfigError, ExecutorErrorCode, JournalError, PipelineError
from lorimer.core.events import Event
from lorimer.core.journal import Journal, LedgerEntry, RunRow
from lorimer.core.jsonable import JSON, canonical
from lorimer.core.limits import Bounds, Limits
from lorimer.core.mail import mail_of
from lorimer.core.plan import Plan
from lorimer.core.result import PipelineResult
from lorimer.core.state import PipelineState
from lorimer.core.world import World
from lorimer.journal.contract import RunFacts
from lorimer.journal.conversation import CLAIM_S, Conversation
from lorimer.journal.fork import history_after, open_fork
from lorimer.journal.projection import started_row
from lorimer.journal.pulse import Pulse
from lorimer.journal.recording import Recording, find, origin_of, used_s

_log: Final = logging.getLogger("lorimer.launch")

CLAIM_LOOK_S: Final = 0.25
"""Seconds between tries to take over a run whose owner may be dead."""

_LEFT: Final = (Reason.SHUTDOWN, Reason.WAITING)
"""A run that ended for one of these is left to whoever resumes it."""

_NOTHING: Final[Mapping[str, JSON]] = {}


class Launcher:
    """The runs of one pipeline. Owns its conversation; the journal belongs to the host."""

    def __init__(
        self,
        journal: Journal,
        world: World,
        bus: Bus,
        *,
        session_id: str,
        owner: str,
        claim_s: float = CLAIM_S,
    ) -> None:
        self.journal = journal
        self.world = world
        self.session_id = session_id
        """The stream of the conversation; "": none yet."""
        self._bus = bus
        self._owner = owner
        self._claim_s = claim_s
        self._conversation: Conversation | None = None
        self._busy = False
        self._live: set[RunContext] = set()
        self._resuming: set[str] = set()
        self._stored: dict[str, bytes] = {}

    @property
    def live(self) -> tuple[RunContext, ...]:
        """The runs that are going on."""
        return tuple(self._live)

    async def release(self) -> None:
        """Give the conversation back, unless a run is in it."""
        if self._conversation is not None and not self._busy:
            conversation, self._conversation = self._conversation, None
            try:
                await conversation.release()
            except JournalError:
                return  # the journal was closed before: the claim runs out by itself

    async def start(self, plan: Plan, input: JSON, limits: Limits, tap: Tap | None) -> Run:
        """Begin a run. Raises PipelineError when the conversation is in one, or has one that is
        unfinished, and when the input cannot be recorded."""
        _must_be_plain(input)
        shared = plan.converses
        if shared and self._busy:
            raise _in_a_run()
        self._busy = self._busy or shared
        try:
            run_id = self.world.new_id("run")
            conversation = await self._open(shared, run_id)
            await self._store(plan)
            context = self._context(run_id, conversation, limits, tap)
            return self._launch(plan, context, conversation, input, shared)
        except BaseException:
            self._busy = self._busy and not shared
            raise

    async def fork(
        self, plan: Plan, parent: Recording, after: int, input: JSON, limits: Limits
    ) -> Run:
        """Begin a run on a new stream, which goes on after so many turns of another. The pipeline's
        conversation, if it has one, is the new one from then on. Raises PipelineError as `start`
        does, when the parent has not so many turns, and when there is nothing to go on from."""
        _must_be_plain(input)
        messages = history_after(parent, after, prompted=input is not None)
        shared = plan.converses
        if shared and self._busy:
            raise _in_a_run()
        self._busy = self._busy or shared
        try:
            await self.release()
            run_id = self.world.new_id("run")
            stream = self.world.new_id("session") if shared else run_id
            left: JSON = {"run": parent.run_id, "iteration": after - 1}
            origin: dict[str, JSON] = {"parent": left}
            conversation = await open_fork(
                self.journal, stream, self._owner, self.world, messages, left, self._claim_s
            )
            await self._store(plan)
            if shared:
                self._conversation, self.session_id = conversation, stream
            if input is None:
                origin["title"] = started_row("", 0, parent.facts[0]).title
            context = self._context(run_id, conversation, limits, None, origin)
            return self._launch(plan, context, conversation, input, shared)
        except BaseException:
            self._busy = self._busy and not shared
            raise

    def _context(
        self,
        run_id: str,
        conversation: Conversation,
        limits: Limits,
        tap: Tap | None,
        origin: Mapping[str, JSON] = _NOTHING,
    ) -> RunContext:
        """Of a new run."""
        return RunContext(
            id=run_id,
            stream=conversation.stream,
            epoch=conversation.epoch,
            seed=crc32(run_id.encode()),
            world=self.world,
            journal=self.journal,
            bounds=Bounds(limits, self.world.monotonic()),
            listeners=Listeners(self._bus, tap),
            position=conversation.seq,
            snapshot_at=conversation.snapshot_at,
            origin=origin,
            holds=conversation.check if self.journal.durable else None,
        )

    async def resume(self, plan: Plan, run_id: str, tap: Tap | None, *, wait_s: float) -> Run:
        """Go on with an interrupted run. Raises PipelineError when there is no such run, or it
        has ended, or goes on already; ConfigError when another manifest began it; JournalError
        when after `wait_s` seconds another owner's claim is still in force."""
        row = await self._interrupted(run_id)
        shared = plan.converses
        if (shared and self._busy) or row.run_id in self._resuming:
            raise PipelineError(
                f"This pipeline is already running {row.run_id}, or its conversation.",
                code=ExecutorErrorCode.EXEC_RUN_BUSY,
            )
        self._busy = self._busy or shared
        self._resuming.add(row.run_id)
        try:
            return await self._reopened(row, plan, tap, wait_s)
        except BaseException:
            self._busy = self._busy and not shared
            self._resuming.discard(row.run_id)
            raise

    async def abandon(self, run_id: str) -> None:
        """Give an interrupted run up: it ends as cancelled, and its conversation is free. Raises
        PipelineError as `resume` does."""
        row = await self._interrupted(run_id)
        conversation = await self._claimed(row, 0.0)
        facts = conversation.unfinished
        told = RunFacts.of(facts)
        end: dict[str, JSON] = {
            "status": "cancelled",
            "code": ExecutorErrorCode.EXEC_RUN_CANCELLED.value,
            "message": "It was interrupted, and given up.",
            "usage": told.tokens,
            "cost": told.cost_nano,
            "iterations": told.turns,
        }
        left = await self.journal.balance(row.run_id)
        fact = Event("run.end", end, row.run_id, facts[-1].iteration, self.world.time())
        await self.journal.append(
            row.stream,
            conversation.epoch,
            [fact],
            sync=True,
            ledger=LedgerEntry(row.run_id, reserved=-left.reserved) if left.reserved else None,
        )
        await conversation.release()
        if self._conversation is not None and self._conversation.stream == row.stream:
            self._conversation = None

    async def _interrupted(self, run_id: str) -> RunRow:
        row = await find(self.journal, run_id)
        if row.status:
            raise PipelineError(
                f"Run {row.run_id} has ended ({row.status}); there is nothing to resume.",
                code=ExecutorErrorCode.EXEC_RUN_ENDED,
            )
        return row

    async def _claimed(self, row: RunRow, wait_s: float) -> Conversation:
        """The stream of an interrupted run, opened."""
        await self.release()
        until = self.world.monotonic() + wait_s
        while True:
            try:
                conversation = await self._claim(row.stream)
                break
            except JournalError as error:
                taken = error.code is ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
                if not taken or self.world.monotonic() >= until:
                    raise
            await self.world.sleep(CLAIM_LOOK_S)
        facts = conversation.unfinished
        if not facts or facts[0].run_id != row.run_id:
            await conversation.release()
            await self._interrupted(row.run_id)  # or somebody was quicker
            raise PipelineError(
                f"Run {row.run_id} has ended meanwhile, or was given up: its conversation has "
                "gone on without it.",
                code=ExecutorErrorCode.EXEC_RUN_ENDED,
            )
        return conversation

    async def _reopened(self, row: RunRow, plan: Plan, tap: Tap | None, wait_s: float) -> Run:
        conversation = await self._claimed(row, wait_s)
        facts = conversation.unfinished
        start = facts[0].data
        if start.get("manifest") != plan.digest:
            await conversation.release()
            raise ConfigError(
                f"Run {row.run_id} was begun with another manifest than this pipeline's.",
                code=ExecutorErrorCode.EXEC_JOURNAL_DIVERGED,
                hint=f"lorimer runs resume {row.run_id} uses the one it was begun with.",
            )
        given = start.get("limits")
        limits = Limits.from_json(given) if isinstance(given, Mapping) else plan.limits
        used = used_s(facts)
        seed = start.get("seed")
        context = RunContext(
            id=row.run_id,
            stream=conversation.stream,
            epoch=conversation.epoch,
            seed=seed if isinstance(seed, int) else 0,
            world=self.world,
            journal=self.journal,
            bounds=Bounds(limits, self.world.monotonic() - used),
            listeners=Listeners(self._bus, tap),
            recorded=facts,
            used_s=used,
            origin=origin_of(facts[0]),
            position=conversation.seq,
            snapshot_at=conversation.snapshot_at,
            holds=conversation.check if self.journal.durable else None,
        )
        if plan.converses:
            self._conversation, self.session_id = conversation, conversation.stream
        return self._launch(plan, context, conversation, start.get("input"), plan.converses)

    def _launch(
        self,
        plan: Plan,
        context: RunContext,
        conversation: Conversation,
        input: JSON,
        shared: bool,
    ) -> Run:
        self._live.add(context)

        def lost() -> None:
            context.cancel(Reason.FENCED)

        async def main() -> PipelineResult:
            pulse = Pulse(conversation, lost) if self.journal.durable else None
            end = self.journal.watch(context.stream, lambda: mail_of(context).look_soon())
            try:
                if context.replayed:
                    await mail_of(context).look_or_log()  # what came while nobody was here
                elif self.journal.durable and conversation.seq:
                    mail_of(context).look_soon()
                result = await engine.run(plan, PipelineState(context, conversation.history, input))
                conversation.add(context.facts[context.replayed :])
                left = context.reason in _LEFT
                if shared and (left or context.cut_short or _lost_touch(result)):
                    # more may be recorded than was seen of it, and whoever resumes it need not wait
                    self._conversation = None
                    await _or_log(conversation.release())
                if context.snapshot_due:
                    await _or_log(conversation.snapshot(context.facts))
                return result
            finally:
                end()
                try:
                    if context.mail is not None:
                        await context.mail.close()
                finally:  # whoever is cancelled now prolongs no claim for ever
                    if pulse is not None:
                        await pulse.stop()
                if not shared:
                    await _or_log(conversation.release())

        def over() -> None:
            if context in self._live:
                self._live.remove(context)
                self._resuming.discard(context.id)
                self._busy = self._busy and not shared

        return Run(context, main, over)

    async def _open(self, shared: bool, run_id: str) -> Conversation:
        if not shared:
            return await self._claim(run_id)
        if self._conversation is None:
            self.session_id = self.session_id or self.world.new_id("session")
            self._conversation = await self._claim(self.session_id)
        else:
            conversation, self._conversation = self._conversation, None
            await conversation.renew()  # when it was lost it is opened anew the next time
            self._conversation = conversation
        if self._conversation.unfinished:
            unfinished = self._conversation.unfinished[0].run_id
            conversation, self._conversation = self._conversation, None
            await conversation.release()  # whoever resumes it need not wait
            raise PipelineError(
                f"This conversation has an unfinished run, {unfinished}.",
                code=ExecutorErrorCode.EXEC_RUN_BUSY,
                hint=f"Resume it first (lorimer runs resume {unfinished}), or give it up: "
                f"pipeline.abandon({unfinished!r}).",
            )
        return self._conversation

    async def _claim(self, stream: str) -> Conversation:
        return await Conversation.open(self.journal, stream, self._owner, self.world, self._claim_s)

    async def _store(self, plan: Plan) -> None:
        # before each run: since the last one, a sweep may have found it named by none
        body = self._stored.get(plan.digest)
        if body is None:
            body = self._stored[plan.digest] = plan.manifest.to_bytes()
        await self.journal.put(plan.digest, body)


async def _or_log(work: Coroutine[None, None, None]) -> None:
    """What comes after a run's last fact cannot make its result another."""
    try:
        await work
    except JournalError as error:
        _log.warning("after the end of a run: %s", error)


def _lost_touch(result: PipelineResult) -> bool:
    """The store failed: what it was asked to write may be there all the same."""
    return result.code is ExecutorErrorCode.EXEC_JOURNAL_FAILED


class Run:
    """A run about to begin: in the caller's own task, or in one whose events are read."""

    __slots__ = ("_main", "_over", "context")

    def __init__(
        self,
        context: RunContext,
        main: Callable[[], Coroutine[None, None, PipelineResult]],
        over: Callable[[], None],
    ) -> None:
        self.context = context
        self._main = main
        self._over = over

    async def here(self) -> PipelineResult:
        """Run it in this task. When the task is cancelled, the run ends, journals that, and
        CancelledError is raised."""
        try:
            result = await self._main()
        finally:
            self._over()
        interrupted = self.context.cancellation.interrupted
        if interrupted is not None:
            raise interrupted
        return result

    async def events(self, tap: Tap) -> AsyncGenerator[Event, None]:
        """Run it in a task of its own and yield what happens. Leaving early ends the run, and
        waits until its last fact is written."""
        task = asyncio.get_running_loop().create_task(self._main(), name=self.context.id)

        def ended(_: object) -> None:  # also when it never got to begin, or failed
            self._over()
            tap.put(None)

        task.add_done_callback(ended)
        try:
            while (event := await tap.get()) is not None:
                yield event
            await task
        finally:
            if not task.done():
                tap.abandon()
                self.context.cancel(Reason.CLOSED)
                while not task.done():
                    try:
                        await asyncio.wait([task])
                    except asyncio.CancelledError:
                        continue
            self._over()


def _in_a_run() -> PipelineError:
    return PipelineError(
        "This conversation is already in a run.",
        code=ExecutorErrorCode.EXEC_RUN_BUSY,
        hint="Wait for it, or use a pipeline or session of its own for a second one.",
    )


def _must_be_plain(input: JSON) -> None:
    if isinstance(input, str):
        return
    try:
        canonical(input)
    except (TypeError, ValueError, RecursionError) as error:
        raise PipelineError(
            f"The input cannot be recorded: {error}.",
            code=ExecutorErrorCode.EXEC_INPUT_INVALID,
            hint="Give text, or a mapping of plain data.",
        ) from None
