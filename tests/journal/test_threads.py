"""One journal file in the event loops of several threads, as `run_sync` in a web server has it."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import TypeVar

import pytest

from lorimer import PipelinePresets, tool
from lorimer.core.errors import JournalError
from lorimer.core.journal import Balance, LedgerEntry
from lorimer.core.messages import ToolUse
from lorimer.core.purse import Purse
from lorimer.core.request import Request
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.journal.verify import verify
from lorimer.models import Models
from lorimer.testing import ScriptedModel
from lorimer.world import RealWorld
from tests.journal.support import keys, note

T = TypeVar("T")


@pytest.fixture
def quick_switches() -> Generator[None]:
    """Threads that are switched in the middle of everything; but where each begins with a tracer,
    as a measurement of coverage has it: Python cannot be switched while it installs one."""
    before = sys.getswitchinterval()
    if sys.gettrace() is None:
        sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def _beside(*works: Callable[[], Coroutine[object, None, T]]) -> list[T]:
    """What they give, each in a loop and a thread of its own, which a hanging test does not wait
    for."""
    gave: dict[int, T] = {}

    def run(at: int, work: Callable[[], Coroutine[object, None, T]]) -> None:
        gave[at] = asyncio.run(work())

    threads = [Thread(target=run, args=each, daemon=True) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "it hangs"
    return [gave[at] for at in range(len(works))]


def test_each_stream_keeps_its_order(quick_switches: None, tmp_path: Path) -> None:
    journal = SQLiteJournal(tmp_path / "runs.db")

    async def write(stream: str) -> list[object]:
        epoch = await journal.claim(stream, "me", 30)
        for at in range(0, 300, 5):
            parts = [
                journal.append(stream, epoch, [note(str(at + nth))], sync=nth % 2 == 0)
                for nth in range(5)
            ]
            await asyncio.gather(*parts)
        return keys([fact async for fact in journal.read(stream)])

    ordered = [str(number) for number in range(300)]
    assert _beside(*[partial(write, f"s{n}") for n in range(8)]) == [ordered] * 8
    asyncio.run(journal.close())


@tool(effects=["write"])
async def put(text: str) -> str:
    """Put."""
    await asyncio.sleep(0)
    return f"put {text}"


def _reply(request: Request) -> list[ToolUse] | str:
    if request.messages[-1].text:
        return [ToolUse(f"c{each}", "put", {"text": str(each)}) for each in range(3)]
    return "done"


def test_pipelines_of_several_threads_share_a_file(quick_switches: None, tmp_path: Path) -> None:
    journal = SQLiteJournal(tmp_path / "runs.db")

    async def work() -> list[str]:
        models = Models(providers={"scripted": ScriptedModel(_reply)})
        async with PipelinePresets.agent(
            model="scripted:m", models=models, tools=[put], journal=journal
        ) as agent:
            ran = [await agent.run("go", raise_on_error=False) for _ in range(25)]
        return [result.error or result.status for result in ran]

    ends = _beside(*[work] * 4)
    assert Counter(end for each in ends for end in each) == {"ok": 100}

    async def audited() -> int:
        rows = await journal.runs(limit=1000)
        for stream in {row.stream for row in rows}:
            assert await verify(journal, stream) == []
        await journal.close()
        return len(rows)

    assert asyncio.run(audited()) == 100


def test_a_purse_in_memory_adds_up_over_all_threads(quick_switches: None) -> None:
    purse, journal = Purse.usd("job:all", 10), MemoryJournal()

    async def move(run: str) -> None:
        epoch = await journal.claim(run, "me", 30)
        for _ in range(1000):
            for reserved, spent in ((3, 0), (-3, 2)):
                entry = LedgerEntry(run, reserved, spent, (purse,))
                await journal.append(run, epoch, [note("n", run)], sync=False, ledger=entry)

    _beside(*[partial(move, f"run_{n}") for n in range(8)])
    assert asyncio.run(journal.used(purse)) == Balance(0, 8 * 1000 * 2)


def test_one_loop_that_ends_leaves_the_watchers_of_another(tmp_path: Path) -> None:
    journal = SQLiteJournal(tmp_path / "runs.db", world=RealWorld())
    began, over = Event(), Event()

    async def look_and_end() -> None:
        journal.watch("s", lambda: None)
        await asyncio.sleep(0.05)

    async def stay() -> None:
        await journal.claim("s", "me", 30)
        told = asyncio.Event()
        end = journal.watch("s", told.set)
        began.set()
        while not over.is_set():
            await asyncio.sleep(0.005)
        async with SQLiteJournal(tmp_path / "runs.db", world=RealWorld()) as other:
            told.clear()
            await other.post("s", "m", {})
            await asyncio.wait_for(told.wait(), 5)
        end()

    def beside() -> None:
        assert began.wait(10)
        asyncio.run(look_and_end())
        over.set()

    thread = Thread(target=beside)
    thread.start()
    asyncio.run(stay())
    thread.join()
    asyncio.run(journal.close())


def test_a_journal_that_another_loop_closes_is_closed(tmp_path: Path) -> None:
    journal = SQLiteJournal(tmp_path / "runs.db", world=RealWorld())

    async def write() -> None:
        epoch = await journal.claim("s", "me", 30)

        async def for_ever() -> None:
            while True:
                await asyncio.gather(*[journal.renew("s", epoch, 30) for _ in range(3)])
                await asyncio.gather(*[journal.put(str(n), b"x" * 70_000) for n in range(3)])

        with pytest.raises(JournalError, match="closed"):
            await for_ever()

    async def close() -> None:
        await asyncio.sleep(0.2)
        await journal.close()

    _beside(write, close)


def test_what_was_to_be_committed_when_another_loop_closed_the_journal_is_refused(
    tmp_path: Path,
) -> None:
    journal = SQLiteJournal(tmp_path / "runs.db", world=RealWorld())

    def close() -> None:
        asyncio.run(journal.close())

    async def close_beside() -> None:
        thread = Thread(target=close, daemon=True)
        thread.start()
        thread.join(30)  # this loop stands still

    async def write() -> list[object]:
        epochs = {name: await journal.claim(name, "me", 30) for name in "st"}
        for name, epoch in epochs.items():
            await journal.append(name, epoch, [note("before")], sync=True)
        return await asyncio.gather(
            journal.append("s", epochs["s"], [note("begun")], sync=True),
            journal.append("t", epochs["t"], [note("not begun")], sync=True),
            close_beside(),
            return_exceptions=True,
        )

    begun, refused, _ = asyncio.run(write())
    assert begun == 2
    assert isinstance(refused, JournalError)
    assert "closed" in str(refused)

    async def read() -> list[object]:
        async with SQLiteJournal(tmp_path / "runs.db", world=RealWorld()) as again:
            return keys([fact async for fact in again.read("t")])

    assert asyncio.run(read()) == ["before"]
