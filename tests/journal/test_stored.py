"""Journals that earlier versions of the format left behind open, are migrated, and go on."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from pathlib import Path

import apsw
import pytest

from lorimer import Pipeline
from lorimer.core.errors import JournalError
from lorimer.journal import SQLiteJournal
from lorimer.journal.sqlite.schema import VERSION
from lorimer.journal.verify import verify
from tests.journal.stored import make

STORED = sorted(Path(make.__file__).parent.glob("version*.db"))


@pytest.fixture(params=STORED, ids=[path.stem for path in STORED])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copy(request.param, tmp_path / "journal.db"))


def test_there_is_one_of_every_version_but_the_newest_which_tests_write_themselves() -> None:
    assert [path.stem for path in STORED] == [f"version{n}" for n in range(1, VERSION)]


def number(path: Path, sql: str) -> int:
    db = apsw.Connection(str(path))
    [(found,)] = db.execute(sql)
    db.close()
    assert isinstance(found, int)
    return found


def test_it_is_what_its_name_says(old: Path, request: pytest.FixtureRequest) -> None:
    version = int(request.node.callspec.id.removeprefix("version"))
    assert number(old, "PRAGMA user_version") == version


def test_it_opens_is_migrated_verified_and_its_last_run_goes_on(old: Path) -> None:
    async def main() -> None:
        async with SQLiteJournal(old) as journal:
            rows = await journal.runs()
            assert [row.status for row in rows] == ["", "ok", "error", "ok"]
            for row in rows:
                assert await verify(journal, row.run_id) == []
            facts = [fact async for fact in journal.read("session_stored")]
            assert [fact.seq for fact in facts] == list(range(1, 31))
            manifest = await journal.get(str(facts[0].data["manifest"]))
            send = make.tools()
            pipeline = Pipeline.from_manifest(
                json.loads(manifest or b""),
                tools=send,
                models=make.models(["I cannot tell whether it was sent."]),
                journal=journal,
                owner="stored",
            )
            result = await pipeline.resume(rows[0].run_id)
            assert result.text == "I cannot tell whether it was sent."
            assert "exec.tool.outcome_unknown" in str(result.steps[-1].content)
            assert [tool.calls for tool in send] == [[], [], []], "nothing was repeated"
            assert await verify(journal, result.run_id) == []
            for row in (rows[1], rows[3]):
                assert (await pipeline.replay(row.run_id)).divergence is None
            again = await pipeline.run("And now?", raise_on_error=False)
            assert again.messages[: len(result.messages)] == result.messages
            assert await verify(journal, "session_stored") == []

    asyncio.run(main())
    assert number(old, "PRAGMA user_version") == VERSION
    assert number(old, "SELECT count(*) FROM facts WHERE length(mark)<>12") == 0


def test_it_opens_once_another_process_that_opens_it_gives_way(old: Path) -> None:
    other = apsw.Connection(str(old))
    assert other.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    other.execute("BEGIN IMMEDIATE")
    ends = threading.Timer(0.05, other.execute, ["COMMIT"])
    ends.start()

    async def main() -> None:
        async with SQLiteJournal(old) as journal:
            assert len(await journal.runs()) == 4

    asyncio.run(main())
    ends.join()
    other.close()


def test_two_processes_that_open_it_at_once_migrate_it_once(old: Path) -> None:
    async def main() -> None:
        journals = [SQLiteJournal(old) for _ in range(4)]
        rows = await asyncio.gather(*[journal.runs() for journal in journals])
        assert [len(found) for found in rows] == [4] * 4
        for journal in journals:
            await journal.close()

    asyncio.run(main())
    assert number(old, "PRAGMA user_version") == VERSION


def test_rows_that_are_none_are_told_before_anything_is_migrated(tmp_path: Path) -> None:
    old = Path(shutil.copy(STORED[0], tmp_path / "journal.db"))
    db = apsw.Connection(str(old))
    db.execute("DROP TABLE facts; CREATE TABLE facts(at INTEGER PRIMARY KEY, body TEXT)")
    db.execute("INSERT INTO facts VALUES(?, NULL)", (1 << 32 | 1,))
    db.close()

    async def main() -> None:
        async with SQLiteJournal(old) as journal:
            with pytest.raises(JournalError, match="a row is malformed"):
                await journal.runs()

    asyncio.run(main())
    assert number(old, "PRAGMA user_version") == 1
