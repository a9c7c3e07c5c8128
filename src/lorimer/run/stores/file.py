"""The SQLite file of the kernel's stores: its tables, and how it is opened and used.

audit        one record per row, chained; columns for queries are computed from the body
audit_head   where the records end (`run/audit/chain.py`), in one row
agents       saved agents, current versions; version: that of the body
versions     all versions
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final, TypeVar

import apsw

from lorimer.core.errors import StoreFailed
from lorimer.journal.sqlite.database import (
    Database,
    connect,
    make_private,
    number,
    transaction,
    use_wal,
)
from lorimer.journal.sqlite.faults import describe

T = TypeVar("T")

APPLICATION_ID: Final = 0x4C6F726B  # "Lork"
VERSION: Final = 1
TABLES: Final[tuple[str, ...]] = (
    """CREATE TABLE audit(seq INTEGER PRIMARY KEY, body TEXT NOT NULL, hash BLOB NOT NULL,
  kind TEXT AS (json_extract(body, '$.kind')), run TEXT AS (json_extract(body, '$.run')),
  time REAL AS (json_extract(body, '$.time')),
  subject TEXT AS (iif(kind = 'start', json_extract(body, '$.data.subject'), NULL)),
  caller TEXT AS (iif(kind = 'start', json_extract(body, '$.data.caller_id'), NULL)),
  parent TEXT AS (iif(kind = 'start', json_extract(body, '$.data.parent_run_id'), NULL))) STRICT""",
    "CREATE INDEX audit_run ON audit(run, kind)",
    "CREATE INDEX audit_subject ON audit(subject) WHERE subject IS NOT NULL",
    "CREATE INDEX audit_caller ON audit(caller) WHERE caller IS NOT NULL",
    "CREATE INDEX audit_parent ON audit(parent) WHERE parent IS NOT NULL",
    """CREATE TABLE audit_head(one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL,
  hash BLOB NOT NULL, purged INTEGER NOT NULL, purged_hash BLOB NOT NULL, seal BLOB NOT NULL)
  STRICT""",
    """CREATE TABLE agents(body TEXT NOT NULL,
  owner TEXT NOT NULL AS (json_extract(body, '$.owner')) STORED,
  name TEXT NOT NULL AS (json_extract(body, '$.name')) STORED,
  version INTEGER NOT NULL AS (json_extract(body, '$.version')) STORED,
  visibility TEXT NOT NULL AS (json_extract(body, '$.visibility')),
  present INTEGER NOT NULL CHECK (present IN (0, 1)),
  UNIQUE (owner, name, version)) STRICT""",
    "CREATE UNIQUE INDEX agents_present ON agents(owner, name) WHERE present",
    "CREATE INDEX agents_visible ON agents(visibility) WHERE present",
)


class StoreFile:
    """One SQLite file, used by one thread at a time in each process. Created on first use, with
    mode 0600. All operations wait up to 5 s for other processes.

    path: a file on a local disk. Raises StoreFailed for one that cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
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
        """The result of `work`, once it is synced; if it raises, nothing is kept."""
        return self._do("BEGIN IMMEDIATE", work)

    def close(self) -> None:
        """The file is reopened on the next use."""
        with self._lock:
            db, self._db = self._db, None
            if db is not None:
                db.close()

    def failed(self, error: Exception) -> StoreFailed:
        """An error of SQLite or the file system, worded for people."""
        what, hint = describe(error, self.path)
        return StoreFailed(f"the store {self.path} {what}", hint=hint, cause=error)

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
        make_private(self.path)
        db = connect(self.path, None, create=True)
        try:
            self._identify(db)
            use_wal(db)
            # purged data is really gone; acknowledged data survives a power failure
            db.execute("PRAGMA secure_delete=1; PRAGMA synchronous=FULL")
            if number(db, "PRAGMA user_version") == 0:
                self._make(db)
            self._check_version(db)
        except BaseException:
            db.close()
            raise
        return db

    def _identify(self, db: Database) -> None:
        # In this order: the process that creates the file writes both in one transaction.
        tables = number(db, "SELECT count(*) FROM sqlite_schema")
        application = number(db, "PRAGMA application_id")
        if application != APPLICATION_ID and (application or tables):
            raise StoreFailed(
                f"{self.path} is a SQLite database, but not a store of the kernel",
                hint="Give another path, or move the file away.",
            )

    def _make(self, db: Database) -> None:
        with transaction(db):
            if number(db, "PRAGMA user_version") == 0:  # checked again: nobody else has created it
                db.execute("; ".join(TABLES))
                db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                db.execute(f"PRAGMA user_version={VERSION}")

    def _check_version(self, db: Database) -> None:
        version = number(db, "PRAGMA user_version")
        if version != VERSION:
            raise StoreFailed(
                f"{self.path} was written by another version of lorimer (format {version}, this "
                f"one knows {VERSION})",
                hint="Update lorimer, or use another file.",
            )


def damage(db: Database) -> str:
    """Damage to the file apart from its rows; "": none."""
    made = {str(sql) for (sql,) in db.execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL")}
    if made != set(TABLES):
        return "its tables are not those that were made"
    found = [str(line) for (line,) in db.execute("PRAGMA integrity_check(1)")]
    return "" if found == ["ok"] else " ".join(found)
