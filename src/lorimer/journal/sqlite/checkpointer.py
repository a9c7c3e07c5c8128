"""Checkpoints the write-ahead log (WAL) of a journal file: copies it into the database, while
others commit."""

from __future__ import annotations

import apsw

from lorimer.journal.sqlite.database import Database, number
from lorimer.journal.sqlite.schema import open_for_reading


class Checkpointer:
    """Two connections of its own; never used by two threads at once. Raises apsw.Error."""

    def __init__(self, path: str, vfs: str | None) -> None:
        self._checkpoints: Database = open_for_reading(path, vfs)
        self._reads: Database = open_for_reading(path, vfs)
        number(self._checkpoints, "PRAGMA user_version")  # only now it knows that there is a WAL

    def checkpoint(self) -> tuple[int, int]:
        """Move what was there when this began. Gives back how many pages that was and how many of
        them are moved now. Until `release` nobody begins the WAL anew, though all be moved: to do
        that is to fsync it, which is not for whoever commits next to do."""
        self._reads.execute("BEGIN")
        number(self._reads, "PRAGMA user_version")  # who reads a WAL keeps it
        return self._checkpoints.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def release(self) -> None:
        """Twice is fine."""
        if self._reads.in_transaction:
            self._reads.execute("ROLLBACK")

    def close(self) -> None:
        """Both connections."""
        self._reads.close()
        self._checkpoints.close()
