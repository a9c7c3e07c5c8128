"""One journal file through the lives of a process: opened anew by each, on a disk that can break,
as kill -9 or a loss of power leaves it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import apsw

from lorimer.core.world import World
from lorimer.journal import SQLiteJournal
from lorimer.journal.sqlite import database
from lorimer.world.real import RealWorld
from tests.journal.disk import Disk

NAME = "journal.db"
QUICK = Path("/dev/shm")


class Store:
    """A file in a folder of its own. Close it when it is not needed any more."""

    def __init__(self, *, empty: bool = False) -> None:
        """`empty`: there is no file yet."""
        self._home = TemporaryDirectory(dir=QUICK if QUICK.is_dir() else None)
        self._folder = Path(self._home.name, "0")
        self._folder.mkdir()
        if not empty:
            (self._folder / NAME).write_bytes(_template())
        self._images = 0
        self._patience = patch.object(database, "BUSY_MS", 0)
        self._patience.start()
        self._lock: apsw.Connection | None = None
        self.writes: list[str] = []
        """Every write, truncation and fsync that was asked for while it was watched."""
        self.strike: Callable[[int, str], None] | None = None
        """Called before each, with its number; None: it is not watched."""
        self._disk = Disk(self._before)

    @property
    def exists(self) -> bool:
        return (self._folder / NAME).exists()

    def open(self, world: World) -> SQLiteJournal:
        """The journal, for one process."""
        path = self._folder / NAME
        return SQLiteJournal(path, world=world, threads=False, vfs=self._disk.name)

    def _before(self, what: str) -> None:
        if self.strike is not None:
            self.writes.append(what)
            self.strike(len(self.writes) - 1, what)

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """For the test's own looks at it."""
        strike, self.strike = self.strike, None
        try:
            yield
        finally:
            self.strike = strike

    def die(self) -> None:
        """From now on nothing is written, whatever the process believes."""
        self._disk.dead = True

    def lock(self) -> None:
        """Another process writes, and does not stop."""
        if self.exists:
            self._lock = apsw.Connection(str(self._folder / NAME), vfs=self._disk.name)
            self._lock.execute("BEGIN IMMEDIATE")

    def unlock(self) -> None:
        if self._lock is not None:
            lock, self._lock = self._lock, None
            lock.execute("ROLLBACK")
            lock.close()

    def crashed(self, dead: SQLiteJournal | None, *, power: bool) -> None:
        """The process is gone. What it wrote is there; with `power`, only what it synced is."""
        self.strike = None
        self.unlock()
        old, self._images = self._folder, self._images + 1
        self._folder = Path(self._home.name, str(self._images))
        self._folder.mkdir()
        for name, file in self._disk.files.items():
            if power:
                (self._folder / name).write_bytes(file.durable)
            elif (old / name).exists():
                shutil.copyfile(old / name, self._folder / name)
        disk, self._disk = self._disk, Disk(self._before)
        disk.dead = True
        if dead is not None:
            _close(dead)
        disk.unregister()

    def close(self) -> None:
        self.unlock()
        self._patience.stop()
        self._disk.unregister()
        self._home.cleanup()


def _close(journal: SQLiteJournal) -> None:
    """What an operating system does for the dead."""
    try:
        journal.close().send(None)  # in line: it never waits
    except (StopIteration, Exception):  # noqa: BLE001 - its disk is gone
        pass


@cache
def _template() -> bytes:
    """An empty journal: to make its tables takes longer than a run."""
    with TemporaryDirectory() as folder:
        path = Path(folder, NAME)

        async def make() -> None:
            journal = SQLiteJournal(path, world=RealWorld(), threads=False)
            await journal.claim("s", "nobody", 0)
            await journal.close()

        asyncio.run(make())
        return path.read_bytes()
