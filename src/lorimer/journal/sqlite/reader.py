"""The one reading connection of a journal file, and who uses it when."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TypeVar

import anyio
import anyio.to_thread
import apsw

from lorimer.core.world import World
from lorimer.journal.projection import refuse_closed
from lorimer.journal.sqlite.database import Database, wait_for_locks
from lorimer.journal.sqlite.faults import LOCKED, Inherited, explain
from lorimer.journal.sqlite.schema import open_for_reading

T = TypeVar("T")


class Reader:
    """Opened at the first query; the file must be there by then."""

    def __init__(self, path: str, vfs: str | None, world: World) -> None:
        self._path, self._vfs = path, vfs
        self._world = world
        self._db: Database | None = None
        self._lock = Lock()
        """Held by whoever uses the connection."""
        self._closed = False

    async def query(self, query: Callable[[Database], T]) -> T:
        """What `query` gives, asked in a worker thread, one at a time. Raises JournalError."""
        if self._is_inherited:
            raise explain(Inherited(), self._path)
        with self._world.outside("journal thread"):
            return await anyio.to_thread.run_sync(self._ask, query)

    @property
    def _is_inherited(self) -> bool:
        return self._db is not None and self._db.is_inherited

    def _ask(self, query: Callable[[Database], T]) -> T:
        with self._lock:
            if self._closed:
                raise refuse_closed()
            try:
                if self._db is None:
                    self._db = open_for_reading(self._path, self._vfs)
                return query(self._db)
            except (OSError, apsw.Error, UnicodeError) as error:
                raise explain(error, self._path) from error

    def try_query(self, query: Callable[[Database], T]) -> T | None:
        """What `query` gives, asked on the calling thread: for what takes microseconds. None: not
        at this moment, because somebody else reads, or another process has the file locked.
        Raises JournalError."""
        if self._db is None or self._is_inherited or not self._lock.acquire(blocking=False):
            return None
        try:
            wait_for_locks(self._db, False)
            try:
                return query(self._db)
            except LOCKED:
                return None
            except (apsw.Error, UnicodeDecodeError) as error:
                raise explain(error, self._path) from error
            finally:
                wait_for_locks(self._db, True)
        finally:
            self._lock.release()

    async def close(self) -> None:
        """Wait for the query that is being answered, and refuse later ones. Twice is fine."""
        self._closed = True
        if self._is_inherited:
            return
        if self._db is not None or self._lock.locked():
            with self._world.outside("journal thread"), anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._shut)

    def _shut(self) -> None:
        with self._lock:
            db, self._db = self._db, None
            if db is not None:
                db.close()
