"""Who commits to a journal file when: the caller in line, or the thread that syncs it.

Who decides what: this file decides when a transaction is made, by which thread and how durable;
`transactions.py` makes it; what is in it is said by `sqlite.py`.

*Visible* is a commit with synchronous=NORMAL: in the write-ahead log (WAL), not fsynced, so it
survives the process but not a loss of power. Every commit is made like that, on the caller's
thread unless something is in the way: a lock of another process, a file that is not open yet.
One that is to be *synced* is followed by an fsync of the WAL file, made by the writer thread for
all that wait for one, while others go on committing: nobody's commit in line waits for an fsync.
The loop and the thread hand each other batches: one wake-up each way, however many wait.
It covers the commit and every one before it, of any process, because those stand earlier in the
same file. Those of an earlier WAL were fsynced when it was checkpointed into the database, which
NORMAL does too, before the file is begun again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from lorimer.core.errors import JournalError
from lorimer.core.world import World
from lorimer.journal.database import Database
from lorimer.journal.projection import refuse_closed
from lorimer.journal.transactions import Transactions
from lorimer.journal.work import Batch, Job, Work, finish

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
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._batch: Batch | None = None
        """What the thread gets in the loop's next iteration."""
        self._left: list[Work] = []
        """What the thread is to commit; touched by the loop's thread only."""
        self._waiting: dict[str | None, int] = {}
        """Of each stream, how many parts nobody was told of yet. Those behind another one are told
        by the thread, in order."""
        self._closed = False

    async def submit(
        self,
        run: Callable[[Database], T],
        *,
        sync: bool,
        stream: str | None,
        committed: Callable[[T], None] | None = None,
    ) -> T:
        """Commit what `run` does, call `committed` with what it returned, return that.

        Committed on the calling thread, at once (about 15 us, no fsync, no waiting for a lock),
        when it is of a `stream` and nothing is in the way; else by the writer thread. What is to be
        synced then waits for an fsync; where others wait for one, it is committed and synced with
        all that comes in the same iteration of the loop. The parts of a stream are told in the
        order in which they came, so the task of one that is visible may wait for the fsync of the
        one before it. A task that is cancelled meanwhile gets its CancelledError once the outcome
        is known, and after `committed` when it was a commit.
        """
        if self._closed:
            raise refuse_closed()
        job = Job(run, sync, stream)
        if not self._threads:
            self._file.settle((job,))
            finish((job,), self._file.sync() if sync and job.committed else None)
            self._file.checkpoint_if_due()
        elif not self._at_once(job):
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
        self._hand_over()
        self._closed = True
        if self._threads:
            with self._world.outside("journal thread"), anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._shut)
        else:
            self._shut()

    # -- in line ---------------------------------------------------------------------------------

    def _at_once(self, job: Work) -> bool:
        """Commit it here and now. False: it is not, or may not be told yet."""
        stream = job.stream
        if self._file.overdue >= 0:
            self._soon()  # asks for the checkpoint
        if stream is None or (job.sync and self._waiting) or not self._commit_in_line(job):
            return False
        return not (job.sync or stream in self._waiting) or job.error is not None

    def _commit_in_line(self, *jobs: Work) -> bool:
        """Commit what the thread has not got to, and these. False: not these."""
        file = self._file
        if file.overdue >= MOST_OVERDUE or not file.is_ready:
            return False
        if self._left:
            self._left = [job for job in self._left if not job.over]
            if any(job.stream is None for job in self._left):
                return False
            jobs = (*self._left, *jobs)
        if jobs and not file.settle_at_once(jobs):
            return False
        self._left.clear()
        return True

    # -- through the thread ----------------------------------------------------------------------

    async def _outcome(self, job: Job[T], committed: Callable[[T], None] | None) -> None:
        waiting, stream = self._waiting, job.stream
        waiting[stream] = waiting.get(stream, 0) + 1
        try:
            with self._world.outside("journal thread"):
                cancelled = await self._told(job)
        finally:
            waiting[stream] -= 1
            if not waiting[stream]:
                del waiting[stream]
        if job.error is None and committed is not None:
            committed(job.result)
        if cancelled is not None:
            raise cancelled from job.error
        if job.error is not None:
            raise job.error

    async def _told(self, job: Work) -> asyncio.CancelledError | None:
        """Wait until the outcome is known; gives back what was raised in the meantime."""
        alone = self._batch is None and self._waiting == {job.stream: 1}
        batch = Batch(asyncio.get_running_loop()) if alone else self._soon()
        batch.jobs.append(job)
        job.future = batch.loop.create_future()
        if not job.over:
            self._left.append(job)
        if alone:
            self._put(batch)
        try:
            await job.future
        except asyncio.CancelledError as error:
            with anyio.CancelScope(shield=True):
                while not job.done:
                    job.future = batch.loop.create_future()
                    try:
                        await job.future
                    except asyncio.CancelledError:
                        continue  # once more: it is raised later, once
            return error
        return None

    def _soon(self) -> Batch:
        """What the thread gets after this iteration of the loop: one transaction, one wake-up, and
        one fsync, for all that is added to it."""
        loop = asyncio.get_running_loop()
        batch = self._batch
        if batch is None or batch.loop is not loop:
            self._hand_over()  # what a loop left that is gone
            self._batch = batch = Batch(loop)
            loop.call_soon(self._hand_over)
        return batch

    def _hand_over(self) -> None:
        batch, self._batch = self._batch, None
        if batch is not None:
            self._commit_in_line()
            self._put(batch)

    def _put(self, batch: Batch) -> None:
        with self._gate:
            if self._thread is None:
                thread = Thread(target=self._serve, name=THREAD_NAME, daemon=False)
                try:
                    thread.start()
                except RuntimeError as error:
                    for job in batch.jobs:
                        job.error = JournalError("the journal cannot start a thread", cause=error)
                    batch.tell(None)
                    return
                self._thread = thread
            self._queue.put(batch)

    def _serve(self) -> None:
        file = self._file
        while batches := self._next():
            sync = False
            for batch in batches:
                for job in batch.jobs:
                    if not job.over:
                        file.settle(batch.jobs)
                    sync = sync or job.sync
            unsynced = file.sync() if sync else None
            if file.overdue >= 0:
                file.checkpoint_if_due()
            for batch in batches:
                batch.tell(unsynced)

    def _next(self) -> list[Batch]:
        """All that came since it was asked for last; nothing: the thread is to end."""
        queue = self._queue
        try:
            batch = queue.get(timeout=IDLE_S)
        except Empty:
            with self._gate:  # what was queued this moment is still this thread's to do
                batch = None if queue.empty() else queue.get()
                if batch is None:
                    self._thread = None
        batches: list[Batch] = []
        while batch is not None:
            batches.append(batch)
            if queue.empty():
                return batches
            batch = queue.get()
        if batches:
            queue.put(None)  # once more, when these are done
        return batches

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
