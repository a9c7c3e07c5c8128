"""SQLite as used by all our stores, the journal's and others: opening a file, making a transaction.

Has types of its own: type checkers do not see those of apsw before Python 3.12.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from errno import EACCES
from typing import Final, NoReturn, Protocol, TypeAlias, cast

import apsw

from lorimer.journal.sqlite.faults import FileMoved, Inherited
from lorimer.journal.sqlite.forks import hold, let_go, require_same_process

Value: TypeAlias = int | float | str | bytes | None
Row: TypeAlias = tuple[Value, ...]

BUSY_MS: Final = 5000
"""Milliseconds to wait for another process's write."""
_TRIES: Final = 100
"""Attempts to change a mode, while others open the same file."""


class Rows(Protocol):
    """The result of a statement, row by row."""

    def __iter__(self) -> Iterator[Row]: ...
    def fetchone(self) -> Row | None: ...
    def close(self) -> None: ...


class _Cursor(Protocol):
    def execute(self, statements: str, bindings: Sequence[Value] | None = None) -> Rows: ...


class _Connection(_Cursor, Protocol):
    in_transaction: bool
    filename: str
    filename_wal: str

    def cursor(self) -> _Cursor: ...
    def changes(self) -> int: ...
    def set_busy_timeout(self, milliseconds: int) -> None: ...
    def set_wal_hook(self, callable: Callable[[object, str, int], int]) -> None: ...
    def wal_checkpoint(self, *, mode: int) -> tuple[int, int]: ...
    def close(self) -> None: ...


class Database:
    """One connection. Never used by two threads at once: code that shares it holds a lock.
    Everything raises apsw.Error, UnicodeEncodeError for text with a lone surrogate, and
    UnicodeDecodeError for invalid text in the file. `file`: its path; "": in memory, or wherever a
    VFS keeps it."""

    def __init__(self, connection: _Connection, file: str) -> None:
        self._connection = connection
        self._file = file
        self._known = os.stat(file) if file else None
        self.filename_wal: Final = connection.filename_wal
        """Path of the write-ahead log; "": there is none."""
        self._known_log: os.stat_result | None = None
        self.execute = connection.execute
        """Runs statements; returns the result of the last one."""
        self.write = connection.cursor().execute
        """Runs statements without a result: saves creating an object for it."""
        self.changes: Final = connection.changes
        self.set_busy_timeout: Final = connection.set_busy_timeout
        self.set_wal_hook: Final = connection.set_wal_hook
        self.wal_checkpoint = connection.wal_checkpoint
        self.is_inherited = False
        """This process was forked since: the connection must not be used here."""
        if file:
            hold(self)

    def close(self) -> None:
        """May be called twice."""
        if self.is_inherited:
            return
        let_go(self)
        self._connection.close()

    def leave(self) -> tuple[int, int]:
        """See forks.py."""
        self.is_inherited = True
        self.execute = self.write = self.wal_checkpoint = self._refuse
        return (self._known.st_dev, self._known.st_ino) if self._known is not None else (0, 0)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise Inherited(self._file)

    def check_in_place(self) -> None:
        """Raises FileMoved when another file, or none, is at the path of this one, or of the
        write-ahead log that there was at the first check. About 4 us; may be called at any time."""
        if self._known is None:
            return
        _check_same_file(self._file, self._known)
        if self._known_log is not None:
            _check_same_file(self.filename_wal, self._known_log)
        else:
            with suppress(OSError):
                self._known_log = os.stat(self.filename_wal)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction


def connect(path: str, vfs: str | None, *, create: bool) -> Database:
    """A new connection. Raises apsw.Error, and OSError if the file has disappeared."""
    if vfs is None:
        require_same_process(path)
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    connection = cast(_Connection, apsw.Connection(path, flags=flags, vfs=vfs))
    db = Database(connection, connection.filename if vfs is None else "")
    wait_for_locks(db, True)
    # The file is untrusted: nothing in its schema may call functions with side effects.
    db.execute("PRAGMA trusted_schema=0; PRAGMA cell_size_check=1; PRAGMA mmap_size=0")
    return db


def _check_same_file(path: str, known: os.stat_result) -> None:
    """Raises FileMoved unless `path` is the file that was `known`. Does not raise if this process
    has lost the permission to check."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise FileMoved(path) from None
    except PermissionError:
        return
    if (found.st_dev, found.st_ino) != (known.st_dev, known.st_ino):
        raise FileMoved(path)


def make_private(path: str) -> None:
    """Create the file if missing (0600), and folders (0700). Raises OSError."""
    _make_folder(os.path.dirname(path))
    # an existing file is not opened: closing it would drop this process's locks on it
    if not os.path.exists(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    elif not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError(EACCES, os.strerror(EACCES), path)


def _make_folder(path: str) -> None:
    # os.makedirs gives its mode to the last one only: whoever may write above it may replace it
    if path and not os.path.exists(path):
        _make_folder(os.path.dirname(path))
        with suppress(FileExistsError):  # another process was faster
            os.mkdir(path, 0o700)


@contextmanager
def transaction(db: Database, begin: str = "BEGIN IMMEDIATE") -> Generator[None]:
    """Commits what is done within, or none of it if something is raised."""
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # an error may have ended it
            db.execute("ROLLBACK")
        raise


def wait_for_locks(db: Database, patient: bool) -> None:
    """Wait up to 5 s for another process's lock, or raise apsw.BusyError immediately."""
    db.set_busy_timeout(BUSY_MS if patient else 0)


def use_wal(db: Database) -> None:
    """Switch to the write-ahead log. Raises apsw.Error."""
    # Until a file is in this mode SQLite does not wait for other processes that are opening it.
    for _ in range(_TRIES):
        try:
            one(db, "PRAGMA journal_mode=WAL")
            return
        except apsw.BusyError:
            db.execute("BEGIN EXCLUSIVE; ROLLBACK")  # this waits
    one(db, "PRAGMA journal_mode=WAL")


def is_ours(db: Database, application_id: int) -> bool:
    """Whether the file is empty, or was made by whoever uses this application id."""
    # in this order: the process that creates the file writes both in one transaction
    tables = number(db, "SELECT count(*) FROM sqlite_schema")
    found = number(db, "PRAGMA application_id")
    return found == application_id or not (found or tables)


def one(db: Database, sql: str, *values: Value) -> Row | None:
    """The first row of a query, or None."""
    rows = db.execute(sql, values)
    row = rows.fetchone()
    rows.close()
    return row


def number(db: Database, sql: str, *values: Value) -> int:
    """The single integer that a query returns; 0 for NULL or no row."""
    row = one(db, sql, *values)
    return row[0] if row is not None and isinstance(row[0], int) else 0
