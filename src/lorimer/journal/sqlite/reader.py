"""The single reading connection of a journal file, and how its use is coordinated."""

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
    """Opened at the first query; the file must exist by then."""

    def __init__(self, path: str, vfs: str | None, world: World) -> None:
        self._path, self._vfs = path, vfs
        self._world = world
        self._db: Database | None = None
        self._lock = Lock()
        """Held while the connection is in use."""
        self._closed = False

    async def query(self, query: Callable[[Database], T]) -> T:
        """The result of `query`, run in a worker thread, one at a time. Raises JournalError."""
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
        """The result of `query`, run on the calling thread: for queries that take microseconds.
        None: not possible at the moment, because of another reader, or because another process has
        locked the file. Raises JournalError."""
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
        """Wait for the current query, and refuse later ones. May be called twice."""
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
