"""A world with a clock to turn by hand, facts as an engine writes them, and a disk that fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import apsw

from lorimer.core.events import Event
from lorimer.core.journal import Journal
from lorimer.journal import MemoryJournal, SQLiteJournal

T = TypeVar("T")
NOW = 1_763_680_000.123456


class Clock:
    """What a journal needs of a World. `threads` counts announced waits for other threads."""

    def __init__(self) -> None:
        self.now = NOW
        self.waiting = 0
        self.announced = 0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now - NOW

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @contextmanager
    def outside(self, what: str) -> Iterator[None]:
        self.waiting += 1
        self.announced += 1
        try:
            yield
        finally:
            self.waiting -= 1


class Store:
    """Opens the journal under test; SQLite's always the same file."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind = kind
        self.path = path
        self.clock = Clock()

    def open(self, vfs: str | None = None) -> Journal:
        if self.kind == "memory":
            return MemoryJournal(self.clock)
        threads = self.kind == "sqlite"
        return SQLiteJournal(self.path, world=self.clock, threads=threads, vfs=vfs)

    def run(self, test: Callable[[Journal], Awaitable[T]], vfs: str | None = None) -> T:
        """Run `test` on a journal that is closed afterwards."""

        if vfs is not None:
            self.path.parent.mkdir(exist_ok=True)  # a VFS may not be on this disk at all

        async def main() -> T:
            journal = self.open(vfs)
            try:
                return await test(journal)
            finally:
                await journal.close()

        return asyncio.run(main())


def fact(type: str, data: dict, run: str = "run_a", at: float = 0.0, iteration: int = 0) -> Event:
    return Event(type, data, run_id=run, iteration=iteration, time=round(NOW + at, 6))


def start(run: str = "run_a", at: float = 0.0, **data: object) -> Event:
    return fact("run.start", {"input": "hi", "manifest": "m1", "seed": 7, **data}, run, at)


def end(run: str = "run_a", at: float = 9.0, **data: object) -> Event:
    body = {"status": "completed", "usage": {}, "cost": 0, "iterations": 0, **data}
    return fact("run.end", body, run, at)


def note(text: str, run: str = "run_a", at: float = 1.0) -> Event:
    return fact("effect", {"key": text}, run, at)


def iteration(number: int, run: str = "run_a") -> list[list[Event]]:
    """The four rows of one durable tool iteration, as an engine writes them."""
    at = 30.0 + number * 0.731057
    times = [12, None, 31, 5, 7, 23010 + number, 9, 14, 30, 12345, 8, None, None, 16, None, 11]
    reply = {
        "key": "0",
        "content": [
            {
                "type": "tool_use",
                "id": f"toolu_01A09q90qw90lq91{number:06}",
                "name": "write_file",
                "input": {"path": f"src/module_{number}.py", "text": "x = 1\n"},
            }
        ],
        "stop": "tool_use",
        "usage": {"input_tokens": 1234, "output_tokens": 56, "cache_read_input_tokens": 12000},
        "cost": 8_123_400,
    }
    intent = {"key": "0", "hash": "k3J9x_Qw2LmZ8sVa"}
    result = {"key": "0", "content": f"wrote 1 line to src/module_{number}.py"}
    return [
        [
            fact("iteration.end", {"times": times}, run, at, number - 1),
            fact("model.intent", dict(intent), run, at + 0.000031, number),
        ],
        [fact("model.reply", reply, run, at + 0.65, number)],
        [fact("tool.intent", {**intent, "effects": "write"}, run, at + 0.66, number)],
        [fact("tool.result", result, run, at + 0.7, number)],
    ]


async def facts_of(journal: Journal, stream: str, after: int = 0) -> list[Event]:
    return [event async for event in journal.read(stream, after)]


def keys(events: list[Event]) -> list[object]:
    return [event.data.get("key", event.type) for event in events]


class Disk(apsw.VFS):
    """The real disk, counting fsyncs, that can be told to stop or to fail."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.syncs = 0
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.syncing = threading.Event()
        self.threads: set[str] = set()
        self.fail: Callable[[str], None] = lambda what: None
        super().__init__(name, "")

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        self.fail("open")
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: object, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        disk = self._disk
        disk.syncs += 1
        disk.threads.add(threading.current_thread().name)
        disk.syncing.set()
        assert disk.may_sync.wait(20)
        disk.fail("sync")
        super().xSync(flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        self._disk.fail("write")
        super().xWrite(data, offset)
