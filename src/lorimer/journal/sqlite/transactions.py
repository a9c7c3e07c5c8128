"""The writing connection of a journal file: transactions made of parts, fsyncs, checkpoints."""

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
"""WAL pages (2 KB each in our files) after which they are moved into the database."""
MAX_OVERDUE_PAGES: Final = 1000
"""WAL pages that may be written inline after a checkpoint was due."""
MAX_WAL_PAGES: Final = 4 * CHECKPOINT_PAGES
"""WAL pages from which commits are blocked while they are moved."""

_log = logger("lorimer.journal")


class Transactions:
    """Opened by the first commit. Used from any thread; only one at a time makes a transaction.

    `forget` is called after each rollback, before another transaction can be made: what parts
    cached of a rolled back transaction is void.
    """

    def __init__(self, path: str, vfs: str | None, forget: Callable[[], None]) -> None:
        self._path, self._vfs = path, vfs
        self._forget = forget
        self._db: Database | None = None
        self._checkpointer: Checkpointer | None = None
        """For checkpoints: used by the thread that commits for others."""
        self._wal: WriteAheadLog | None = None
        self._lock = Lock()
        """Held while the connection is in use."""
        self._wal_pages = 0
        self._checkpoint_at = CHECKPOINT_PAGES
        self.checkpoint_due = False
        """Whether a checkpoint is due."""
        self.is_checkpointing = False
        """A checkpoint is running, or about to: code that can wait should not commit now."""
        self._wal_fresh = True
        """The next commit restarts the WAL, which fsyncs its header: not inline. (After another
        process's checkpoint this is unknown, and one inline commit has that fsync.)"""
        self._broken: JournalError | None = None

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return self._db is not None

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked after the file was opened, which then belongs to the
        parent."""
        return self._db is not None and self._db.is_inherited

    def commit(self, jobs: Sequence[Work]) -> None:
        """Commit those of the jobs that are not over yet. Sets every job's result or error; does
        not raise. Blocks: for a lock of another process at most 5 s."""
        with self._lock:
            try:
                self._wait_for_locks(True)
                self._commit([job for job in jobs if not job.over])
            finally:
                self._wait_for_locks(False)

    def try_commit(self, jobs: Sequence[Work]) -> bool:
        """The same without waiting for a lock or an fsync. False: impossible, and nothing has
        changed; `commit` can do it."""
        if self._wal_fresh or self._broken is not None:
            return False
        if self._wal_pages >= self._checkpoint_at + MAX_OVERDUE_PAGES:
            return False
        if not self._lock.acquire(blocking=False):
            return False
        left: list[Work] = []
        try:
            db = self._db
            if db is None:  # not open yet, or closed
                return False
            left = [job for job in jobs if not job.over]  # the thread may have completed some
            self._transact(db, left)
        except LOCKED:  # another process is writing: wait elsewhere
            return False
        except Exception as error:  # noqa: BLE001 - raised in the task that waits for it
            if len(left) != 1:
                return False  # `commit` finds out whose fault it is
            left[0].fail(self._explained(error))
        finally:
            self._lock.release()
        return True

    def sync(self) -> JournalError | None:
        """Sync all that is committed. Takes no lock: others may commit meanwhile. Returns the
        reason if it failed; does not raise."""
        log, db = self._wal, self._db
        if self._broken is None and log is not None and db is not None:
            try:
                log.sync()
                db.check_in_place()
            except Exception as failure:  # noqa: BLE001 - raised in the tasks that wait for it
                return self._stop_writing(failure)
        return self._broken

    def checkpoint_if_due(self) -> None:
        """Move the WAL into the database if it is long enough, and restart it if nobody has
        committed meanwhile: otherwise those commits are left for the next time. Only for a WAL that
        keeps growing are commits blocked meanwhile. Calling it while committers are waiting for
        their results keeps the WAL short, and an fsync of a file that is overwritten takes half as
        long as one of a file that grows."""
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
                if in_wal == moved and in_wal >= self._wal_pages:  # and there were no commits since
                    self._wal_pages, self._wal_fresh = 0, True
                    # restart it, so that the next commit need not
                    db.execute(f"PRAGMA user_version={VERSION}")  # unchanged
                self._checkpoint_in(CHECKPOINT_PAGES)
        except (apsw.Error, OSError) as error:  # nothing is lost: all of it is in the WAL
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
        """May be called twice. Raises JournalError."""
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
            except (OSError, apsw.Error) as error:  # from moving the log, which still has all of it
                raise explain(error, self._path) from error

    # -- the caller holds the lock ---------------------------------------------------------------

    def _commit(self, jobs: Sequence[Work]) -> None:
        """Commit the jobs as one transaction or, if that fails, one by one, so that none fails for
        another's fault. Sets every job's result or error; does not raise."""
        try:
            if self._broken is not None:
                raise self._broken
            if self._db is None:
                self._db = open_for_writing(self._path, self._vfs)
                self._db.set_wal_hook(self._wal_grew)
                self._wal = WriteAheadLog(self._db.filename_wal, self._vfs)
                in_wal, moved = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
                self._wal_pages, self._wal_fresh = in_wal, in_wal == moved
                self._db.check_in_place()  # from now on it is known which files these are
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
        known = isinstance(error, apsw.Error | OSError | UnicodeError)
        return explain(error, self._path) if known else error

    def _stop_writing(self, error: Exception) -> JournalError:
        """Refuse all writes from now on."""
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
