"""Who commits to a journal file when: the caller in line, or the thread that syncs it.

Who decides what: this file decides when a transaction is made, by which thread and how durable;
`transactions.py` makes it; what is in it is said by `sqlite.py`.

*Visible* is a commit with synchronous=NORMAL: in the write-ahead log (WAL), not fsynced, so it
survives the process but not a loss of power. Every commit is made like that, on the caller's
thread unless something is in the way: a lock of another process, or a WAL to be begun anew.
One that is to be *synced* is followed by an fsync of the WAL file, made by the writer thread for
all that wait for one, while others go on committing: nobody's commit in line waits for an fsync.
It covers the commit and every one before it, of any process, because those stand earlier in the
same file. Those of an earlier WAL were fsynced when it was checkpointed into the database, which
NORMAL does too, before the file is begun again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from lorimer.core.world import World
from lorimer.journal.database import Database
from lorimer.journal.projection import refuse_closed
from lorimer.journal.transactions import Transactions
from lorimer.journal.work import Job, Work, deliver

T = TypeVar("T")

MOST_OVERDUE: Final = 1000
"""WAL pages that may be written in line after a checkpoint was due."""
IDLE_S: Final = 2.0
"""Seconds without work after which the thread ends; the next synced commit starts another. So a
journal that nobody closed cannot keep the interpreter from exiting."""

THREAD_NAME: Final = "lorimer-journal"


class Writer:
    """Runs jobs in transactions, in the order of their submission. Owns the thread.

    `forget`: see Transactions. With `threads=False` all is done in line by the caller.
    """

    def __init__(
        self,
        path: str,
        *,
        world: World,
        threads: bool,
        vfs: str | None,
        forget: Callable[[], None],
    ) -> None:
        self._file = Transactions(path, vfs, forget)
        self._world = world
        self._threads = threads
        self._gate = Lock()
        """Guards the thread's life; never held for long."""
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._held: list[Work] = []
        """What waits for the loop's next iteration."""
        self._waiting: Counter[str | None] = Counter()
        """Of each stream, how many parts nobody was told of yet. Those behind another one are told
        by the thread, in order."""
        self._turn: str | None = None
        """The stream that commits at once in this iteration of the loop."""
        self._queued: list[Work] = []
        """What the thread is to commit; touched by the loop's thread only."""
        self._asked = False
        """The thread was asked for the checkpoint that is due."""
        self._closed = False

    async def submit(
        self,
        run: Callable[[Database], T],
        *,
        sync: bool,
        stream: str | None,
        urgent: bool = False,
        committed: Callable[[T], None] | None = None,
    ) -> T:
        """Commit what `run` does, call `committed` with what it returned, return that.

        Committed on the calling thread (about 20 us, no fsync, no waiting for a lock) when it is
        of a `stream` and nothing is in the way; else by the writer thread. At once, as long as in
        this iteration of the loop only one stream commits what is to be visible, or when it is
        `urgent`; what others commit, and what is to be synced, is held until the next iteration
        or commit, to become one transaction with it. The parts of a stream are told in the order
        in which they came, so the task of one that is visible may wait for the fsync of the one
        before it. A task that is cancelled meanwhile gets its CancelledError once the outcome is
        known, and after `committed` when it was a commit.
        """
        job = Job(run, sync, stream)
        if not self._threads:
            if self._closed:
                raise refuse_closed()
            self._file.settle([job])
            self._file.sync([job])
            self._file.checkpoint_if_due()
        elif not self._at_once(job, urgent):
            await self._outcome(job, committed)
            return job.result
        if job.error is not None:
            raise job.error
        if committed is not None:
            committed(job.result)
        return job.result

    async def open(self) -> None:
        """Make sure that the file exists and is open. Raises JournalError."""
        if not self._file.is_open:
            await self.submit(_nothing, sync=False, stream=None)

    async def close(self) -> None:
        """Commit what is queued, end the thread, close the file. Twice is fine."""
        self._commit_in_line()
        self._closed = True
        if self._threads:
            with self._world.outside("journal thread"), anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._shut)
        else:
            self._shut()

    # -- in line ---------------------------------------------------------------------------------

    def _at_once(self, job: Job[T], urgent: bool) -> bool:
        """Commit it here and now. False: it could not be, or may not be told yet."""
        if (
            job.sync
            or job.stream is None
            or not (urgent or self._turn in (None, job.stream))
            or not self._commit_in_line(job)
        ):
            return False
        if self._turn is None:
            self._turn = job.stream
            asyncio.get_running_loop().call_soon(self._end_turn)
        return job.stream not in self._waiting

    def _commit_in_line(self, *jobs: Work) -> bool:
        """Commit what is held, and these. False: not these, they must be queued."""
        held, self._held = self._held, []
        if not held and not jobs:
            return True
        done = self._settle_at_once([*held, *jobs])
        told: list[Work] = []
        for job in held:
            known = job.over and not (job.committed and job.sync)
            if known and self._waiting[job.stream] == 1:
                told.append(job)
            else:
                self._enqueue(job)
        deliver(told)
        return done

    def _end_turn(self) -> None:
        self._turn = None
        self._commit_in_line()

    def _settle_at_once(self, jobs: Sequence[Work]) -> bool:
        """Whether it was done, and before it what the thread has not got to. False changes
        nothing."""
        if self._closed or self._is_overdue():
            return False
        jobs = [*self._queued, *jobs]
        if any(job.stream is None for job in jobs) or not self._file.settle_at_once(jobs):
            return False
        self._queued.clear()
        return True

    def _is_overdue(self) -> bool:
        """The thread has to make a checkpoint first. It is asked for one as soon as it is due."""
        overdue = self._file.overdue
        if overdue < 0:
            self._asked = False
        elif not self._asked:
            self._asked = True
            asking = Job(_nothing, sync=False, stream=None)
            asking.committed = True
            self._enqueue(asking)
        return overdue >= MOST_OVERDUE

    # -- through the thread ----------------------------------------------------------------------

    async def _outcome(self, job: Job[T], committed: Callable[[T], None] | None) -> None:
        self._waiting[job.stream] += 1
        try:
            with self._world.outside("journal thread"):
                cancelled = await self._told(job)
        finally:
            self._waiting[job.stream] -= 1
            if not self._waiting[job.stream]:
                del self._waiting[job.stream]
        if job.error is None and committed is not None:
            committed(job.result)
        if cancelled is not None:
            raise cancelled from job.error
        if job.error is not None:
            raise job.error

    async def _told(self, job: Work) -> asyncio.CancelledError | None:
        """Wait until the outcome is known; gives back what was raised in the meantime."""
        job.loop = loop = asyncio.get_running_loop()
        job.future = loop.create_future()
        if job.stream is not None and not job.over and not self._closed:
            self._held.append(job)
            loop.call_soon(self._end_turn)
        else:
            self._enqueue(job)
        try:
            await job.future
        except asyncio.CancelledError as error:
            with anyio.CancelScope(shield=True):
                while not job.done:
                    job.future = loop.create_future()
                    try:
                        await job.future
                    except asyncio.CancelledError:
                        continue  # once more: it is raised later, once
            return error
        return None

    def _enqueue(self, job: Work) -> None:
        with self._gate:
            if self._closed:
                raise refuse_closed()
            if self._thread is None:
                thread = Thread(target=self._serve, name=THREAD_NAME, daemon=False)
                thread.start()  # may fail: then nothing is queued
                self._thread = thread
            self._queue.put(job)
        if self._queued and self._queued[0].over:
            self._queued = [one for one in self._queued if not one.over]
        if not job.over:
            self._queued.append(job)

    def _next(self) -> Work | None:
        """The next part; None: the thread is to end."""
        try:
            return self._queue.get(timeout=IDLE_S)
        except Empty:
            with self._gate:  # what was queued this moment is still this thread's to do
                job = None if self._queue.empty() else self._queue.get()
                self._thread = None if job is None else self._thread
                return job

    def _serve(self) -> None:
        ending = False
        while not ending and (job := self._next()) is not None:
            jobs = [job]
            while not ending:  # all that came while the last ones were seen to
                try:
                    job = self._queue.get_nowait()
                except Empty:
                    break
                if job is None:
                    ending = True
                else:
                    jobs.append(job)
            if not all(job.over for job in jobs):
                self._file.settle(jobs)
            self._file.sync(jobs)
            deliver(jobs)
            self._file.checkpoint_if_due()

    def _shut(self) -> None:
        with self._gate:
            thread = self._thread
            if thread is not None:
                self._queue.put(None)
        if thread is not None:
            thread.join()
            self._thread = None
        self._file.close()


def _nothing(db: Database) -> None:
    pass
