"""The inbox of a journal file, as several processes see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from lorimer.core.errors import JournalError
from lorimer.journal import SQLiteJournal
from lorimer.journal.sqlite.database import Database
from lorimer.journal.sqlite.inbox import InboxPoller
from lorimer.journal.sqlite.reader import Reader
from lorimer.world import RealWorld

T = TypeVar("T")


async def _until(true: list[str]) -> None:
    async with asyncio.timeout(5):
        while not true:
            await asyncio.sleep(0.005)


def test_a_post_of_another_process_is_told_soon(tmp_path: Path) -> None:
    async def main() -> None:
        mine = SQLiteJournal(tmp_path / "j.db", world=RealWorld())
        theirs = SQLiteJournal(tmp_path / "j.db", world=RealWorld())
        await mine.claim("s", "me", 30)
        await theirs.post("s", "before anyone watched", {})
        told: list[str] = []
        end = mine.watch("s", lambda: told.append("s"))
        await _until(told)  # what waits already may be told, and so it is at the first look
        told.clear()
        await theirs.post("s", "m", {"text": "hello"})
        await _until(told)
        assert [post.id for post in await mine.posts("s")] == ["before anyone watched", "m"]
        end()
        told.clear()
        await theirs.post("s", "n", {})
        await asyncio.sleep(0.15)
        assert told == []
        await mine.close()
        await theirs.close()

    asyncio.run(main())


def test_watching_goes_on_in_the_next_event_loop(tmp_path: Path) -> None:
    journal = SQLiteJournal(tmp_path / "j.db", world=RealWorld())

    async def main(id: str) -> None:
        await journal.claim("s", "me", 30)
        told: list[str] = []
        journal.watch("s", lambda: told.append("s"))
        other = SQLiteJournal(tmp_path / "j.db", world=RealWorld())
        await other.post("s", id, {})
        await _until(told)
        await other.close()

    asyncio.run(main("one"))
    asyncio.run(main("two"))
    asyncio.run(journal.close())


def test_who_ends_watching_twice_ends_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        mine = SQLiteJournal(tmp_path / "j.db", world=RealWorld())
        theirs = SQLiteJournal(tmp_path / "j.db", world=RealWorld())
        await mine.claim("s", "me", 30)
        end = mine.watch("s", lambda: None)
        end()
        told: list[str] = []
        mine.watch("s", lambda: told.append("s"))
        end()
        await asyncio.sleep(0.1)
        told.clear()
        await theirs.post("s", "m", {})
        await _until(told)
        told.clear()
        await mine.post("s", "n", {})
        await asyncio.sleep(0)  # at once, and not by looking at the file
        assert told  # more than once where a look at the file was late
        await mine.close()
        await theirs.close()

    asyncio.run(main())


def test_a_closed_journal_does_not_look_at_its_file_any_more(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "j.db"
        async with SQLiteJournal(path, world=RealWorld()) as journal:
            await journal.claim("s", "me", 30)
        reader = Reader(str(path), None, RealWorld())
        looks: list[None] = []

        def try_query(query: Callable[[Database], T]) -> T | None:
            looks.append(None)
            return reader.try_query(query)

        lookout = InboxPoller(reader.query, try_query)
        lookout.watch("s", lambda: None)
        async with asyncio.timeout(5):
            while not looks:
                await asyncio.sleep(0.005)
        looks.clear()
        lookout.close()
        await asyncio.sleep(0.1)
        assert not looks
        await reader.close()

    asyncio.run(main())


def test_while_the_file_cannot_be_asked_at_once_a_thread_asks(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "j.db"
        theirs = SQLiteJournal(path, world=RealWorld())
        await theirs.claim("s", "me", 30)
        reader = Reader(str(path), None, RealWorld())

        def try_query(query: Callable[[Database], T]) -> T | None:
            return None

        lookout = InboxPoller(reader.query, try_query)
        told: list[str] = []
        end = lookout.watch("s", lambda: told.append("s"))
        await asyncio.sleep(0.1)
        await theirs.post("s", "m", {})
        await _until(told)
        end()
        await reader.close()
        await theirs.close()

    asyncio.run(main())


def test_that_posts_are_not_noticed_is_said_once(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    async def main() -> None:
        path = tmp_path / "j.db"
        theirs = SQLiteJournal(path, world=RealWorld())
        await theirs.claim("s", "me", 30)
        reader = Reader(str(path), None, RealWorld())
        looks: list[None] = []

        def try_query(query: Callable[[Database], T]) -> T | None:
            looks.append(None)
            if 2 <= len(looks) < 5:
                raise JournalError("the disk is gone")
            return reader.try_query(query)

        lookout = InboxPoller(reader.query, try_query)
        told: list[str] = []
        end = lookout.watch("s", lambda: told.append("s"))
        async with asyncio.timeout(5):
            while len(looks) < 4:
                await asyncio.sleep(0.005)
        await theirs.post("s", "m", {})
        await _until(told)
        end()
        await reader.close()
        await theirs.close()

    asyncio.run(main())
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == ["posts of other processes are not noticed: the disk is gone"]


@pytest.mark.parametrize("body", ["[[", "[1]", "[" * 100_000])
def test_a_damaged_post_is_named(tmp_path: Path, body: str) -> None:
    async def main() -> None:
        async with SQLiteJournal(tmp_path / "j.db", world=RealWorld()) as journal:
            await journal.claim("s", "me", 30)
            await journal.post("s", "m", {"text": "hello"})
            await journal._submit(lambda db: db.execute("UPDATE inbox SET body=?", (body,)))
            with pytest.raises(JournalError, match="message 'm' to 's' is damaged"):
                await journal.posts("s")

    asyncio.run(main())
