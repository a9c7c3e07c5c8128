"""The tables of a journal file, their versions, and how the file is opened.

    streams    a conversation: who may write to it (epoch, owner, lease_until)
    facts      at = stream << 32 | seq of the row's first fact: one B-tree, clustered by stream,
               no index beside it, and rows up to 2 KB stay in their page; mark: see chain.py
    blocks     rows of facts of ended runs, many in one: see blocks.py
    runs       projection of run.start and run.end, in order of their starts
    ledger     money reserved and spent, nano-dollars, by run and by purse
    shares     each run's amounts in each purse
    spending   when the money of purses was spent: see purses.py
    documents  manifests by hash
    snapshots  the latest fold of a stream
    inbox      messages to the writer of a stream; once a fact has consumed one, only its id stays
Times are microseconds since the epoch. `body` of facts: see codec.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import apsw

from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.journal.chain import START, mark
from lorimer.journal.sqlite.database import (
    Database,
    connect,
    is_ours,
    make_private,
    number,
    transaction,
    use_wal,
)
from lorimer.journal.sqlite.faults import explain

MEMORY: Final = ":memory:"
APPLICATION_ID: Final = 0x4C6F726A  # "Lorj": identifies a journal to us and to file(1)
STREAM_BITS: Final = 32
"""at >> STREAM_BITS is the stream, the rest the seq."""

PAGE_BYTES: Final = 2048
"""Half of SQLite's default: a visible commit writes whole pages, and a new file is 38 KB."""

CHUNK_ROWS: Final = 1000
"""Rows that a migration holds in memory."""


def _mark_rows(db: Database) -> None:
    """Version 2: the hash chain. About 6 us for each existing row."""
    db.execute("ALTER TABLE facts ADD COLUMN mark BLOB NOT NULL DEFAULT x''")
    at, stream, last = 0, 0, START
    # as bytes: text that is no longer valid is reported by readers
    sql = "SELECT at, CAST(body AS BLOB) FROM facts WHERE at>? ORDER BY at LIMIT ?"
    while rows := list(db.execute(sql, (at, CHUNK_ROWS))):
        for place, body in rows:
            if not isinstance(place, int) or not isinstance(body, bytes):
                raise JournalError("the journal's file is damaged: a row is malformed")
            at = place
            last = mark(last if at >> STREAM_BITS == stream else START, at, body)
            stream = at >> STREAM_BITS
            db.execute("UPDATE facts SET mark=? WHERE at=?", (last, at))


Migration: TypeAlias = str | Callable[[Database], None]

# Migration n takes a file from version n to n + 1. Released ones are never edited.
MIGRATIONS: Final[tuple[Migration, ...]] = (
    """
    CREATE TABLE streams(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
      epoch INTEGER NOT NULL, owner TEXT, lease_until INTEGER NOT NULL) STRICT;
    CREATE TABLE facts(at INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;
    CREATE TABLE runs(id INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE,
      stream INTEGER NOT NULL, first INTEGER NOT NULL, started INTEGER NOT NULL,
      title TEXT NOT NULL, status TEXT NOT NULL, ended INTEGER, iterations INTEGER NOT NULL,
      cost INTEGER NOT NULL, code TEXT NOT NULL) STRICT;
    CREATE INDEX runs_of_stream ON runs(stream, first);
    CREATE TABLE ledger(account TEXT PRIMARY KEY, reserved INTEGER NOT NULL,
      spent INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE documents(digest TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE snapshots(stream INTEGER PRIMARY KEY, seq INTEGER NOT NULL, body BLOB NOT NULL)
      STRICT;
    """,
    """
    CREATE TABLE inbox(seq INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL,
      id TEXT NOT NULL, at INTEGER NOT NULL, body TEXT, UNIQUE(stream, id)) STRICT;
    CREATE INDEX runs_unfinished ON runs(id) WHERE ended IS NULL;
    """,
    _mark_rows,
    """
    CREATE TABLE blocks(at INTEGER PRIMARY KEY, last INTEGER NOT NULL, mark BLOB NOT NULL,
      body BLOB NOT NULL) STRICT;
    """,
    """
    CREATE TABLE shares(run TEXT NOT NULL, purse TEXT NOT NULL, reserved INTEGER NOT NULL,
      spent INTEGER NOT NULL, PRIMARY KEY(run, purse)) STRICT, WITHOUT ROWID;
    CREATE TABLE spending(purse TEXT NOT NULL, until INTEGER NOT NULL, spent INTEGER NOT NULL,
      PRIMARY KEY(purse, until)) STRICT, WITHOUT ROWID;
    """,
)
VERSION: Final = len(MIGRATIONS)


def open_for_writing(path: str, vfs: str | None) -> Database:
    """The journal at `path`, created (0600, its directory 0700) or migrated as needed.

    Blocks. Raises JournalError: `exec.journal.version` when a newer version wrote it, else
    `exec.journal.failed`.
    """
    try:
        if path != MEMORY and vfs is None:
            make_private(path)
        db = connect(path, vfs, create=True)
    except (OSError, apsw.Error) as error:
        raise explain(error, path) from error
    try:
        _identify(db, path)
        db.execute(f"PRAGMA page_size={PAGE_BYTES}")  # for a new file
        db.execute("PRAGMA synchronous=NORMAL")
        use_wal(db)
        _migrate(db, path)
    except BaseException as error:
        db.close()
        if isinstance(error, apsw.Error):
            raise explain(error, path) from error
        raise
    return db


def open_for_reading(path: str, vfs: str | None) -> Database:
    """A second connection to a journal opened by `open_for_writing`. Blocks."""
    db = connect(path, vfs, create=False)
    db.execute("PRAGMA query_only=1")
    return db


def _identify(db: Database, path: str) -> None:
    if not is_ours(db, APPLICATION_ID):
        raise JournalError(
            f"{path} is a SQLite database, but not a journal of lorimer",
            hint="Give another path, or move the file away.",
        )


def _migrate(db: Database, path: str) -> None:
    if _version(db, path) == VERSION:
        return
    with transaction(db):
        for number in range(_version(db, path), VERSION):  # again: now nobody else migrates
            step = MIGRATIONS[number]
            if isinstance(step, str):
                db.execute(step)
            else:
                step(db)
        db.execute(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION}")


def _version(db: Database, path: str) -> int:
    version = number(db, "PRAGMA user_version")
    if version > VERSION:
        raise JournalError(
            f"the journal {path} was written by a newer version of lorimer (format {version}, "
            f"this one knows {VERSION})",
            code=ExecutorErrorCode.EXEC_JOURNAL_VERSION,
            hint="Update lorimer, or use another journal.",
        )
    return version
