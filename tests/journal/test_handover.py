"""What tasks hand to a thread: nothing is lost, and nothing is left open."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from lorimer.core.errors import JournalError
from lorimer.core.events import Event
from lorimer.journal import SQLiteJournal
from lorimer.journal.sqlite import writer
from lorimer.journal.sqlite.handover import Handover


def test_a_thread_takes_all_in_order_until_the_end() -> None:
    handed, taken = Handover[int](), list[int]()

    def take() -> None:
        while things := handed.take(10):
            taken.extend(things)

    thread = threading.Thread(target=take)
    thread.start()
    for number in range(1000):
        handed.put(number)
        if not number % 100:
            time.sleep(0.001)  # it goes to sleep
    handed.end()
    thread.join(10)
    assert taken == list(range(1000))
    handed.close()


def test_who_hands_over_never_waits_for_who_takes() -> None:
    handed = Handover[int]()
    for number in range(100_000):  # more bytes than a pipe holds
        handed.put(number)
    assert handed.take(10) == list(range(100_000))
    handed.put(-1)
    assert handed.take(10) == [-1]  # in spite of the bytes for what was taken
    assert handed.take(0.01) == []
    handed.close()


def test_who_waits_hears_what_comes_in_an_instant() -> None:
    handed = Handover[str]()
    threading.Timer(0.02, handed.put, ["late"]).start()
    began = time.monotonic()
    assert handed.take(10) == ["late"]
    assert time.monotonic() - began < 5
    handed.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def append(journal: SQLiteJournal, epoch: int, key: str) -> None:
    fact = Event("effect", {"key": key}, "r", time=1.0)
    await journal.append("s", epoch, [fact], sync=True)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are not listed here")
def test_a_thread_that_has_ended_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "IDLE_S", 0.01)

    async def test() -> None:
        before = descriptors()
        journal = SQLiteJournal(tmp_path / "runs.db")
        epoch = await journal.claim("s", "me", 30)
        counts = set[int]()
        for number in range(5):
            await append(journal, epoch, str(number))
            while any(each.name == writer.THREAD_NAME for each in threading.enumerate()):
                await asyncio.sleep(0.01)
            counts.add(descriptors())
        assert len(counts) == 1
        await journal.close()
        assert descriptors() == before

    asyncio.run(test())


def test_a_process_that_may_open_no_more_files_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "IDLE_S", 0.01)

    def fail() -> None:
        raise OSError(24, "Too many open files")

    async def test() -> None:
        journal = SQLiteJournal(tmp_path / "runs.db")
        epoch = await journal.claim("s", "me", 30)
        await append(journal, epoch, "a")
        while any(each.name == writer.THREAD_NAME for each in threading.enumerate()):
            await asyncio.sleep(0.01)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pipe", fail)
            with pytest.raises(JournalError, match="cannot start a thread"):
                await append(journal, epoch, "b")
        await append(journal, epoch, "c")
        await journal.close()

    asyncio.run(test())
