"""The one writing connection of a journal file, and the thread that syncs what it commits.

Who decides what: this file decides when a transaction is made, by which thread and how durable;
what is in it is said by `sqlite.py`.

*Visible* is a commit with synchronous=NORMAL: in the write-ahead log (WAL), not fsynced, so it
survives the process but not a loss of power. Every commit is made like that, on the caller's
thread unless something is in the way: a lock of another process, or a checkpoint that is due.
One that is to be *synced* is followed by an fsync of the WAL file, made by the writer thread for
all that wait for one, while others go on committing: nobody's commit in line waits for an fsync.
It covers the commit and every one before it, of any process, because those stand earlier in the
same file. Those of an earlier WAL were fsynced when it was checkpointed into the database, which
NORMAL does too, before the file is begun again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final, TypeVar

import anyio
import anyio.to_thread
import apsw

from lorimer.core.errors import JournalError
from lorimer.core.world import World
from lorimer.journal.database import BUSY_MS, Database
from lorimer.journal.faults import explain, lost_sync
from lorimer.journal.projection import refuse_closed
from lorimer.journal.schema import open_for_writing
from lorimer.journal.wal import WriteAheadLog
from lorimer.journal.work import Job, Work, deliver

T = TypeVar("T")

CHECKPOINT_PAGES: Final = 1000
"""WAL pages (4 KB each) after which they are moved into the database."""
CHECKPOINT_LATE: Final = 100
"""WAL pages more that may be written in line before it is made."""
IDLE_S: Final = 2.0
"""Seconds without work after which the thread ends; the next synced commit starts another. So a
journal that nobody closed cannot keep the interpreter from exiting."""

THREAD_NAME: Final = "lorimer-journal"

_log = logging.getLogger("lorimer.journal")


class Writer:
    """Runs jobs in transactions, in the order of their submission. Owns the thread.

    `forget` is called, under the writer's lock, after each rollback: what jobs remembered of an
    undone transaction is void. With `threads=False` all is done in line by the caller.
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
        self._path, self._vfs = path, vfs
        self._world = world
        self._threads = threads
        self._forget = forget
        self._db: Database | None = None
        self._log: WriteAheadLog | None = None
        self._lock = Lock()
        """Held by whoever uses the connection."""
        self._gate = Lock()
        """Guards the queue's count and the thread's life; never held for long."""
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
        self._told_due = False
        """A checkpoint is due, and the thread will make it."""
        self._wal_pages = 0
        self._checkpoint_at = CHECKPOINT_PAGES
        self._wal_fresh = True
        """The next commit begins the WAL anew, which fsyncs its header: not in line. (After
        another process's checkpoint we cannot know, and one commit in line has that fsync.)"""
        self._broken: JournalError | None = None
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
            self._settle([job])
            self._sync([job])
            self._checkpoint_if_due()
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
        if self._db is None:
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
        done = self._transact_in_line([*held, *jobs])
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

    def _transact_in_line(self, jobs: Sequence[Work]) -> bool:
        """Whether it was done, and before it what the thread has not got to. False changes
        nothing."""
        if (
            self._closed
            or self._db is None
            or self._wal_fresh
            or self._broken is not None
            or self._is_due()
            or not self._lock.acquire(blocking=False)
        ):
            return False
        try:
            jobs = [*[job for job in self._queued if not job.over], *jobs]
            if any(job.stream is None for job in jobs):
                return False
            self._db.set_busy_timeout(0)
            try:
                self._transact(self._db, jobs)
            except apsw.BusyError:  # another process writes: wait for it elsewhere
                return False
            except Exception as error:  # noqa: BLE001 - raised in the task that waits for it
                if len(jobs) > 1:
                    return False  # whose fault it is the thread will find out
                jobs[0].error = self._explained(error)
            finally:
                self._db.set_busy_timeout(BUSY_MS)
            self._queued.clear()
        finally:
            self._lock.release()
        return True

    def _is_due(self) -> bool:
        """A checkpoint is, and the thread has to be told, or to be waited for."""
        late = self._wal_pages - self._checkpoint_at
        if late < 0 or (self._told_due and late < CHECKPOINT_LATE):
            return False
        self._told_due = True
        return True

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
            if not job.over:
                if self._queued and self._queued[0].over:
                    self._queued = [one for one in self._queued if not one.over]
                self._queued.append(job)
            self._queue.put(job)

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
            if any(not job.over for job in jobs):
                with self._lock:  # the loop's thread may have been quicker
                    self._settle([job for job in jobs if not job.over])
            self._sync(jobs)  # without the lock: others may commit meanwhile
            deliver(jobs)
            if self._wal_pages >= self._checkpoint_at:
                with self._lock:
                    self._checkpoint_if_due()

    def _shut(self) -> None:
        with self._gate:
            thread = self._thread
            if thread is not None:
                self._queue.put(None)
        if thread is not None:
            thread.join()
            self._thread = None
        with self._lock:
            db, self._db = self._db, None
            log, self._log = self._log, None
            try:
                if log is not None:
                    log.close()
                if db is not None:
                    db.close()
            except (OSError, apsw.Error) as error:  # moving the log into the file: it has it all
                raise explain(error, self._path) from error

    # -- transactions; the caller holds the lock -------------------------------------------------

    def _settle(self, jobs: Sequence[Work]) -> None:
        """Commit the jobs as one transaction or, when that fails, each for itself, so that none
        fails for another's fault. Sets every job's result or error; raises nothing."""
        if not jobs:
            return
        try:
            if self._broken is not None:
                raise self._broken
            if self._db is None:
                self._db = open_for_writing(self._path, self._vfs)
                self._db.set_wal_hook(self._committed)
                self._log = WriteAheadLog(self._db.filename_wal, self._vfs)
                in_wal, moved = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
                self._wal_pages, self._wal_fresh = in_wal, in_wal == moved
            self._transact(self._db, jobs)
        except Exception as error:  # noqa: BLE001 - raised in the task that waits for it
            if len(jobs) > 1 and not isinstance(error, JournalError | apsw.BusyError):
                for job in jobs:
                    self._settle([job])
                return
            for job in jobs:
                job.error = self._explained(error)

    def _transact(self, db: Database, jobs: Sequence[Work]) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            for job in jobs:
                job.error = None
                try:
                    job.perform(db)
                except JournalError as refusal:
                    job.error = refusal
            db.execute("COMMIT")
        except BaseException:
            self._forget()
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        for job in jobs:
            job.committed = job.error is None

    def _explained(self, error: Exception) -> Exception:
        if lost_sync(error):
            return self._break(error)
        known = isinstance(error, apsw.Error | UnicodeEncodeError)
        return explain(error, self._path) if known else error

    def _break(self, error: Exception) -> JournalError:
        """From now on nothing is written."""
        self._broken = JournalError(
            f"the journal {self._path} could not be synced to its disk",
            hint="Check the disk, then start again: nothing is written until then.",
            cause=error,
        )
        return self._broken

    def _committed(self, db: Database, name: str, pages: int) -> int:
        # SQLite's own automatic checkpoint would run here, inside the commit: ours never does.
        self._wal_pages = pages
        self._wal_fresh = False
        return apsw.SQLITE_OK

    def _sync(self, jobs: Sequence[Work]) -> None:
        """Sync those of the jobs that are to be, and are committed. Needs no lock; sets their
        errors, raises nothing."""
        waiting = [job for job in jobs if job.sync and job.committed]
        if not waiting or self._log is None:
            return
        error: Exception | None = self._broken
        if error is None:
            try:
                self._log.sync()
            except Exception as failure:  # noqa: BLE001 - raised in the tasks that wait for it
                error = self._break(failure)
        for job in waiting:
            job.error = error

    def _checkpoint_if_due(self) -> None:
        if self._db is None or self._wal_pages < self._checkpoint_at:
            return
        try:
            in_wal, moved = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:  # nothing is lost, the WAL has it all
            _log.warning("checkpoint of %s failed: %s", self._path, error)
            if lost_sync(error):
                self._break(error)
            in_wal, moved = self._wal_pages, 0
        self._told_due = False
        if in_wal == moved:
            self._wal_pages, self._wal_fresh = 0, True
            self._checkpoint_at = CHECKPOINT_PAGES
        else:  # a reader still needs it
            self._checkpoint_at = self._wal_pages + CHECKPOINT_PAGES


def _nothing(db: Database) -> None:
    pass
