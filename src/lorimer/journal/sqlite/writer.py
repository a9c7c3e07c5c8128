"""When commits to a journal file are made, and where: inline by the caller, or by the thread that
syncs it.

This file decides when a transaction is made, by which thread and how durable it is;
`transactions.py` makes it; `store.py` decides its contents.

A *visible* commit is one with synchronous=NORMAL: in the write-ahead log (WAL), not fsynced, so it
survives the process but not a power failure. All commits are made like that, on the caller's thread
unless something prevents it: a lock of another process, a file that is not open yet.
One that is to be *synced* is followed by an fsync of the WAL file, made by the writer thread for
all that wait for one, while others continue to commit: no inline commit waits for an fsync.
If others are waiting already, what is to be synced is committed after the iteration of the event
loop, with everything that comes in it, as one transaction. Visible commits are not delayed like
that, although committing many together takes half the time: after a kill between an effect and its
commit the effect is run again.
The loop and the thread exchange batches: one wake-up each way, however many wait. Loops of several
threads may commit to one journal: each has its own waiting tasks (`LoopWaiters`), and an inline
commit may then also be prevented by another loop's.
An fsync covers the commit and every one before it, of any process, because those are earlier in the
same file. Those of an earlier WAL were fsynced when it was checkpointed into the database, which
NORMAL does too, before the file is restarted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from lorimer.core.errors import JournalError
from lorimer.core.world import World
from lorimer.journal.projection import refuse_closed
from lorimer.journal.sqlite.database import Database
from lorimer.journal.sqlite.faults import Inherited, explain
from lorimer.journal.sqlite.transactions import Transactions
from lorimer.journal.sqlite.work import Batch, Job, LoopWaiters, Work, finish

T = TypeVar("T")

IDLE_S: Final = 2.0
"""Seconds without work after which the thread ends; the next synced commit starts another. So a
journal that was not closed cannot keep the interpreter from exiting."""

THREAD_NAME: Final = "lorimer-journal"


class Writer:
    """Runs jobs in transactions, in the order of their submission. Owns the thread.

    `forget`: see Transactions. With `threads=False` everything is done inline by the caller.
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
        self._path = path
        self._file = Transactions(path, vfs, forget)
        self._world = world
        self._threads = threads
        self._gate = Lock()
        """Guards the thread's lifetime; only held briefly."""
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._loops: Mapping[asyncio.AbstractEventLoop, LoopWaiters] = {}
        """Those of each loop that had waiting tasks; replaced while holding the gate."""
        self._closed = False
        self._shuttered = False
        """The thread accepts nothing more; set while holding the gate."""

    async def submit(self, job: Work) -> None:
        """Commit the job and deliver its outcome; raises its error.

        Committed on the calling thread, immediately (about 15 us, no fsync, no waiting for a lock),
        if it has a `stream` and nothing prevents it; else by the writer thread. What is to be
        synced then waits for an fsync; if others wait for one, it is committed and synced with
        everything that comes in the same iteration of the loop. The outcomes of a stream are
        delivered in order of submission, so the task of a visible one may wait for the fsync of the
        one before it. A task that is cancelled meanwhile gets its CancelledError once the outcome
        is known and delivered.
        """
        if self._closed:
            raise refuse_closed()
        if self._file.is_inherited:  # there is no thread here, and locks may be held
            raise explain(Inherited(), self._path)
        if not self._threads:
            self._file.commit((job,))
            finish((job,), self._file.sync() if job.sync and job.error is None else None)
            self._file.checkpoint_if_due()
        elif not self._try_inline(job):
            await self._wait(job)
        if job.error is not None:
            raise job.error

    async def run(
        self, run: Callable[[Database], T], stream: str | None, *, sync: bool = False
    ) -> T:
        """Commit what `run` does, return its result; see `submit`."""
        job = Job(run, stream, sync)
        await self.submit(job)
        return job.result

    async def open(self) -> None:
        """Ensure that the file exists and is open. Raises JournalError."""
        if not self._file.is_open:
            await self.run(_nothing, None)

    async def close(self) -> None:
        """Commit what is queued, end the thread, close the file. May be called twice."""
        self._closed = True
        if self._file.is_inherited:
            return
        here = asyncio.get_running_loop()
        for loop, waiting in self._loops.items():
            if loop is here or not loop.is_running():
                self._hand_over(waiting)
        if self._threads:
            with self._world.outside("journal thread"), anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._shut)
        else:
            self._shut()

    # -- in line ---------------------------------------------------------------------------------

    def _try_inline(self, job: Work) -> bool:
        """Commit it here and now. False: it is not committed, or its outcome may not be delivered
        yet."""
        stream, waiting = job.stream, self._loops.get(asyncio.get_running_loop())
        if self._file.checkpoint_due and not self._file.is_checkpointing:
            self._next_batch(self._waiters())  # triggers the checkpoint
        if job.sync and waiting is not None and waiting.streams:
            return False
        if stream is None or not self._commit_in_line(waiting, (job,)):
            return False
        behind = waiting is not None and stream in waiting.streams
        if job.error is None and (job.sync or behind):
            return False
        job.tell()
        return True

    def _commit_in_line(self, waiting: LoopWaiters | None, jobs: Sequence[Work] = ()) -> bool:
        """Commit what the thread has not committed yet, and `jobs`. False: `jobs` are not
        committed."""
        if waiting is not None and waiting.left:
            left = [job for job in waiting.left if not job.over]
            waiting.left = left
            if any(job.stream is None for job in left):
                return False
            jobs = (*left, *jobs)
        if jobs and not self._file.try_commit(jobs):
            return False
        if waiting is not None:
            waiting.left.clear()
        return True

    # -- through the thread ----------------------------------------------------------------------

    async def _wait(self, job: Work) -> None:
        """Wait for the outcome of a job, even if the task is cancelled meanwhile."""
        waiting = self._waiters()
        alone = waiting.batch is None and not waiting.streams
        batch = Batch(waiting.loop) if alone else self._next_batch(waiting)
        batch.jobs.append(job)
        job.future = waiting.loop.create_future()
        if not job.over:
            waiting.left.append(job)
        if alone:
            self._enqueue(batch)
        waiting.join(job.stream)
        try:
            await job.future
        except asyncio.CancelledError as error:
            with anyio.CancelScope(shield=True):
                while not job.done:
                    job.future = waiting.loop.create_future()
                    try:
                        await job.future
                    except asyncio.CancelledError:
                        continue  # again: it is raised later, once
            raise error from job.error
        finally:
            waiting.go_on(job.stream)

    def _waiters(self) -> LoopWaiters:
        """The waiting tasks of the running loop."""
        loop = asyncio.get_running_loop()
        waiting = self._loops.get(loop)
        if waiting is None:
            waiting = LoopWaiters(loop)
            with self._gate:
                gone = [other for other in self._loops.values() if other.loop.is_closed()]
                self._loops = {
                    each.loop: each for each in (*self._loops.values(), waiting) if each not in gone
                }
            for other in gone:
                self._hand_over(other)
        return waiting

    def _next_batch(self, waiting: LoopWaiters) -> Batch:
        """What is committed after this iteration of the loop: one transaction, and for the thread,
        which gets it then, one wake-up and one fsync."""
        batch = waiting.batch
        if batch is None:
            waiting.batch = batch = Batch(waiting.loop)
            waiting.loop.call_soon(self._hand_over, waiting)
        return batch

    def _hand_over(self, waiting: LoopWaiters) -> None:
        batch, waiting.batch = waiting.batch, None
        if batch is None:
            return
        if not self._file.is_checkpointing:
            self._commit_in_line(waiting)
        self._enqueue(batch)

    def _enqueue(self, batch: Batch) -> None:
        batch.leave(self._world.outside("journal thread"))
        with self._gate:
            if self._shuttered:  # by another loop
                for job in batch.jobs:
                    job.fail(refuse_closed())
                batch.tell(None)
                return
            if self._thread is None:
                thread = Thread(target=self._serve, name=THREAD_NAME, daemon=False)
                try:
                    thread.start()
                except RuntimeError as error:
                    for job in batch.jobs:
                        job.fail(JournalError("the journal cannot start a thread", cause=error))
                    batch.tell(None)
                    return
                self._thread = thread
            self._queue.put(batch)

    def _serve(self) -> None:
        while batches := self._next():
            try:
                unsynced = self._write(batches)
            except Exception as error:  # noqa: BLE001 - raised in the tasks that wait for it
                unsynced = JournalError(f"the thread of {self._path} failed: {error}", cause=error)
                for job in [job for batch in batches for job in batch.jobs if not job.over]:
                    job.fail(unsynced)
            for batch in batches:
                batch.tell(unsynced)

    def _write(self, batches: Sequence[Batch]) -> JournalError | None:
        """Commit, sync and checkpoint. Returns why what is committed could not be synced."""
        file, sync = self._file, False
        file.is_checkpointing = file.checkpoint_due
        for batch in batches:
            for job in batch.jobs:
                if not job.over:
                    file.commit(batch.jobs)
                sync = sync or job.sync
        unsynced = file.sync() if sync else None
        if file.checkpoint_due:
            file.checkpoint_if_due()
        return unsynced

    def _next(self) -> list[Batch]:
        """Everything that came since the last call; empty: the thread has to end."""
        queue = self._queue
        try:
            batch = queue.get(timeout=IDLE_S)
        except Empty:
            with self._gate:  # what was queued just now is still this thread's to do
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
            queue.put(None)  # again, when these are done
        return batches

    def _shut(self) -> None:
        with self._gate:
            self._shuttered = True
            thread = self._thread
            if thread is not None:
                self._queue.put(None)
        if thread is not None:
            thread.join()
            self._thread = None
        self._file.close()


def _nothing(db: Database) -> None:
    pass
