"""The journal in one SQLite file: it survives the process, and power failures.

`writer.py` decides when and how durably a transaction is made, `streams.py` what it writes to a
stream, `reader.py` coordinates readers; `schema.py` defines the tables, `journal/codec.py` the
format of a row. This file implements the port: what each call writes and reads.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.to_thread
import apsw

from lorimer.core.errors import JournalError
from lorimer.core.events import Event
from lorimer.core.journal import Balance, Damage, LedgerEntry, Post, RunRow
from lorimer.core.jsonable import JSON
from lorimer.core.purse import Purse
from lorimer.core.world import World
from lorimer.journal.codec import micros
from lorimer.journal.projection import (
    check_append,
    pick,
    post_body,
    refuse_closed,
    refuse_snapshot,
)
from lorimer.journal.sqlite import inbox, purse_tables
from lorimer.journal.sqlite.announcements import CallAnnouncements
from lorimer.journal.sqlite.database import Database, Row, one
from lorimer.journal.sqlite.faults import explain
from lorimer.journal.sqlite.reader import Reader
from lorimer.journal.sqlite.removal import compact_step, drop_stream, space, sweep_documents, vacuum
from lorimer.journal.sqlite.rowcheck import RowCheck
from lorimer.journal.sqlite.rows import (
    SELECT_RUNS,
    Scan,
    blob,
    data_version,
    run_rows,
    whole,
)
from lorimer.journal.sqlite.schema import MEMORY
from lorimer.journal.sqlite.streams import Append, Streams
from lorimer.journal.sqlite.writer import Writer
from lorimer.journal.wake import Wakers
from lorimer.world.real import RealWorld

T = TypeVar("T")

POLL_S: Final = 0.05
"""Seconds between checks for writes of other processes, while somebody follows."""
SMALL_BYTES: Final = 65_536
"""Documents and snapshots up to this size may be written inline."""

_UPSERT_SNAPSHOT: Final = """
    INSERT INTO snapshots VALUES(?,?,?) ON CONFLICT(stream) DO UPDATE SET
    seq=excluded.seq, body=excluded.body WHERE excluded.seq>=seq"""


class SQLiteJournal:
    """A Journal in the SQLite file at `path`, opened or created at the first use.

    The file is created with mode 0600, its directory, where missing, with 0700. Any number of
    processes may use it; on a network file system none may. One object may be used by event loops
    of several threads at once. In a process that was forked while the file was open here, it, and
    any other of that file, raises JournalError: open it after the fork.

    A thread syncs what is written (see writer.py), readers use short-lived worker threads.
    `threads=False` does everything in line on the caller's thread, fsyncs included: for
    simulations under virtual time and fault injection, where order must not depend on a
    scheduler, and the only way to use the path ":memory:". `vfs` names an apsw VFS to reach the
    file through; then the directory must exist, and modes are the VFS's business.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        world: World | None = None,
        threads: bool = True,
        vfs: str | None = None,
    ) -> None:
        world = world or RealWorld()
        self._path = os.fspath(path)
        if self._path == MEMORY and threads:
            raise JournalError("a journal in memory has one connection: give threads=False")
        if self._path != MEMORY and vfs is None:
            self._path = os.path.abspath(self._path)  # the program may change its working directory
        self._world = world
        self._threads = threads
        self._vfs = vfs
        self._streams = Streams(world)
        self._wakers = Wakers()
        self._reader = Reader(self._path, vfs, world)
        try_query = self._reader.try_query if threads else None
        self._inbox_poller = inbox.InboxPoller(self._query, try_query)
        # not with a VFS: it may defer or lose a write of a killed process
        calls = self._path + "-calls" if threads and vfs is None else ""
        self._announcements = CallAnnouncements(calls)
        self._closed = False
        self._writer = Writer(
            self._path, world=world, threads=threads, vfs=vfs, forget=self._streams.forget
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the journal, including those of SQLite, which tools must not see."""
        return tuple(Path(self._path + end) for end in ("", "-wal", "-shm", "-journal", "-calls"))

    # -- writing ---------------------------------------------------------------------------------

    durable = True

    def __repr__(self) -> str:
        return f"<SQLiteJournal {self._path!r}>"

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        """See Journal. Committed inline, immediately, in about 20 us, unless something prevents it,
        or several others wait: then together with everything that comes in the same iteration of
        the loop. What is to be synced waits for an fsync, shared with all others that wait for one.

        Raises JournalError `exec.journal.failed` also for facts that are not plain JSON; nothing is
        stored then. Only after a failed sync is that unknown until the file is opened again. Times
        are stored in whole microseconds.
        """
        check_append(len(facts), ledger)
        job = Append(self._streams, stream, epoch, facts, ledger, sync, self._wakers.wake)
        if not sync or facts[-1].type != "tool.intent":
            await self._writer.submit(job)
            return job.last
        place = self._announcements.announce(facts[-1])
        try:
            await self._writer.submit(job)
        finally:
            self._announcements.withdraw(place)
        return job.last

    async def claim(self, stream: str, owner: str, ttl: float) -> int:
        """See Journal."""
        return await self._submit(partial(self._streams.claim, stream, owner, ttl))

    async def renew(self, stream: str, epoch: int, ttl: float) -> None:
        """See Journal."""
        await self._submit(partial(self._streams.renew, stream, epoch, ttl))

    async def release(self, stream: str, epoch: int) -> None:
        """See Journal."""
        await self._submit(partial(self._streams.release, stream, epoch))

    async def post(self, stream: str, id: str, message: Mapping[str, JSON]) -> bool:
        """See Journal. Watchers in other processes are notified within about 20 ms."""
        job = partial(inbox.put, stream, id, post_body(id, message), micros(self._world.time()))
        new = await self._writer.run(job, stream, sync=True)
        if new:
            self._inbox_poller.tell(stream)
        return new

    def never_began(self, intent: Event) -> bool:
        """See Journal. Only on Linux, if the process ended but the machine did not."""
        return self._announcements.never_began(intent)

    async def posts(self, stream: str) -> list[Post]:
        """See Journal."""
        return await self._query(partial(inbox.waiting, stream))

    def watch(self, stream: str, tell: Callable[[], None]) -> Callable[[], None]:
        """See Journal. With `threads=False` only posts of this object are noticed."""
        return self._inbox_poller.watch(stream, tell)

    async def put(self, digest: str, body: bytes) -> None:
        """See Journal. Visible; the next synced append syncs it too."""
        sql = "INSERT INTO documents VALUES(?,?) ON CONFLICT DO NOTHING"
        await self._submit(partial(_execute, sql, (digest, body)), size=len(body))

    async def put_snapshot(self, stream: str, seq: int, body: bytes) -> None:
        """See Journal. A fold that covers less than the stored one changes nothing."""
        await self._submit(partial(_put_snapshot, stream, seq, body), size=len(body))

    async def _submit(self, job: Callable[[Database], T], *, size: int = 0) -> T:
        stream = "" if size <= SMALL_BYTES else None
        return await self._writer.run(job, stream)

    async def drop(self, stream: str, *, before: float) -> bool:
        """See Journal. Its pages become free for new facts; see `vacuum`."""
        return await self._writer.run(partial(self._drop, stream, before), None)

    def _drop(self, stream: str, before: float, db: Database) -> bool:
        self._streams.dropped(stream)
        return drop_stream(db, stream, before, self._world.time())

    async def sweep(self) -> int:
        """See Journal. About 20 us per run."""

        def job(db: Database) -> int:
            return sweep_documents(db, self._world.time())

        return await self._writer.run(job, None)

    async def compact(self, stream: str, *, before: float) -> int | None:
        """See Journal. In steps of about 15 ms, each a transaction of its own: other writers hardly
        wait, and an interruption leaves a valid state. To release pages: `vacuum`."""

        def job(db: Database) -> int | None:
            return compact_step(db, stream, before, self._world.time())

        saved = step = await self._writer.run(job, None)
        while step:
            step = await self._writer.run(job, None)
            saved = (saved or 0) + (step or 0)
        return saved

    async def vacuum(self) -> None:
        """Return the free pages of the file to the disk: rewrites it completely, for which it needs
        space for a second one. Other writers wait, or fail after 5 s; so does this."""
        await self._writer.open()
        try:
            if self._threads:
                with self._world.outside("journal thread"):
                    await anyio.to_thread.run_sync(vacuum, self._path, self._vfs)
            else:
                vacuum(self._path, self._vfs)
        except apsw.Error as error:
            raise explain(error, self._path) from error

    async def __aenter__(self) -> SQLiteJournal:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Commit what is queued, end the writer thread, close the file. May be called twice."""
        self._closed = True
        self._inbox_poller.close()
        await self._reader.close()
        await self._writer.close()
        self._announcements.close()

    # -- reading ---------------------------------------------------------------------------------

    async def read(
        self, stream: str, after: int = 0, *, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        """See Journal. With `follow`, appends of this process are seen immediately, those of others
        within about 50 ms. A damaged row raises JournalError when it is reached."""
        scan = Scan(stream, after)
        while True:
            waiter = self._wakers.register(stream) if follow else None
            try:
                facts = await self._query(scan.chunk)
                for fact in facts:
                    yield fact
                if waiter is None and (scan.at_end or not facts):
                    return
                if waiter is None or facts:
                    continue
                await self._changed(waiter, scan)
            finally:
                self._wakers.forget(stream, waiter)

    async def _changed(self, waiter: asyncio.Future[None], scan: Scan) -> None:
        if self._path == MEMORY:
            await waiter
        while not waiter.done():
            pause = asyncio.ensure_future(self._world.sleep(POLL_S))
            try:
                await asyncio.wait((waiter, pause), return_when=asyncio.FIRST_COMPLETED)
            finally:
                pause.cancel()
            if not waiter.done() and await self._query(data_version) != scan.version:
                return

    async def snapshot(self, stream: str) -> tuple[int, bytes] | None:
        """See Journal."""
        sql = """SELECT seq, body FROM snapshots
                 WHERE stream=(SELECT id FROM streams WHERE name=?)"""
        row = await self._query(partial(_find, sql, stream))
        return (whole(row[0]), blob(row[1])) if row is not None else None

    async def get(self, digest: str) -> bytes | None:
        """See Journal."""
        row = await self._query(partial(_find, "SELECT body FROM documents WHERE digest=?", digest))
        return blob(row[0]) if row is not None else None

    async def runs(
        self, *, limit: int = 50, stream: str = "", unfinished: bool = False
    ) -> list[RunRow]:
        """See Journal."""
        chosen = "WHERE ended IS NULL " if unfinished else "WHERE true "
        values: tuple[str | int, ...] = (max(limit, 0),)
        if stream:
            chosen, values = f"{chosen}AND name=? ", (stream, *values)
        sql = f"{SELECT_RUNS}{chosen}ORDER BY runs.id DESC LIMIT ?"
        return await self._query(partial(run_rows, sql, values))

    async def find_run(self, run_id: str) -> RunRow | None:
        """See Journal."""
        if not run_id:
            return None
        sql = SELECT_RUNS + "WHERE run_id>=? AND run_id<=? ORDER BY run_id LIMIT 10"
        bounds = (run_id, run_id + "\U0010ffff")
        return pick(run_id, await self._query(partial(run_rows, sql, bounds)))

    async def holder(self, stream: str) -> tuple[str, float] | None:
        """See Journal."""
        sql = "SELECT owner, lease_until FROM streams WHERE name=? AND owner IS NOT NULL"
        row = await self._query(partial(_find, sql, stream))
        return (str(row[0]), whole(row[1]) / 1e6) if row is not None else None

    async def check(self, stream: str) -> list[Damage]:
        """See Journal. About 10 us per row."""
        rows = RowCheck(stream)
        while await self._query(rows.chunk):
            pass
        return rows.found

    async def space(self) -> tuple[int, int]:
        """Bytes of the database, and how many of them are free."""
        return await self._query(space)

    async def balance(self, account: str) -> Balance:
        """See Journal."""
        sql = "SELECT reserved, spent FROM ledger WHERE account=?"
        row = await self._query(partial(_find, sql, account))
        return Balance(whole(row[0]), whole(row[1])) if row is not None else Balance()

    async def used(self, purse: Purse) -> Balance:
        """See Journal."""
        return await self._query(partial(purse_tables.used, purse, self._world.time()))

    async def shares(self, name: str) -> Mapping[str, Balance]:
        """See Journal."""
        return await self._query(partial(purse_tables.shares, name))

    async def _query(self, query: Callable[[Database], T]) -> T:
        if self._closed:
            raise refuse_closed()
        if not self._threads:
            return await self._writer.run(query, "")
        await self._writer.open()
        return await self._reader.query(query)


def _execute(sql: str, values: tuple[str | bytes, ...], db: Database) -> None:
    db.execute(sql, values)


def _put_snapshot(stream: str, seq: int, body: bytes, db: Database) -> None:
    row = one(db, "SELECT id FROM streams WHERE name=?", stream)
    if row is None:
        raise refuse_snapshot(stream)
    db.execute(_UPSERT_SNAPSHOT, (whole(row[0]), seq, body))


def _find(sql: str, value: str, db: Database) -> Row | None:
    return one(db, sql, value)
