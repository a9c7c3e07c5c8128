"""Forks workers to be killed, one after the other, so that each begins its life with all imported
that it needs. A worker ends by itself only when it is told that enough is done."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import apsw

from lorimer.cli.owner import own_name
from lorimer.core.errors import JournalError
from lorimer.core.world import World
from lorimer.journal import SQLiteJournal
from lorimer.journal.retention import compact
from lorimer.journal.sqlite import blocks
from lorimer.journal.sqlite.announcements import CallAnnouncements
from lorimer.journal.sqlite.faults import LOCKED
from lorimer.testing.marks import Mark, MarkFile
from lorimer.world import RealWorld
from tests.campaign.forks import serve
from tests.campaign.workers import Pace, Workers


@dataclass
class Order:
    """What one process is to do."""

    folder: str
    life: int
    seed: int
    agents: int
    pace: Pace
    owner: str = ""
    """Default: as the command line names itself."""
    claim_s: float = 30.0
    die_after: int = 0
    """Marks after which it kills itself ..."""
    die_at: int = 0
    """... at this write or sync of the journal's files, counted from 1. 0: it does not."""
    compact: bool = False
    """All that is over is compacted all the time, as by another process."""
    die_compacting: int = 0
    """It kills itself at this write or sync of that."""


class Doomed(apsw.VFS):
    """The real disk, until the moment: then the process is killed before, or after, a write."""

    def __init__(self, name: str, life: int, at: int, ready: Callable[[], bool]) -> None:
        """`at`: the write or sync at which it dies, counted once it is `ready`."""
        self.name = name
        self._ready = ready
        self._left = at
        self._after = Random(life).random() < 0.5
        super().__init__(self.name, "")

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        return _DoomedFile(self, name, flags)

    def count(self, *, after: bool) -> None:
        if after == self._after and self._ready():
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


class Counted(MarkFile):
    """Knows how many marks this process has made."""

    count = 0

    def append(self, mark: Mark, /) -> None:
        super().append(mark)
        self.count += 1


class _DoomedFile(apsw.VFSFile):
    def __init__(self, disk: Doomed, name: object, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        self._disk.count(after=False)
        super().xWrite(data, offset)
        self._disk.count(after=True)

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        self._disk.count(after=False)
        super().xSync(flags)
        self._disk.count(after=True)


async def work(order: Order) -> None:
    folder = Path(order.folder)
    world = RealWorld()
    notes = Counted(folder / "marks")
    disk = None
    if order.die_at:
        enough = lambda: notes.count >= order.die_after  # noqa: E731
        disk = Doomed("doomed", order.life, order.die_at, enough)
    vfs = disk.name if disk is not None else None
    journal = SQLiteJournal(folder / "journal.db", world=world, vfs=vfs)
    if disk is not None:  # real files, whose writes outlive us as without it
        journal._announcements = CallAnnouncements(f"{folder / 'journal.db'}-calls")
    workers = Workers(
        journal=journal,
        world=world,
        notes=notes,
        life=order.life,
        owner=order.owner or own_name(),
        seed=order.seed,
        agents=order.agents,
        pace=order.pace,
        claim_s=order.claim_s,
        enough=(folder / "enough").exists,
        take_over=not order.owner,
    )
    async with asyncio.TaskGroup() as group:  # whichever of them fails, the worker does
        if order.compact:
            group.create_task(compacting(order, world))
        await workers.work()
        await journal.close()


async def compacting(order: Order, world: World) -> None:
    """Press what has ended into small blocks, over and over, and make the file small; on
    connections of its own. Until enough is done, and all of it is."""
    blocks.BLOCK_CHARS = 3_000
    pressed = 0
    disk = Doomed("doomed-too", order.life, order.die_compacting, lambda: True)
    enough = Path(order.folder, "enough").exists
    over = False
    async with SQLiteJournal(Path(order.folder, "journal.db"), world=world, vfs=disk.name) as own:
        while not over:
            over = enough()
            try:
                done = await compact(own, before=world.time())
                pressed += 1
                if pressed % 4 == 0 and done.saved:
                    await own.vacuum()
            except JournalError as error:
                if not isinstance(error.__cause__, LOCKED):
                    raise
                over = False  # others kept writing: the next round does it
            await world.sleep(0.01)


def main() -> None:
    def live(order: dict[str, Any]) -> None:
        asyncio.run(work(Order(**{**order, "pace": Pace(**order["pace"])})))

    serve(live)


if __name__ == "__main__":
    main()
