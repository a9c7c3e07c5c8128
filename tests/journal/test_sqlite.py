"""The SQLite journal: what survives, who waits for whom, what a broken file or disk says."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from uuid import uuid4

import anyio
import apsw
import pytest

from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import FACT_KINDS
from lorimer.core.journal import Balance, Journal, LedgerEntry
from lorimer.journal import SQLiteJournal
from lorimer.journal.sqlite import rowcheck, schema, streams, transactions, wal
from lorimer.journal.sqlite import rows as rows_module
from lorimer.journal.sqlite import writer as writer_module
from lorimer.journal.sqlite.rows import Head
from lorimer.journal.sqlite.writer import THREAD_NAME
from tests.journal.support import (
    NOW,
    Clock,
    Disk,
    Store,
    end,
    fact,
    facts_of,
    iteration,
    keys,
    note,
    start,
)
from tests.quick import calls

FAILED = ExecutorErrorCode.EXEC_JOURNAL_FAILED
VERSION = ExecutorErrorCode.EXEC_JOURNAL_VERSION


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("sqlite", tmp_path / "new" / "journal.db")


@pytest.fixture(params=["sqlite", "sqlite-inline"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(request.param, tmp_path / "new" / "journal.db")


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk(f"disk-{uuid4()}")
    yield disk
    disk.may_sync.set()
    disk.unregister()


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def raw(path: Path, *statements: str) -> list[object]:
    db = apsw.Connection(str(path))
    try:
        return [row for sql in statements for row in db.execute(sql)]
    finally:
        db.close()


# --- what survives --------------------------------------------------------------------------


def test_everything_is_there_when_the_file_is_opened_again(any_store: Store) -> None:
    written = [start(title="first"), *[f for row in iteration(1) for f in row], end(cost=5)]

    async def write(journal: Journal) -> int:
        epoch = await journal.claim("s", "me", 30)
        for one in written[:3]:
            await journal.append("s", epoch, [one], sync=False, ledger=LedgerEntry("a", 1, 2))
        await journal.append("s", epoch, written[3:], sync=True)
        await journal.put("d", b"document")
        await journal.put_snapshot("s", 4, b"snapshot")
        return epoch

    async def check(journal: Journal) -> None:
        assert await facts_of(journal, "s") == written
        assert await facts_of(journal, "s", 4) == written[4:]
        assert await journal.balance("a") == Balance(3, 6)
        assert await journal.get("d") == b"document"
        assert await journal.snapshot("s") == (4, b"snapshot")
        assert [(row.title, row.cost_nano) for row in await journal.runs()] == [("first", 5)]
        with pytest.raises(JournalError, match="being written by 'me'"):
            await journal.claim("s", "you", 30)
        more = [start("run_b"), note("more", "run_b")]
        await journal.append("s", epoch, more, sync=False)  # the claim is the file's, not ours
        assert [event.seq for event in more] == [len(written) + 1, len(written) + 2]
        assert await facts_of(journal, "s", len(written)) == more

    epoch = any_store.run(write)
    any_store.run(check)


def test_the_file_is_private(store: Store) -> None:
    async def write(journal: Journal) -> list[int]:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        return [stat.S_IMODE(path.stat().st_mode) for path in store.path.parent.iterdir()]

    old = os.umask(0)
    try:
        assert store.run(write) == [0o600] * 3  # database, log, index of the log
    finally:
        os.umask(old)
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700


def test_folders_made_for_the_file_are_private(tmp_path: Path) -> None:
    """Whoever may write to one above could put another in place of the file's own."""
    old = os.umask(0)
    try:
        Store("sqlite", tmp_path / "one" / "two" / "runs.db").run(lambda journal: journal.runs())
    finally:
        os.umask(old)
    for folder in (tmp_path / "one", tmp_path / "one" / "two"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def locks_on(path: Path) -> list[str]:
    """What this process has locked of a file, as the kernel says twice: while others take locks and
    let go of them, it may leave a line out."""
    told: list[list[str]] = []
    while len(told) < 2 or told[-1] != told[-2]:
        said = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        mine = [words[1:] for words in said if str(os.getpid()) in words]
        inode = f":{path.stat().st_ino}"
        told.append([" ".join(words) for words in mine if any(w.endswith(inode) for w in words)])
    return told[-1]


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells")
def test_another_journal_on_the_file_in_this_process_takes_no_lock_away(store: Store) -> None:
    async def write(journal: Journal) -> None:
        await journal.put("d", b"document")
        before = locks_on(store.path)
        async with SQLiteJournal(store.path) as second:
            await second.put("e", b"document")
            assert locks_on(store.path) == before
        assert before

    store.run(write)


def test_whoever_waits_is_told_when_the_thread_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what nobody thought of; and the journal goes on."""

    def fail(self: object) -> None:
        raise RuntimeError("a fault of ours")

    async def write(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        with monkeypatch.context() as patch:
            patch.setattr(transactions.Transactions, "sync", fail)
            with anyio.fail_after(20), pytest.raises(JournalError, match="a fault of ours"):
                await journal.append("s", epoch, [note("1")], sync=True)
        with monkeypatch.context() as patch:
            patch.setattr(transactions.Transactions, "commit", lambda self, jobs: fail(self))
            with anyio.fail_after(20), pytest.raises(JournalError, match="a fault of ours"):
                await journal.put("digest", bytes(70_000))  # too large to be written in line
        assert await journal.append("s", epoch, [note("2")], sync=True) == 3

    store.run(write)


@pytest.mark.parametrize("count", [3, 4, 5, 7, 8, 9])
@pytest.mark.parametrize("chars", [1, 1_000_000])
def test_a_stream_is_read_to_its_end_however_its_chunks_fall(
    store: Store, count: int, chars: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "CHUNK_ROWS", 4)
    monkeypatch.setattr(rows_module, "CHUNK_CHARS", chars)

    async def write(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=False)
        for number in range(1, count):
            await journal.append("s", epoch, [note(str(number))], sync=False)
        for after in (0, 1, count - 1, count):
            found = [fact.seq async for fact in journal.read("s", after)]
            assert found == list(range(after + 1, count + 1))

    store.run(write)


CHILD = """
import asyncio, os, sys
from tests.journal.support import Store, note, start
from pathlib import Path

async def main():
    journal = Store("sqlite", Path(sys.argv[1])).open()
    epoch = await journal.claim("s", "child", 30)
    await journal.append("s", epoch, [start()], sync=True)
    number = 0
    while sys.argv[2] == "until killed" or number < int(sys.argv[2]):
        number += 1
        await journal.append("s", epoch, [note(str(number))], sync=number % 50 == 0)
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
    os._exit(3)

asyncio.run(main())
"""


def child(path: Path, count: str, code: str = CHILD) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path), count],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )


def noted(store: Store) -> list[str]:
    async def read(journal: Journal) -> list[str]:
        return [str(key) for key in keys(await facts_of(journal, "s", 1))]

    return store.run(read)


def test_what_was_visible_survives_the_end_of_the_process(store: Store) -> None:
    process = child(store.path, "120")
    told, _ = process.communicate(timeout=20)
    assert process.returncode == 3
    assert noted(store) == told.split() == [str(number) for number in range(1, 121)]


def test_what_was_visible_survives_a_kill(store: Store) -> None:
    process = child(store.path, "until killed")
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(230)]
    process.send_signal(signal.SIGKILL)
    told += process.stdout.read().split()
    process.stdout.close()
    process.wait(10)
    kept = noted(store)
    assert kept[: len(told)] == told
    assert len(told) <= len(kept) <= len(told) + 1  # at most the one it had no time to tell

    async def go_on(journal: Journal) -> None:
        store.clock.now += 1e9  # by its clock the dead one's claim is long over
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [end()], sync=True)

    store.run(go_on)
    assert noted(store) == [*kept, "run.end"]


# --- who may write --------------------------------------------------------------------------


def test_two_processes_write_one_file(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("mine", "me", 30)
        process = child(store.path, "300")
        seen: list[object] = []

        async def follow() -> None:
            async for event in journal.read("s", 1, follow=True):
                seen.append(event.data["key"])
                if len(seen) == 300:
                    return

        following = asyncio.create_task(follow())
        number = 0
        while process.poll() is None:
            number += 1
            await journal.append("mine", epoch, [note(str(number))], sync=number % 20 == 0)
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await following
        assert process.returncode == 3
        assert seen == [str(number) for number in range(1, 301)]
        assert len(await facts_of(journal, "mine")) == number
        assert process.stdout is not None
        process.stdout.close()

    store.run(test)


def test_the_file_fences_a_writer_that_another_process_replaced(any_store: Store) -> None:
    async def test(old: Journal) -> None:
        epoch = await old.claim("s", "old", 30)
        await old.append("s", epoch, [start()], sync=True)
        await old.append("s", epoch, [note("a")], sync=False)
        new = any_store.open()
        any_store.clock.now += 31
        taken = await new.claim("s", "new", 30)
        await new.append("s", taken, [note("b")], sync=False)
        for sync in (False, True):
            with pytest.raises(JournalError) as caught:
                await old.append("s", epoch, [note("zombie")], sync=sync)
            assert caught.value.code is ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
        any_store.clock.now += 31
        again = await old.claim("s", "old", 30)
        await old.append("s", again, [note("c")], sync=False)
        assert keys(await facts_of(old, "s", 1)) == ["a", "b", "c"]
        await new.close()

    any_store.run(test)


def test_an_append_takes_so_much_for_each_run_that_begins_in_it(tmp_path: Path) -> None:
    async def test(journal: Journal) -> None:
        epoch, taken = await journal.claim("s", "me", 30), list[int]()
        for begun, until in ((0, 20), (20, 220)):
            ids = [f"r{number}" for number in range(begun, until)]
            facts = [fact for run_id in ids for fact in (start(run_id), end(run_id))]
            with calls() as made:
                await journal.append("s", epoch, facts, sync=False)
            taken += made
        few, many = taken
        assert many < 15 * few
        assert len(await journal.runs(limit=1_000)) == 220

    Store("sqlite-inline", tmp_path / "journal.db").run(test)


def test_the_holder_of_a_stream_is_known(any_store: Store) -> None:
    async def test(journal: SQLiteJournal) -> None:
        assert await journal.holder("s") is None
        epoch = await journal.claim("s", "me", 30)
        assert await journal.holder("s") == ("me", round(NOW + 30, 6))
        await journal.release("s", epoch)
        assert await journal.holder("s") is None

    any_store.run(test)  # type: ignore[arg-type]


def test_two_writers_under_one_name_do_not_overwrite_each_other(any_store: Store) -> None:
    async def test(one: Journal) -> None:
        two = any_store.open()
        epoch = await one.claim("s", "same", 30)
        assert await two.claim("s", "same", 30) == epoch
        await one.append("s", epoch, [note("a")], sync=True)
        await two.append("s", epoch, [note("b"), note("c")], sync=True)
        await two.append("s", epoch, [note("d")], sync=False)
        for _ in range(2):
            with pytest.raises(JournalError) as caught:
                await one.append("s", epoch, [note("lost?"), note("?"), note("?")], sync=False)
            assert caught.value.code is ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
        assert keys(await facts_of(one, "s")) == ["a", "b", "c", "d"]
        await two.close()

    any_store.run(test)


def test_two_processes_may_create_the_file_at_once(store: Store) -> None:
    async def create() -> None:
        journals = [store.open() for _ in range(8)]

        async def write(number: int) -> None:
            epoch = await journals[number].claim(f"s{number}", "me", 30)
            await journals[number].append(f"s{number}", epoch, [note("a")], sync=True)

        await asyncio.gather(*[write(number) for number in range(8)])
        for number in range(8):
            assert keys(await facts_of(journals[0], f"s{number}")) == ["a"]
        await asyncio.gather(*[journal.close() for journal in journals])

    asyncio.run(create())


def test_a_lock_of_another_process_does_not_hold_up_the_loop(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        for text in "ab":
            await journal.append("s", epoch, [note(text)], sync=False)
        other = apsw.Connection(str(store.path))
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(journal.append("s", epoch, [note("c")], sync=False))  # type: ignore[arg-type]
        began = time.monotonic()
        await asyncio.sleep(0.05)
        assert time.monotonic() - began < 2.5  # not the 5 s that the thread would wait
        assert not writing.done()
        other.execute("ROLLBACK")
        await writing
        other.close()
        assert keys(await facts_of(journal, "s")) == ["a", "b", "c"]

    store.run(test)


# --- commits --------------------------------------------------------------------------------


def test_visible_commits_are_made_in_line_and_never_fsynced(store: Store, disk: Disk) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        synced, announced = disk.syncs, store.clock.announced
        for number in range(100):
            await journal.append("s", epoch, [note(str(number))], sync=False)
        assert (disk.syncs, store.clock.announced) == (synced, announced)
        await journal.append("s", epoch, [note("synced")], sync=True)
        assert disk.syncs == synced + 1
        assert disk.threads == {THREAD_NAME}
        other = await journal.claim("t", "me", 30)
        await journal.append("t", other, [start("run_t")], sync=True)
        announced = store.clock.announced
        await journal.append("s", epoch, [note("x")], sync=False)  # however many runs there are
        assert store.clock.announced == announced

    store.run(test, disk.name)


def test_a_visible_commit_is_not_fsynced_before_the_first_synced_one(
    any_store: Store, disk: Disk
) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)  # opens the file, and begins the log
        synced = disk.syncs
        for number in range(10):
            await journal.append("s", epoch, [note(str(number))], sync=False)
        assert disk.syncs == synced

    any_store.run(test, disk.name)


def test_a_long_run_of_visible_commits_never_fsyncs_on_the_loop(store: Store, disk: Disk) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        before = disk.syncs
        for number in range(2500):  # the log is checkpointed and begun anew twice
            await journal.append("s", epoch, [note(str(number))], sync=False)
            if disk.syncs != before:
                await asyncio.sleep(0.02)  # the checkpoint is done before the next one comes
                before = disk.syncs
        assert disk.threads == {THREAD_NAME}
        assert disk.syncs < 20
        assert (store.path.with_name("journal.db-wal")).stat().st_size < 20_000_000
        assert len(await facts_of(journal, "s")) == 2501

    store.run(test, disk.name)


def test_the_log_does_not_grow_for_ever_under_commits_without_a_pause(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "CHECKPOINT_PAGES", 40)
    monkeypatch.setattr(transactions, "MAX_WAL_PAGES", 160)

    async def test(journal: Journal) -> None:
        async def write(stream: str) -> None:
            epoch = await journal.claim(stream, "me", 30)
            for number in range(1000):
                await journal.append(stream, epoch, [note(str(number))], sync=number % 9 == 0)

        await asyncio.gather(*[write(f"s{number}") for number in range(6)])
        size = store.path.with_name("journal.db-wal").stat().st_size
        assert size < 600 * schema.PAGE_BYTES
        assert len(await facts_of(journal, "s5")) == 1000

    store.run(test)


def test_the_log_is_written_over_not_made_longer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "CHECKPOINT_PAGES", 40)
    monkeypatch.setattr(transactions, "MAX_WAL_PAGES", 1000)

    async def test(journal: Journal) -> None:
        async def write(stream: str) -> None:
            epoch = await journal.claim(stream, "me", 30)
            await journal.append(stream, epoch, [start(f"run_{stream}")], sync=True)
            for number in range(100):
                announced = store.clock.announced
                await journal.append(stream, epoch, [note(str(number))], sync=False)
                await journal.append(stream, epoch, [note(f"{number}!")], sync=False)
                if stream == "alone":  # in line, also after a checkpoint
                    assert store.clock.announced == announced
                await journal.append(stream, epoch, [note(f"{number}!!")], sync=True)

        await write("alone")
        assert store.path.with_name("journal.db-wal").stat().st_size < 60 * schema.PAGE_BYTES
        await asyncio.gather(*[write(f"s{number}") for number in range(20)])
        # Of 11,000 pages. (About 150 where the thread is let run, more where it has to wait.)
        assert store.path.with_name("journal.db-wal").stat().st_size < 2200 * schema.PAGE_BYTES
        assert len(await facts_of(journal, "s9")) == 301

    store.run(test)


def test_no_visible_commit_waits_for_the_fsync_of_another(store: Store, disk: Disk) -> None:
    async def test(journal: Journal) -> None:
        epochs = {name: await journal.claim(name, "me", 30) for name in "st"}
        await journal.append("s", epochs["s"], [start()], sync=True)
        disk.may_sync.clear()
        disk.syncing.clear()
        synced = [
            asyncio.create_task(journal.append(name, epoch, [note("synced")], sync=True))  # type: ignore[arg-type]
            for name, epoch in epochs.items()
        ]
        await asyncio.to_thread(disk.syncing.wait, 5)
        third = await journal.claim("u", "me", 30)
        try:
            async with asyncio.timeout(5):
                for number in range(50):
                    await journal.append("u", third, [note(str(number))], sync=False)
            seen = await asyncio.to_thread(noted, store)  # by other processes too
            assert not any(task.done() for task in synced)  # but nobody was promised anything
        finally:
            disk.may_sync.set()
        assert seen == ["synced"]
        assert await asyncio.gather(*synced) == [2, 1]
        assert len(await facts_of(journal, "u")) == 50

    store.run(test, disk.name)


def test_appends_of_one_stream_are_told_in_order(store: Store, disk: Disk) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        told: list[str] = []

        async def append(text: str, *, sync: bool) -> None:
            await journal.append("s", epoch, [note(text)], sync=sync)
            told.append(text)

        async with asyncio.TaskGroup() as group:
            disk.may_sync.clear()
            disk.syncing.clear()
            group.create_task(append("a", sync=True))
            group.create_task(append("b", sync=False))
            await asyncio.to_thread(disk.syncing.wait, 5)
            group.create_task(append("c", sync=False))
            await asyncio.sleep(0.02)
            seen = await asyncio.to_thread(noted, store)
            disk.may_sync.set()
            assert (seen, told) == (["a", "b", "c"], [])  # visible, but the first is not synced
        assert told == ["a", "b", "c"]

    store.run(test, disk.name)


def test_whatever_is_committed_together_is_told_in_order(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epochs = {name: await journal.claim(name, "me", 30) for name in "st"}
        dice = Random(1)
        told: dict[str, list[int]] = {"s": [], "t": []}

        async def append(name: str, *, kind: str, sync: bool) -> None:
            one = fact(kind, {"key": "0"}, f"run_{name}")
            told[name].append(await journal.append(name, epochs[name], [one], sync=sync))

        async with asyncio.TaskGroup() as group:
            for _ in range(600):
                kind = dice.choice(("effect", "tool.result"))
                sync = dice.random() < 0.3
                group.create_task(append(dice.choice("st"), kind=kind, sync=sync))
                for _ in range(dice.choice((0, 0, 1, 2, 3))):
                    await asyncio.sleep(0)
        for name, seqs in told.items():
            assert seqs == list(range(1, len(seqs) + 1)), name

    store.run(test)


def test_what_waits_for_one_fsync_shares_a_transaction(store: Store, disk: Disk) -> None:
    async def test(journal: Journal) -> None:
        epochs = [await journal.claim(f"s{number}", "me", 30) for number in range(50)]
        await journal.append("s0", epochs[0], [start("run_0")], sync=True)
        marks: list[int] = []
        other = apsw.Connection(str(store.path))

        async def append(number: int, *, sync: bool) -> None:
            one = fact("effect", {"key": "0"}, f"run_{number}")
            await journal.append(f"s{number}", epochs[number], [one], sync=sync)
            marks.append(other.execute("PRAGMA data_version").get)

        await asyncio.gather(*[append(number, sync=False) for number in range(50)])
        assert len(set(marks)) == 50  # what is to be visible lets nobody wait
        marks.clear()
        disk.may_sync.clear()
        disk.syncing.clear()
        before = other.execute("PRAGMA data_version").get
        tasks = [asyncio.create_task(append(number, sync=True)) for number in range(50)]
        await asyncio.to_thread(disk.syncing.wait, 5)
        seen = {before}
        for _ in range(10):
            seen.add(other.execute("PRAGMA data_version").get)
            await asyncio.sleep(0)
        disk.may_sync.set()
        await asyncio.gather(*tasks)
        assert len({*seen, *marks}) <= 3  # the first one at once, the others together
        other.close()

    store.run(test, disk.name)


def test_a_hundred_synced_appends_share_their_fsyncs(store: Store, disk: Disk) -> None:
    async def test(journal: Journal) -> None:
        epochs = [await journal.claim(f"s{number}", "me", 30) for number in range(100)]
        before = disk.syncs
        await asyncio.gather(
            *[
                journal.append(f"s{number}", epoch, [start(f"run_{number}")], sync=True)
                for number, epoch in enumerate(epochs)
            ]
        )
        assert disk.syncs - before <= 5
        assert len(await journal.runs(limit=200)) == 100

    store.run(test, disk.name)


def test_one_refusal_in_a_group_is_nobody_elses(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        results = await asyncio.gather(
            journal.append("s", epoch, [note("a")], sync=True),
            journal.append("s", epoch - 1, [note("stale")], sync=True),
            journal.append("s", epoch, [note("b", at=float("nan"))], sync=True),
            journal.append("s", epoch, [start("\ud800")], sync=True),  # the whole group fails
            journal.append("s", epoch, [note("c")], sync=True),
            return_exceptions=True,
        )
        kinds = [type(result) for result in results]
        assert kinds == [int, JournalError, JournalError, JournalError, int]
        assert keys(await facts_of(journal, "s")) == ["a", "c"]
        assert results[4] == 2

    store.run(test)


def test_a_cancelled_append_is_written_and_known_before_it_raises(store: Store, disk: Disk) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        disk.may_sync.clear()
        disk.syncing.clear()
        written = note("a")
        task = asyncio.create_task(journal.append("s", epoch, [written], sync=True))  # type: ignore[arg-type]
        await asyncio.to_thread(disk.syncing.wait, 5)
        assert store.clock.waiting == 1  # a simulation's clock would stand still now
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.01)
            assert not task.done()
        assert written.seq is None
        disk.may_sync.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert written.seq == 2
        assert store.clock.waiting == 0
        assert await journal.append("s", epoch, [note("b")], sync=False) == 3
        assert keys(await facts_of(journal, "s", 1)) == ["a", "b"]

    store.run(test, disk.name)


def test_a_scope_that_is_cancelled_waits_for_the_commit(
    store: Store, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        disk.may_sync.clear()
        written = note("a")
        threading.Timer(0.15, disk.may_sync.set).start()
        loop = asyncio.get_running_loop()
        waits = 0
        create_future = loop.create_future

        def counted() -> asyncio.Future[object]:
            nonlocal waits
            waits += 1
            return create_future()

        monkeypatch.setattr(loop, "create_future", counted)
        with anyio.move_on_after(0.05) as scope:
            await journal.append("s", epoch, [written], sync=True)
        assert scope.cancelled_caught
        assert waits < 10  # though a cancelled scope cancels again and again
        assert written.seq == 1

    store.run(test, disk.name)


def test_a_commit_that_fails_while_its_task_is_cancelled_says_so(store: Store, disk: Disk) -> None:
    def fail(what: str) -> None:
        raise apsw.FullError("full")

    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [note("a")], sync=True)
        disk.may_sync.clear()
        disk.syncing.clear()
        lost = note("b")
        task = asyncio.create_task(journal.append("s", epoch, [lost], sync=True))  # type: ignore[arg-type]
        await asyncio.to_thread(disk.syncing.wait, 5)
        task.cancel()
        await asyncio.sleep(0)
        disk.fail = fail
        disk.may_sync.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert isinstance(caught.value.__cause__, JournalError)
        assert lost.seq is None
        with pytest.raises(JournalError, match="disk is full"):
            await journal.close()
        disk.fail = lambda what: None

    store.run(test, disk.name)


def test_a_task_cancelled_while_its_commit_is_being_told_gets_both(
    store: Store, disk: Disk
) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        disk.may_sync.clear()
        disk.syncing.clear()
        written = note("a")
        task = asyncio.create_task(journal.append("s", epoch, [written], sync=True))  # type: ignore[arg-type]
        await asyncio.to_thread(disk.syncing.wait, 5)
        disk.may_sync.set()
        time.sleep(0.1)  # the thread has told the loop, which has not looked yet
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert written.seq == 1

    store.run(test, disk.name)


# --- the thread -----------------------------------------------------------------------------


def test_the_thread_ends_with_the_journal(store: Store) -> None:
    async def test(journal: Journal) -> None:
        assert not writers()
        epoch = await journal.claim("s", "me", 30)
        appends = [journal.append("s", epoch, [note(str(n))], sync=True) for n in range(20)]
        tasks = [asyncio.ensure_future(one) for one in appends]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert [thread.daemon for thread in writers()] == [False]
        await journal.close()
        assert not writers()
        assert await asyncio.gather(*tasks) == list(range(1, 21))  # what was queued is written

    store.run(test)
    assert not writers()


def test_closing_waits_for_what_is_being_written(store: Store, disk: Disk) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        disk.may_sync.clear()
        disk.syncing.clear()

        def append(text: str) -> asyncio.Task[int]:
            return asyncio.create_task(journal.append("s", epoch, [note(text)], sync=True))  # type: ignore[arg-type]

        tasks = [append("a")]
        await asyncio.to_thread(disk.syncing.wait, 5)
        tasks += [append("b"), append("c")]
        await asyncio.sleep(0)
        closing = asyncio.create_task(journal.close())  # type: ignore[arg-type]
        await asyncio.sleep(0.02)
        assert not closing.done()
        disk.may_sync.set()
        await closing
        assert await asyncio.gather(*tasks) == [1, 2, 3]
        with pytest.raises(JournalError, match="closed"):
            await facts_of(journal, "s")
        await journal.close()

    store.run(test, disk.name)
    assert noted(store) == ["b", "c"]


def test_what_waits_for_a_thread_to_read_is_told_of_the_end(store: Store) -> None:
    async def test(journal: Journal) -> None:
        await journal.claim("s", "me", 30)
        reading = [journal.runs() for _ in range(60)]  # more than there are threads for it
        results = await asyncio.gather(*reading, journal.close(), return_exceptions=True)
        told = [result for result in results[:-1] if result != []]
        assert told
        assert all(isinstance(error, JournalError) for error in told)
        assert results[-1] is None

    store.run(test)


def test_closing_waits_for_a_file_that_is_being_opened_and_is_none(
    store: Store, disk: Disk
) -> None:
    opening, go_on = threading.Event(), threading.Event()

    def no_file(what: str) -> None:
        if what == "open":
            opening.set()
            assert go_on.wait(20)
            raise apsw.CantOpenError("unable to open database file")

    async def test(journal: Journal) -> None:
        await journal.claim("s", "me", 30)
        disk.fail = no_file
        reading = asyncio.ensure_future(journal.runs())
        assert await asyncio.to_thread(opening.wait, 20)
        closing = asyncio.ensure_future(journal.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        go_on.set()
        with pytest.raises(JournalError, match="cannot be opened"):
            await reading
        await closing

    store.run(test, disk.name)


def test_a_loop_that_is_gone_is_not_told(store: Store, disk: Disk) -> None:
    journal = store.open(disk.name)
    store.path.parent.mkdir()
    loop = asyncio.new_event_loop()
    epoch = loop.run_until_complete(journal.claim("s", "me", 30))
    disk.may_sync.clear()
    disk.syncing.clear()
    appending = journal.append("s", epoch, [note("a")], sync=True)
    task = loop.create_task(appending)  # type: ignore[arg-type]
    loop.run_until_complete(asyncio.sleep(0))
    assert disk.syncing.wait(5)
    loop.close()
    loop.set_exception_handler(lambda *_: None)  # of the task that is pending for ever
    disk.may_sync.set()
    asyncio.run(journal.close())
    assert not task.done()
    appending.close()  # type: ignore[attr-defined]
    del task, appending
    assert noted(store) == []
    assert len(store.run(lambda journal: facts_of(journal, "s"))) == 1


def test_a_thread_that_comes_and_goes_loses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "IDLE_S", 0.0002)

    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        for number in range(400):
            await journal.append("s", epoch, [note(str(number))], sync=True)
            for _ in range(number % 12):
                await asyncio.sleep(0)
        assert len(await facts_of(journal, "s")) == 400

    store.run(test)


def test_an_idle_thread_ends_and_another_begins(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "IDLE_S", 0.02)

    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        for number in range(4):
            await journal.append("s", epoch, [note(str(number))], sync=True)
            while writers():
                await asyncio.sleep(0.01)
        assert len(await facts_of(journal, "s")) == 4

    store.run(test)


def test_a_thread_that_cannot_be_started_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [note("a")], sync=True)
        while writers():
            await asyncio.sleep(0.01)
        with monkeypatch.context() as patch:
            patch.setattr(writer_module.Thread, "start", fail)
            results = await asyncio.gather(
                *[journal.append("s", epoch, [note(text)], sync=True) for text in "bc"],
                return_exceptions=True,
            )
        assert ["cannot start a thread" in str(result) for result in results] == [True, True]
        await journal.append("s", epoch, [note("d")], sync=True)
        assert keys(await facts_of(journal, "s"))[-1] == "d"

    monkeypatch.setattr(writer_module, "IDLE_S", 0.01)
    store.run(test)


def test_a_journal_that_nobody_closed_lets_the_process_end(store: Store) -> None:
    code = CHILD.replace("os._exit(3)", "raise SystemExit(4)")
    process = child(store.path, "10", code)
    process.communicate(timeout=20)
    assert process.returncode == 4


def test_of_streams_that_nobody_gave_back_only_so_many_are_remembered(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_HEADS", 10)
    journal = any_store.open()

    async def write() -> list[list[object]]:
        epochs = {f"s{number}": await journal.claim(f"s{number}", "me", 30) for number in range(30)}
        for text in ("a", "b"):
            for stream, epoch in epochs.items():
                await journal.append(stream, epoch, [note(text)], sync=False)
        return [keys(await facts_of(journal, stream)) for stream in epochs]

    before = sum(type(each) is Head for each in gc.get_objects())
    assert asyncio.run(write()) == [["a", "b"]] * 30
    gc.collect()
    assert sum(type(each) is Head for each in gc.get_objects()) - before <= 10
    asyncio.run(journal.close())


def test_one_journal_serves_one_loop_after_the_other(store: Store) -> None:
    journal = store.open()

    async def write(text: str) -> list[object]:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [note(text)], sync=True)
        return keys(await facts_of(journal, "s"))

    assert asyncio.run(write("a")) == ["a"]
    assert asyncio.run(write("b")) == ["a", "b"]
    asyncio.run(journal.close())


def test_without_threads_nothing_leaves_the_loop(tmp_path: Path, disk: Disk) -> None:
    clock = Clock()

    async def test(path: str | Path, vfs: str | None) -> None:
        journal = SQLiteJournal(path, world=clock, threads=False, vfs=vfs)
        epoch = await journal.claim("s", "me", 30)
        count = threading.active_count()
        for number in range(1500):
            await journal.append("s", epoch, [note(str(number))], sync=number % 100 == 0)
        assert len(await facts_of(journal, "s")) == 1500
        assert threading.active_count() <= count
        assert clock.announced == 0
        follower = aiter(journal.read("s", 1499, follow=True))
        assert (await anext(follower)).seq == 1500
        waiting = asyncio.ensure_future(anext(follower))
        await asyncio.sleep(0.12)
        await journal.append("s", epoch, [note("last")], sync=True)
        assert (await waiting).data == {"key": "last"}
        await journal.close()

    asyncio.run(test(":memory:", None))
    asyncio.run(test(tmp_path / "journal.db", disk.name))
    assert disk.threads == {threading.current_thread().name}
    with pytest.raises(JournalError, match="threads=False"):
        SQLiteJournal(":memory:", world=clock)


def test_a_big_stream_is_read_without_holding_up_the_loop(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=False)
        for number in range(400):
            await journal.append("s", epoch, [note("x" * 20_000, at=number)], sync=False)
        longest = 0.0

        async def beat() -> None:
            nonlocal longest
            while True:
                began = time.monotonic()
                await asyncio.sleep(0)
                longest = max(longest, time.monotonic() - began)

        beating = asyncio.create_task(beat())
        assert len(await facts_of(journal, "s")) == 401
        beating.cancel()
        assert longest < 0.25

    store.run(test)


# --- broken files and disks -----------------------------------------------------------------


def failure(store: Store, vfs: str | None = None) -> JournalError:
    async def test(journal: Journal) -> JournalError:
        with pytest.raises(JournalError) as caught:
            await journal.claim("s", "me", 30)
        return caught.value

    return store.run(test, vfs)


def test_a_file_that_is_no_database(any_store: Store) -> None:
    any_store.path.parent.mkdir()
    any_store.path.write_text("Dear diary, " * 100)
    error = failure(any_store)
    assert error.code is FAILED
    assert "not a SQLite database" in str(error)
    assert str(any_store.path) in str(error)
    assert error.hint


def test_a_database_of_somebody_else(any_store: Store) -> None:
    any_store.path.parent.mkdir()
    raw(any_store.path, "CREATE TABLE cats(name)")
    assert "not a journal of lorimer" in str(failure(any_store))
    assert raw(any_store.path, "SELECT name FROM sqlite_schema") == [("cats",)]  # left as it was


def test_an_empty_database_that_somebody_else_has_marked(any_store: Store) -> None:
    any_store.path.parent.mkdir()
    raw(any_store.path, "PRAGMA application_id=7")
    assert "not a journal of lorimer" in str(failure(any_store))


@pytest.mark.parametrize(
    ("name", "why"), [("", "it is a folder"), ("\udcff.db", "its path is not UTF-8")]
)
def test_a_path_that_no_database_can_have(tmp_path: Path, name: str, why: str) -> None:
    async def opened() -> None:
        async with SQLiteJournal(tmp_path / name) as journal:
            await journal.claim("s", "me", 30)

    with pytest.raises(JournalError) as caught:
        asyncio.run(opened())
    assert caught.value.code is FAILED
    assert f"cannot be opened: {why}" in str(caught.value)


def test_a_file_of_a_newer_version(any_store: Store) -> None:
    any_store.run(lambda journal: journal.claim("s", "me", 30))
    raw(any_store.path, "PRAGMA user_version=99")
    error = failure(any_store)
    assert error.code is VERSION
    assert "newer version" in str(error)


def test_a_directory_that_cannot_be_made(store: Store) -> None:
    store.path.parent.write_text("a file")
    error = failure(store)
    assert error.code is FAILED
    assert "cannot be opened" in str(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written(store: Store) -> None:
    store.path.parent.mkdir(mode=0o500)
    assert "cannot be written" in str(failure(store))


def test_a_file_that_may_not_be_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.run(lambda journal: journal.claim("s", "me", 30))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    error = failure(store)
    assert error.code is FAILED
    assert "cannot be written" in str(error)


def test_a_file_in_a_read_only_place(store: Store, disk: Disk) -> None:
    def fail(what: str) -> None:
        raise apsw.ReadOnlyError("attempt to write a readonly database")

    disk.fail = fail
    error = failure(store, disk.name)
    assert error.code is FAILED
    assert "cannot be written" in str(error)
    assert "directory" in error.hint


def test_a_full_disk_refuses_and_loses_nothing(store: Store, disk: Disk) -> None:
    def full(what: str) -> None:
        if what == "write":
            raise apsw.FullError("database or disk is full")

    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        await journal.append("s", epoch, [note("a")], sync=False)
        disk.fail = full
        for sync in (False, True):
            lost = note("lost")
            with pytest.raises(JournalError, match="disk is full") as caught:
                await journal.append("s", epoch, [lost], sync=sync, ledger=LedgerEntry("a", 9))
            assert caught.value.code is FAILED
            assert lost.seq is None
        disk.fail = lambda what: None
        assert await journal.append("s", epoch, [note("b")], sync=True) == 3
        assert keys(await facts_of(journal, "s", 1)) == ["a", "b"]
        assert await journal.balance("a") == Balance()

    store.run(test, disk.name)


def test_after_an_fsync_that_failed_nothing_is_promised(any_store: Store, disk: Disk) -> None:
    def broken(what: str) -> None:
        if what == "sync":
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)

    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        disk.fail = broken
        for _ in range(2):
            with pytest.raises(JournalError, match="could not be synced"):
                await journal.append("s", epoch, [note("a")], sync=True)
            disk.fail = lambda what: None
        with pytest.raises(JournalError, match="could not be synced"):
            await journal.append("s", epoch, [note("a")], sync=False)

    any_store.run(test, disk.name)
    assert noted(any_store) in ([], ["a"])  # nobody was told either way


def test_the_real_disk_is_asked_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []

    def flush(descriptor: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        if len(flushed) > 2:
            raise OSError(errno.EIO, "Input/output error")

    async def test(journal: Journal) -> None:
        monkeypatch.setattr(wal, "flush", flush)
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        await journal.append("s", epoch, [note("a")], sync=False)
        await journal.append("s", epoch, [note("b")], sync=True)
        assert flushed == [f"{store.path}-wal"] * 2
        with pytest.raises(JournalError, match="could not be synced") as caught:
            await journal.append("s", epoch, [note("c")], sync=True)
        assert isinstance(caught.value.__cause__, OSError)

    store.run(test)


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal"])
@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_file_that_was_taken_away_is_told_at_the_next_synced_commit(
    any_store: Store, name: str, how: str
) -> None:
    file = any_store.path.parent / name

    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        if how == "deleted":
            file.unlink()
        else:
            file.rename(file.with_name("elsewhere"))
        if how == "replaced":
            file.write_bytes(b"")
        for sync in (True, False):
            with pytest.raises(JournalError, match="moved, deleted or replaced while") as told:
                await journal.append("s", epoch, [note("a")], sync=sync)
            assert told.value.code is FAILED
            assert told.value.hint is not None
            assert "Put it back" in told.value.hint

    any_store.run(test)


def test_a_file_that_cannot_be_looked_at_any_more_is_written_to(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stat(path: str) -> os.stat_result:
        raise PermissionError(errno.EACCES, "Permission denied")

    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        with monkeypatch.context() as dropped:  # privileges, once the file was open
            dropped.setattr(os, "stat", stat)
            await journal.append("s", epoch, [note("a")], sync=True)

    store.run(test)
    assert noted(store) == ["a"]


def test_a_journal_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with SQLiteJournal("journal.db") as journal:
            epoch = await journal.claim("s", "me", 30)
            await journal.append("s", epoch, [start()], sync=True)
            monkeypatch.chdir("/")
            await journal.append("s", epoch, [note("a")], sync=True)
            assert keys(await facts_of(journal, "s")) == ["run.start", "a"]
            assert journal.files[0] == tmp_path / "journal.db"

    monkeypatch.chdir(tmp_path)
    asyncio.run(main())


def test_a_checkpoint_that_could_not_sync_is_the_end_of_writing(store: Store, disk: Disk) -> None:
    def broken(what: str) -> None:
        if what == "sync":
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)

    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        disk.fail = broken

        async def write() -> None:
            for number in range(1500):
                await journal.append("s", epoch, [note(str(number))], sync=False)
                await asyncio.sleep(0)

        with pytest.raises(JournalError, match="could not be synced"):
            await write()
        disk.fail = lambda what: None
        with pytest.raises(JournalError, match="could not be synced"):
            await journal.append("s", epoch, [note("a")], sync=True)

    store.run(test, disk.name)


DAMAGE = {
    "not JSON": "'[[5,1,0,{'",
    "not a list": """'{"a":1}'""",
    "no facts": "'[]'",
    "a fact that is not a list": "'[7]'",
    "too few parts": "'[[5,1,0]]'",
    "no number": """'[[5,"1",0,{}]]'""",
    "NaN": """'[[5,1,0,{"key":NaN}]]'""",
    "no data": "'[[5,1,0,7]]'",
    "no text": "CAST(x'ff' AS TEXT)",
}


@pytest.mark.parametrize("body", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_row_is_named_and_what_is_before_it_can_be_read(
    any_store: Store, body: str
) -> None:
    async def write(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        for text in "abcd":
            await journal.append("s", epoch, [note(text), note(text)], sync=False)

    async def read(journal: Journal) -> None:
        reading = journal.read("s")
        assert [(await anext(reading)).data["key"] for _ in range(4)] == ["a", "a", "b", "b"]
        with pytest.raises(JournalError, match=r"fact 5 of stream 's' is damaged") as caught:
            await anext(reading)
        assert caught.value.code is FAILED

    any_store.run(write)
    raw(any_store.path, f"UPDATE facts SET body={body} WHERE at & 0xffffffff = 5")
    any_store.run(read)


def test_texts_that_are_none_any_more_are_damage(any_store: Store) -> None:
    async def write(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 0.001)
        await journal.append("s", epoch, [start(), end()], sync=False)
        await journal.post("s", "m", {})

    async def read(journal: Journal) -> None:
        epoch = await journal.claim("s", "you", 30)
        append = journal.append("s", epoch, [start("run_b")], sync=False)
        for asking in (journal.runs(), journal.posts("s"), append):
            with pytest.raises(JournalError, match="is damaged: a text in it is none") as caught:
                await asking
            assert caught.value.code is FAILED
        with pytest.raises(JournalError, match="fact 1 of stream 's' is damaged"):
            await facts_of(journal, "s")
        with pytest.raises(JournalError, match="fact 1 of stream 's' is damaged"):
            await facts_of(journal, "s")

    any_store.run(write)
    any_store.clock.now += 60
    for column in ("facts SET body", "runs SET title", "inbox SET body"):
        raw(any_store.path, f"UPDATE {column}=CAST(x'ff' AS TEXT)")
    any_store.run(read)


def test_a_text_that_is_none_any_more_is_damage(any_store: Store) -> None:
    async def write(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=False)

    async def read(journal: Journal) -> None:
        with pytest.raises(JournalError, match="is damaged"):
            _ = [fact async for fact in journal.read("s")]
        with pytest.raises(JournalError, match="is damaged"):
            await journal.runs()

    any_store.run(write)
    raw(any_store.path, "UPDATE facts SET body=CAST(x'ff5b5d' AS TEXT)")
    raw(any_store.path, "UPDATE runs SET title=CAST(x'ff' AS TEXT)")
    any_store.run(read)


@pytest.mark.parametrize(
    "body",
    [f'[[{len(FACT_KINDS)},1,0,{{"key":"x"}}]]', "[[1,1,0,[0,1,2,3,4,5]]]", '[[2,1,0,[0,"",99]]]'],
    ids=["kind", "field", "word"],
)
def test_a_row_of_a_newer_version_says_so(any_store: Store, body: str) -> None:
    async def write(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [note("a")], sync=False)

    async def read(journal: Journal) -> None:
        with pytest.raises(JournalError, match="written by a newer version") as caught:
            await facts_of(journal, "s")
        assert caught.value.code is VERSION

    any_store.run(write)
    raw(any_store.path, f"UPDATE facts SET body='{body}'")
    any_store.run(read)


def test_damage_is_found_however_many_rows_there_are(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        for text in "abcdefg":
            await journal.append("s", epoch, [note(text)], sync=False)
        assert await journal.check("s") == []

    async def read(journal: Journal) -> None:
        found = [(damage.seq, damage.what) for damage in await journal.check("s")]
        assert [seq for seq, _ in found] == [5, 5, 7]
        assert found[1] == (5, "its row is not text")

    monkeypatch.setattr(rowcheck, "CHUNK_ROWS", 2)
    any_store.run(write)
    raw(any_store.path, "UPDATE facts SET body=CAST(x'ff' AS TEXT) WHERE at & 0xffffffff = 5")
    raw(any_store.path, "UPDATE facts SET body=replace(body, 'g', 'x') WHERE at & 0xffffffff = 7")
    any_store.run(read)


def test_a_row_that_is_gone_is_missed(any_store: Store) -> None:
    async def write(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        for text in "abcd":
            await journal.append("s", epoch, [note(text), note(text)], sync=False)

    async def read(journal: Journal) -> None:
        with pytest.raises(JournalError, match="facts 3 to 4 of stream 's' are missing"):
            await facts_of(journal, "s")

    any_store.run(write)
    raw(any_store.path, "DELETE FROM facts WHERE at & 0xffffffff = 3")
    any_store.run(read)


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE facts",
        "DROP TABLE documents; CREATE TABLE documents(a, b); INSERT INTO documents VALUES(1, 2)",
        "DROP TABLE documents; CREATE TABLE documents(digest, body);"
        "INSERT INTO documents VALUES('d', 'text')",
        "DROP TABLE streams; CREATE TABLE streams(id, name, epoch, owner, lease_until);"
        "INSERT INTO streams VALUES('x', 's', 1, NULL, 0)",
    ],
)
def test_tables_that_are_not_ours_any_more(any_store: Store, damage: str) -> None:
    async def read(journal: Journal) -> None:
        results = await asyncio.gather(
            journal.get("d"), facts_of(journal, "s"), return_exceptions=True
        )
        codes = [result.code for result in results if isinstance(result, JournalError)]
        assert set(codes) == {FAILED}

    any_store.run(lambda journal: journal.claim("s", "me", 30))
    raw(any_store.path, damage)
    any_store.run(read)


@pytest.mark.parametrize("name", ["\ud800", "x\udfffy"])
def test_a_name_that_is_not_unicode_is_refused(any_store: Store, name: str) -> None:
    async def test(journal: Journal) -> None:
        for call in (
            journal.claim(name, "me", 30),
            journal.claim("s", name, 30),
            journal.get(name),
            journal.find_run(name),
            facts_of(journal, name),
        ):
            with pytest.raises(JournalError, match="surrogate"):
                await call
        epoch = await journal.claim("s", "me", 30)
        with pytest.raises(JournalError, match="surrogate"):
            await journal.append("s", epoch, [note("x")], sync=True, ledger=LedgerEntry(name, 1))
        await journal.append("s", epoch, [start(title=name)], sync=True)
        assert [row.title for row in await journal.runs()] == [
            name.encode(errors="replace").decode()
        ]

    any_store.run(test)


def test_a_migration_that_fails_is_undone(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = schema.MIGRATIONS
    for broken in (f"{good[0]}; CREATE TABLE broken(", "CREATE TABLE other(a); COMMIT; BROKEN"):
        monkeypatch.setattr(schema, "MIGRATIONS", (broken,))
        assert "failed (SQLError" in str(failure(any_store))
        if "COMMIT" in broken:
            any_store.path.unlink()
        else:
            assert raw(any_store.path, "SELECT * FROM sqlite_schema", "PRAGMA user_version") == [
                (0,)
            ]
    monkeypatch.setattr(schema, "MIGRATIONS", good)
    assert any_store.run(lambda journal: journal.claim("s", "me", 30)) == 1


def test_a_file_that_somebody_reads_in_the_old_mode_is_waited_for(store: Store) -> None:
    store.run(lambda journal: journal.claim("s", "me", 30))
    raw(store.path, "PRAGMA journal_mode=DELETE")
    other = apsw.Connection(str(store.path))
    other.execute("BEGIN; SELECT * FROM streams").fetchall()
    threading.Timer(0.1, lambda: other.execute("COMMIT")).start()
    assert store.run(lambda journal: journal.claim("s", "me", 30)) == 1
    other.close()
    assert raw(store.path, "PRAGMA journal_mode") == [("wal",)]


def test_a_file_that_others_open_all_the_time_is_told_as_locked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for its lock gets it, and somebody else has it when the mode is changed."""
    monkeypatch.setattr("lorimer.journal.sqlite.database.BUSY_MS", 0)
    tried = 0

    class Crowded(apsw.VFS):
        def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
            return OfCrowd("", name, flags)

    class OfCrowd(apsw.VFSFile):
        def xLock(self, level: int) -> None:  # noqa: N802 - apsw's name
            nonlocal tried
            if level == apsw.SQLITE_LOCK_EXCLUSIVE:
                tried += 1
                if tried % 2:
                    raise apsw.BusyError("database is locked")
            super().xLock(level)

    store.run(lambda journal: journal.claim("s", "me", 30))
    raw(store.path, "PRAGMA journal_mode=DELETE")
    crowd = Crowded(name := f"crowd-{uuid4()}", "")
    with pytest.raises(JournalError, match="is locked: another process"):
        store.run(lambda journal: journal.claim("s", "me", 30), name)
    assert tried > 100
    crowd.unregister()


def test_a_reader_that_holds_the_log_delays_its_checkpoint_only(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        other = apsw.Connection(str(store.path))
        other.execute("BEGIN; SELECT * FROM streams").fetchall()
        for number in range(1600):
            await journal.append("s", epoch, [note(str(number))], sync=False)
        other.execute("COMMIT")
        other.close()
        for number in range(1200):
            await journal.append("s", epoch, [note(str(number))], sync=False)
        assert len(await facts_of(journal, "s")) == 2801

    store.run(test)


def test_a_log_that_grows_each_time_it_is_moved_is_begun_anew(
    store: Store, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "CHECKPOINT_PAGES", 40)
    monkeypatch.setattr(transactions, "MAX_WAL_PAGES", 160)
    log = store.path.with_name("journal.db-wal")

    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        for _ in range(12):
            disk.syncing.clear()
            disk.may_sync.clear()
            while not disk.syncing.is_set():  # until its checkpoint waits for the disk
                await journal.append("s", epoch, [note("x" * 2000)], sync=False)
                await asyncio.sleep(0.001)
            for _ in range(10):
                await journal.append("s", epoch, [note("x" * 2000)], sync=False)
            disk.may_sync.set()
            await journal.append("s", epoch, [note("x")], sync=True)  # after the checkpoint
        assert log.stat().st_size < 400 * schema.PAGE_BYTES

    store.run(test, disk.name)


def test_a_log_that_cannot_be_begun_to_be_moved_is_moved_later(
    store: Store,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(transactions, "CHECKPOINT_PAGES", 40)

    def no_more_files(what: str) -> None:
        if what == "open":
            raise apsw.CantOpenError("unable to open database file")

    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        disk.fail = no_more_files
        for number in range(60):
            await journal.append("s", epoch, [note(str(number))], sync=True)
        assert "checkpoint of" in caplog.text
        disk.fail = lambda what: None
        for number in range(200):
            await journal.append("s", epoch, [note(str(number))], sync=True)
        assert len(await facts_of(journal, "s")) == 261

    store.run(test, disk.name)
    log = store.path.with_name("journal.db-wal")
    assert not log.exists() or log.stat().st_size < 200 * schema.PAGE_BYTES


def test_a_commit_that_could_not_sync_is_the_end_of_writing(any_store: Store, disk: Disk) -> None:
    def broken(what: str) -> None:
        if what == "sync":
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)

    async def test(journal: Journal) -> None:
        await journal.runs()  # the file is open
        disk.fail = broken
        with pytest.raises(JournalError, match="could not be synced"):
            await journal.claim("s", "me", 30)  # which begins the log
        disk.fail = lambda what: None
        with pytest.raises(JournalError, match="could not be synced"):
            await journal.claim("s", "me", 30)

    any_store.run(lambda journal: journal.put("digest", b"manifest"), disk.name)
    any_store.run(test, disk.name)


def test_a_checkpoint_that_fails_is_made_later(
    store: Store, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(what: str) -> None:
        if what == "sync":
            raise apsw.FullError("database or disk is full")

    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start()], sync=True)
        await journal.append("s", epoch, [note("x")], sync=False)
        disk.fail = fail
        for number in range(1300):
            await journal.append("s", epoch, [note(str(number))], sync=False)
        await asyncio.sleep(0.05)
        disk.fail = lambda what: None
        await journal.append("s", epoch, [end()], sync=True)
        assert len(await facts_of(journal, "s")) == 1303

    store.run(test, disk.name)
    assert caplog.text.count("checkpoint of") == 1


@pytest.mark.parametrize("error", [apsw.BusyError, apsw.ProtocolError])
def test_a_checkpoint_that_is_not_possible_now_is_no_failure(
    error: type[apsw.Error],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(transactions, "CHECKPOINT_PAGES", 40)
    tried: list[bool] = []
    checkpoint = transactions.Checkpointer.checkpoint

    def busy(checkpointer: transactions.Checkpointer) -> tuple[int, int]:
        tried.append(True)
        if len(tried) % 2:  # the log's index was just being written, or somebody else moves it
            raise error("database is locked")
        return checkpoint(checkpointer)

    monkeypatch.setattr(transactions.Checkpointer, "checkpoint", busy)

    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        for number in range(300):
            await journal.append("s", epoch, [note(str(number))], sync=True)
        assert store.path.with_name("journal.db-wal").stat().st_size < 120 * schema.PAGE_BYTES

    store.run(test)
    assert len(tried) >= 4
    assert not caplog.text


def test_a_relative_path_and_a_missing_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("sqlite", Path("journal.db"))
    assert store.run(lambda journal: journal.claim("s", "me", 30)) == 1
    assert (tmp_path / "journal.db").exists()


# --- sizes ----------------------------------------------------------------------------------


def file_bytes(tmp_path: Path, iterations: int) -> int:
    store = Store("sqlite", tmp_path / f"{iterations}.db")

    async def write(journal: Journal) -> None:
        epoch = await journal.claim("session_7f3kq2m5", "me", 30)
        await journal.append("session_7f3kq2m5", epoch, [start()], sync=True)
        for number in range(iterations):
            for row in iteration(number):
                await journal.append("session_7f3kq2m5", epoch, row, sync=False)

    store.run(write)  # closing it moves the log into the file
    sizes = raw(store.path, "PRAGMA page_count", "PRAGMA page_size")
    (pages,), (page,) = sizes  # type: ignore[misc]
    assert store.path.stat().st_size == pages * page
    return pages * page


def test_an_iteration_takes_at_most_500_bytes_however_many_there_are(tmp_path: Path) -> None:
    empty, few, many = (file_bytes(tmp_path, count) for count in (0, 200, 1000))
    assert (few - empty) / 200 <= 500
    assert (many - few) / 800 <= 500
    assert empty <= 40_960
    assert abs((few - empty) / 200 - (many - few) / 800) <= 20
