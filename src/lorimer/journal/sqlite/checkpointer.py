"""Checkpoints the write-ahead log (WAL) of a journal file: copies it into the database, while
others commit."""

from __future__ import annotations

import apsw

from lorimer.journal.sqlite.database import Database, number
from lorimer.journal.sqlite.schema import open_for_reading


class Checkpointer:
    """Has two connections of its own; never used by two threads at once. Raises apsw.Error."""

    def __init__(self, path: str, vfs: str | None) -> None:
        self._checkpoints: Database = open_for_reading(path, vfs)
        self._reads: Database = open_for_reading(path, vfs)
        number(self._checkpoints, "PRAGMA user_version")  # only now it knows that there is a WAL

    def checkpoint(self) -> tuple[int, int]:
        """Move the pages that were in the WAL when this began. Returns how many those were and how
        many of them have been moved. Until `release` nobody restarts the WAL, even if all were
        moved: restarting requires an fsync, which must not be left to the next commit."""
        self._reads.execute("BEGIN")
        number(self._reads, "PRAGMA user_version")  # a reader prevents the restart of the WAL
        return self._checkpoints.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def release(self) -> None:
        """May be called twice."""
        if self._reads.in_transaction:
            self._reads.execute("ROLLBACK")

    def close(self) -> None:
        """Close both connections."""
        self._reads.close()
        self._checkpoints.close()
