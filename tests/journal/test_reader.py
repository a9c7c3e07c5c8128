"""The reading connection of a journal file: who may use it when."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Event

import apsw
import pytest

from lorimer.core.errors import JournalError
from lorimer.journal import SQLiteJournal
from lorimer.journal.sqlite.database import Database, number
from lorimer.journal.sqlite.reader import Reader
from lorimer.world import RealWorld


def _streams(db: Database) -> int:
    return number(db, "SELECT count(*) FROM streams")


async def _file(path: Path) -> str:
    journal = SQLiteJournal(path, world=RealWorld())
    await journal.claim("s", "me", 30)
    await journal.close()
    return str(path)


def test_a_glance_never_waits(tmp_path: Path) -> None:
    async def main() -> None:
        reader = Reader(await _file(tmp_path / "j.db"), None, RealWorld())
        assert reader.try_query(_streams) is None, "not opened yet"
        assert await reader.query(_streams) == 1
        assert reader.try_query(_streams) == 1
        began, over = Event(), Event()

        def long(db: Database) -> int:
            began.set()
            assert over.wait(10)
            return _streams(db)

        reading = asyncio.ensure_future(reader.query(long))
        while not began.is_set():
            await asyncio.sleep(0.001)
        assert reader.try_query(_streams) is None, "somebody else reads"
        over.set()
        assert await reading == 1
        assert reader.try_query(_streams) == 1
        await reader.close()
        assert reader.try_query(_streams) is None
        with pytest.raises(JournalError, match="closed"):
            await reader.query(_streams)

    asyncio.run(main())


@pytest.mark.parametrize("error", [apsw.BusyError, apsw.ProtocolError])
def test_a_glance_at_a_locked_file_does_not_wait_for_the_lock(
    error: type[apsw.Error], tmp_path: Path
) -> None:
    async def main() -> None:
        path = await _file(tmp_path / "j.db")
        reader = Reader(path, None, RealWorld())
        assert await reader.query(_streams) == 1

        def locked(db: Database) -> int:
            # what SQLite says at once when it may not wait, and after 5 s otherwise
            if number(db, "PRAGMA busy_timeout") == 0:
                raise error("locked")
            return _streams(db)

        assert reader.try_query(locked) is None
        assert await reader.query(locked) == 1, "and a query waits again"
        await reader.close()

    asyncio.run(main())


def test_a_glance_tells_of_a_damaged_file(tmp_path: Path) -> None:
    async def main() -> None:
        reader = Reader(await _file(tmp_path / "j.db"), None, RealWorld())
        await reader.query(_streams)
        with pytest.raises(JournalError, match="nothing"):
            reader.try_query(lambda db: number(db, "SELECT 1 FROM nothing"))
        await reader.close()

    asyncio.run(main())
