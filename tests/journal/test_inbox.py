"""The inbox of a journal file, as several processes see it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from lorimer.journal import SQLiteJournal
from lorimer.world import RealWorld


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
