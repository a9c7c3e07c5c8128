"""Resumes suspended runs when a message is posted to them. A waiting run costs an entry in a table,
not a task. Which messages there are: `core/mail.py`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from typing import Final

from lorimer.core.errors import ExecutorErrorCode, JournalError, LorimerError
from lorimer.core.journal import ALL_RUNS, Journal, RunRow, find
from lorimer.core.redaction import logger
from lorimer.core.result import Ended
from lorimer.journal.family import descendants, root_of
from lorimer.journal.recording import facts_of

_log: Final = logger("lorimer.attend")

_CONFLICT: Final = ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
_ELSEWHERE: Final = (ExecutorErrorCode.EXEC_RUN_BUSY, _CONFLICT)
"""Another process has the run, and receives the message too; or it had the run, and died."""
_LOOK_S: Final = 0.25
"""Seconds after which to check whether a run that was to stop has continued."""
AGAIN_S: Final = 5.0
"""Seconds after which a run that another process had is tried again, while a message for it
waits."""


class Attendant:
    """Resumes suspended and interrupted runs of a journal as soon as a message is sent to them.

        async with Attendant(journal, resume) as attendant:
            ...

    `resume` receives the id of a run and resumes it, as `pipeline.resume` of a stateless pipeline
    or `executor.resume` do; at most `at_once` are live at a time. On entering, all unfinished runs
    are looked up, and those with new messages are resumed; `add` adds a run that was suspended
    later, here or in another process. No run is resumed twice at once. A run that is suspended
    again, or could not be resumed, keeps waiting. A run that another process has is tried again
    every 5 s until that process has taken the message or its claim has expired.

    On leaving, what is live is cancelled, and so are its runs, permanently. With `shut_down`, such
    as `executor.shut_down`, that is called instead, until everything it suspends has stopped.
    """

    def __init__(
        self,
        journal: Journal,
        resume: Callable[[str], Awaitable[Ended]],
        *,
        at_once: int = 64,
        shut_down: Callable[[], object] | None = None,
    ) -> None:
        self._journal = journal
        self._resume = resume
        self._shut_down = shut_down
        self._open = False
        """Whether it was entered and is not being left."""
        self._slots = asyncio.Semaphore(at_once)
        self._waiting: dict[str, Callable[[], None]] = {}
        self._root_of: dict[str, str] = {}
        """Runs whose inbox is watched, each with the root of its tree, which a message resumes."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wake_again: set[str] = set()
        self._streams: dict[str, list[str]] = {}
        """For each waiting run, the watched inboxes of it and its descendants."""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        """Timers of runs that another process had when they were to be resumed."""
        self._context = copy_context()

    def __len__(self) -> int:
        """Number of waiting runs."""
        return len(self._waiting)

    async def __aenter__(self) -> Attendant:
        for row in await self._journal.runs(limit=ALL_RUNS, unfinished=True):
            await self._wait(row)  # includes children
        self._open = True
        for run_id in list(
            self._wake_again
        ):  # not earlier: what resumes them may want to call `add`
            self._wake_again.discard(run_id)
            self._wake(run_id)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._open = False
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        tasks = list(self._tasks.values())
        try:
            while self._shut_down is not None and not all(task.done() for task in tasks):
                self._shut_down()  # once more, for runs that were just about to continue
                await asyncio.wait(tasks, timeout=_LOOK_S)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            for end in self._waiting.values():
                end()
            self._waiting.clear()

    async def add(self, run: RunRow | str) -> None:
        """Wait for messages to a run, given by its row or its id, and to its descendants. Raises
        JournalError, and PipelineError if there is no such run."""
        row = run if isinstance(run, RunRow) else await find(self._journal, run, whole=True)
        await self._wait(row)
        await self._wait_below(row)

    async def _wait_below(self, row: RunRow) -> None:
        async for _, _, below in descendants(self._journal, await facts_of(self._journal, row)):
            if below is not None and not below.status:
                await self._wait(below)

    async def _wait(self, row: RunRow) -> None:
        """A child run is resumed with its root: a message to it resumes that."""
        root = await root_of(self._journal, row)
        if root.status or row.run_id in self._root_of:
            return
        self._root_of[row.run_id] = root.run_id
        self._streams.setdefault(root.run_id, []).append(row.stream)
        before = self._waiting.get(root.run_id)
        end = self._journal.watch(row.stream, lambda: self._wake(root.run_id))

        def all_ended() -> None:
            end()
            if before is not None:
                before()

        self._waiting[root.run_id] = all_ended
        if await self._journal.posts(row.stream):
            self._wake(root.run_id)

    def _wake(self, run_id: str) -> None:
        if run_id not in self._waiting:
            return
        if run_id in self._tasks or not self._open:
            self._wake_again.add(run_id)  # it may have arrived too late for the live run
            return
        self._begin(run_id, self._resume_run(run_id))

    def _begin(self, run_id: str, work: Coroutine[None, None, None]) -> None:
        # outside the context of the caller, whose child the run would become: see
        # `core/ancestry.py`
        loop = asyncio.get_running_loop()
        self._tasks[run_id] = loop.create_task(work, context=self._context.copy())

    async def _resume_run(self, run_id: str) -> None:
        ended = taken = False
        try:
            ended, taken = await self._resumed(run_id)
            if not ended and self._open:
                ended = await self._look_below(run_id)
        finally:
            self._leave(run_id, ended=ended, taken=taken)

    def _leave(self, run_id: str, *, ended: bool, taken: bool = False) -> None:
        """The task of a run is over."""
        del self._tasks[run_id]
        if ended:
            self._waiting.pop(run_id)()
            del self._streams[run_id]
            self._wake_again.discard(run_id)
            for each in [one for one, root in self._root_of.items() if root == run_id]:
                del self._root_of[each]
        elif run_id in self._wake_again and self._open:
            self._wake_again.discard(run_id)
            self._wake(run_id)
        elif taken and self._open and run_id not in self._timers:
            later = asyncio.get_running_loop().call_later
            self._timers[run_id] = later(AGAIN_S, self._try_again, run_id)

    async def _resumed(self, run_id: str) -> tuple[bool, bool]:
        """Resume the run, and return whether it has ended well, and whether another process has
        it."""
        try:
            async with self._slots:
                self._wake_again.discard(run_id)
                if not self._open:
                    return False, False
                result = await self._resume(run_id)
            # an executor also returns a result when it refuses: another may not be the run's end
            return result.success, result.code is _CONFLICT
        except LorimerError as error:
            level = logging.DEBUG if error.code in _ELSEWHERE else logging.WARNING
            _log.log(level, "run %s was not resumed: %s", run_id, error)
            return error.code is ExecutorErrorCode.EXEC_RUN_ENDED, error.code is _CONFLICT
        except Exception:  # noqa: BLE001 - the host's own: what it raises would be nobody's
            _log.warning("run %s was not resumed", run_id, exc_info=True)
            return False, False

    async def _look_below(self, run_id: str) -> bool:
        """Watch the inboxes of the child runs that it has begun since. Returns whether it has
        ended itself, however and in whichever process."""
        try:
            row = await self._journal.find_run(run_id)
            if row is None or row.status:
                return True
            await self._wait_below(row)
        except JournalError as error:
            _log.warning("child runs of %s are not waited for: %s", run_id, error)
        return False

    def _try_again(self, run_id: str) -> None:
        self._timers.pop(run_id, None)
        if run_id in self._waiting and run_id not in self._tasks:
            self._begin(run_id, self._resume_if_posted(run_id))

    async def _resume_if_posted(self, run_id: str) -> None:
        """Resume the run, if the message is still there: no other process has taken it. If one
        has, wait for messages to what the run has begun there, unless it has ended."""
        try:
            posted = [each for each in self._streams[run_id] if await self._journal.posts(each)]
        except JournalError as error:
            _log.warning("run %s was not resumed: %s", run_id, error)
            posted = []
        if posted:
            await self._resume_run(run_id)
            return
        ended = False
        try:
            ended = await self._look_below(run_id)
        finally:
            self._leave(run_id, ended=ended)
