"""A small SQLite file that several processes may use at once, as the stores of the kernel
(`run/stores`) and memories (`memory/sqlite.py`) are. The journal itself: `store.py`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Protocol, TypeVar

import apsw

from lorimer.core.errors import LorimerError
from lorimer.journal.sqlite.database import Database, connect, make_private, transaction
from lorimer.journal.sqlite.faults import describe

T = TypeVar("T")


class Failure(Protocol):
    """The class of the errors that a file raises."""

    def __call__(self, message: str, *, hint: str, cause: Exception) -> LorimerError: ...


class SQLiteFile:
    """Used by one thread at a time in each process. Opened on first use, and created with mode 0600
    if it is missing. All operations wait up to 5 s for other processes.

    path: a file on a local disk, or `:memory:`. what: what it is, as errors of the class `failure`
    call it. prepare: makes the tables of a new file, and rejects one that is not ours.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        what: str,
        prepare: Callable[[Database, str], None],
        failure: Failure,
    ) -> None:
        self.path = os.fspath(path)
        self._what = what
        self._prepare = prepare
        self._failure = failure
        self._lock = Lock()
        self._db: Database | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, and those that SQLite creates next to it."""
        return tuple([Path(self.path + end) for end in ("", "-wal", "-shm", "-journal")])

    def read(self, work: Callable[[Database], T]) -> T:
        """The result of `work`, on a snapshot."""
        return self._do("BEGIN", work)

    def write(self, work: Callable[[Database], T]) -> T:
        """The result of `work`, once it is committed; if it raises, nothing is kept."""
        return self._do("BEGIN IMMEDIATE", work)

    def close(self) -> None:
        """The file is reopened on the next use."""
        with self._lock:
            db, self._db = self._db, None
            if db is not None:
                db.close()

    def failed(self, error: Exception) -> LorimerError:
        """An error of SQLite or the file system, worded for people."""
        what, hint = describe(error, self.path)
        return self._failure(f"the {self._what} {self.path} {what}", hint=hint, cause=error)

    def _do(self, begin: str, work: Callable[[Database], T]) -> T:
        with self._lock:
            try:
                db = self._db = self._db or self._opened()
                db.check_in_place()
                with transaction(db, begin):
                    return work(db)
            except (apsw.Error, OSError, UnicodeError) as error:
                raise self.failed(error) from error

    def _opened(self) -> Database:
        if self.path != ":memory:":
            make_private(self.path)
        db = connect(self.path, None, create=True)
        try:
            self._prepare(db, self.path)
        except BaseException:
            db.close()
            raise
        return db
