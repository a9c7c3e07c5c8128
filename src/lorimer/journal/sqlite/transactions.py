"""The writing connection of a journal file: parts in transactions, fsyncs, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final

import apsw

from lorimer.core.errors import JournalError, LimitError
from lorimer.core.redaction import logger
from lorimer.journal.sqlite.checkpointer import Checkpointer
from lorimer.journal.sqlite.database import Database, wait_for_locks
from lorimer.journal.sqlite.faults import LOCKED, FileMoved, explain, lost_sync
from lorimer.journal.sqlite.schema import VERSION, open_for_writing
from lorimer.journal.sqlite.wal import WriteAheadLog
from lorimer.journal.sqlite.work import Work

CHECKPOINT_PAGES: Final = 1000
"""WAL pages (2 KB each in a file of ours) after which they are moved into the database."""
MAX_OVERDUE_PAGES: Final = 1000
"""WAL pages that may be written in line after a checkpoint was due."""
MAX_WAL_PAGES: Final = 4 * CHECKPOINT_PAGES
"""WAL pages after which nobody commits while they are moved."""

_log = logger("lorimer.journal")


class Transactions:
    """Opened by the first commit. From any thread; one at a time makes a transaction.

    `forget` is called, before another transaction can be made, after each rollback: what parts
    remembered of an undone transaction is void.
    """

    def __init__(self, path: str, vfs: str | None, forget: Callable[[], None]) -> None:
        self._path, self._vfs = path, vfs
        self._forget = forget
        self._db: Database | None = None
        self._checkpointer: Checkpointer | None = None
        """For checkpoints: used by the thread that commits for others."""
        self._wal: WriteAheadLog | None = None
        self._lock = Lock()
        """Held by whoever uses the connection."""
        self._wal_pages = 0
        self._checkpoint_at = CHECKPOINT_PAGES
        self.checkpoint_due = False
        """A checkpoint is."""
        self.is_checkpointing = False
        """It is being made, or is about to be: who can wait should not commit now."""
        self._wal_fresh = True
        """The next commit begins the WAL anew, which fsyncs its header: not in line. (After
        another process's checkpoint we cannot know, and one commit in line has that fsync.)"""
        self._broken: JournalError | None = None

    @property
    def is_open(self) -> bool:
        """The file is."""
        return self._db is not None

    @property
    def is_inherited(self) -> bool:
        """The process was forked since the file was opened: the parent has it."""
        return self._db is not None and self._db.is_inherited

    def commit(self, jobs: Sequence[Work]) -> None:
        """Commit those of the jobs that are not over yet. Sets every job's result or error;
        raises nothing. Blocks: for a lock of another process 5 s at most."""
        with self._lock:
            try:
                self._wait_for_locks(True)
                self._commit([job for job in jobs if not job.over])
            finally:
                self._wait_for_locks(False)

    def try_commit(self, jobs: Sequence[Work]) -> bool:
        """The same without waiting for a lock or an fsync. False: that could not be, and nothing
        has changed; `commit` can do it."""
        if self._wal_fresh or self._broken is not None:
            return False
        if self._wal_pages >= self._checkpoint_at + MAX_OVERDUE_PAGES:
            return False
        if not self._lock.acquire(blocking=False):
            return False
        left: list[Work] = []
        try:
            db = self._db
            if db is None:  # not open yet, or not any more
                return False
            left = [job for job in jobs if not job.over]  # the thread may have got to some
            self._transact(db, left)
        except LOCKED:  # another process writes: wait for it elsewhere
            return False
        except Exception as error:  # noqa: BLE001 - raised in the task that waits for it
            if len(left) != 1:
                return False  # whose fault it is `commit` finds out
            left[0].fail(self._explained(error))
        finally:
            self._lock.release()
        return True

    def sync(self) -> JournalError | None:
        """Sync all that is committed. Takes no lock: others may commit meanwhile. Gives back why it
        is not synced; raises nothing."""
        log, db = self._wal, self._db
        if self._broken is None and log is not None and db is not None:
            try:
                log.sync()
                log.check_in_place()
                db.check_in_place()
            except Exception as failure:  # noqa: BLE001 - raised in the tasks that wait for it
                return self._stop_writing(failure)
        return self._broken

    def checkpoint_if_due(self) -> None:
        """Move the WAL into the database, where it is long enough, and begin it anew if nobody has
        committed meanwhile: else what they committed is left for the next time. Only a WAL that
        keeps growing is moved with nobody committing. To call it while those who commit wait to be
        told keeps the WAL short, and to fsync a file that is written over takes half the time that
        it takes for one that grows."""
        db = self._db
        if not self.checkpoint_due or db is None:
            return
        try:
            if self._checkpointer is None:
                self._checkpointer = Checkpointer(self._path, self._vfs)
            in_wal, moved = self._checkpointer.checkpoint()
            with self._lock:
                self._checkpointer.release()
                if self._wal_pages >= MAX_WAL_PAGES:
                    in_wal, moved = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                if in_wal == moved and in_wal >= self._wal_pages:  # and nobody committed since
                    self._wal_pages, self._wal_fresh = 0, True
                    # begin it anew, so that whoever commits next need not
                    db.execute(f"PRAGMA user_version={VERSION}")  # as it is
                self._checkpoint_in(CHECKPOINT_PAGES)
        except (apsw.Error, OSError) as error:  # nothing is lost, the WAL has it all
            # Busy: another process moves it, or somebody wrote the log's index as it was read.
            if not isinstance(error, LOCKED):
                _log.warning("checkpoint of %s failed: %s", self._path, error)
            if lost_sync(error):
                self._stop_writing(error)
            if self._checkpointer is not None:
                self._checkpointer.release()
            self._checkpoint_in(CHECKPOINT_PAGES)

    def _checkpoint_in(self, pages: int) -> None:
        self._checkpoint_at = self._wal_pages + pages
        self.checkpoint_due = self.is_checkpointing = False

    def close(self) -> None:
        """Twice is fine. Raises JournalError."""
        with self._lock:
            db, self._db = self._db, None
            mover, self._checkpointer = self._checkpointer, None
            log, self._wal = self._wal, None
            try:
                if log is not None:
                    log.close()
                if mover is not None:
                    mover.close()
                if db is not None:
                    db.close()
            except (OSError, apsw.Error) as error:  # moving the log into the file: it has it all
                raise explain(error, self._path) from error

    # -- the caller holds the lock ---------------------------------------------------------------

    def _commit(self, jobs: Sequence[Work]) -> None:
        """Commit the jobs as one transaction or, when that fails, each for itself, so that none
        fails for another's fault. Sets every job's result or error; raises nothing."""
        try:
            if self._broken is not None:
                raise self._broken
            if self._db is None:
                self._db = open_for_writing(self._path, self._vfs)
                self._db.set_wal_hook(self._wal_grew)
                self._wal = WriteAheadLog(self._db.filename_wal, self._vfs)
                in_wal, moved = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
                self._wal_pages, self._wal_fresh = in_wal, in_wal == moved
            self._transact(self._db, jobs)
        except Exception as error:  # noqa: BLE001 - raised in the task that waits for it
            if len(jobs) > 1 and not isinstance(error, (JournalError, *LOCKED)):
                for job in jobs:
                    self._commit([job])
                return
            for job in jobs:
                job.fail(self._explained(error))

    def _wait_for_locks(self, patient: bool) -> None:
        if self._db is not None:
            wait_for_locks(self._db, patient)

    def _transact(self, db: Database, jobs: Sequence[Work]) -> None:
        refused: dict[Work, JournalError | LimitError] = {}
        db.write("BEGIN IMMEDIATE")
        try:
            for job in jobs:
                try:
                    job.perform(db)
                except (JournalError, LimitError) as refusal:
                    refused[job] = refusal
            db.write("COMMIT")
        except BaseException:
            self._forget()
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        for job in jobs:  # from here on other threads may see that it is over
            if job in refused:
                job.fail(refused[job])
            job.over = True

    def _explained(self, error: Exception) -> Exception:
        if lost_sync(error):
            return self._stop_writing(error)
        known = isinstance(error, apsw.Error | UnicodeError)
        return explain(error, self._path) if known else error

    def _stop_writing(self, error: Exception) -> JournalError:
        """From now on nothing is written."""
        if isinstance(error, FileMoved):
            self._broken = explain(error, self._path)
            return self._broken
        self._broken = JournalError(
            f"the journal {self._path} could not be synced to its disk",
            hint="Check the disk, then start again: nothing is written until then.",
            cause=error,
        )
        return self._broken

    def _wal_grew(self, db: object, name: str, pages: int) -> int:
        # SQLite's own automatic checkpoint would run here, inside the commit: ours never does.
        self._wal_pages = pages
        self._wal_fresh = False
        if pages >= self._checkpoint_at:
            self.checkpoint_due = True
        return apsw.SQLITE_OK
