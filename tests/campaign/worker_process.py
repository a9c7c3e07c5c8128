"""A process to be killed. It prepares itself, waits for a line on stdin that says what to do, and
works. It ends by itself only when it is told that enough is done."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

import apsw

from lorimer.cli.owner import own_name
from lorimer.journal import SQLiteJournal
from lorimer.testing.marks import Mark, MarkFile
from lorimer.world import RealWorld
from tests.campaign.workers import Pace, Workers


@dataclass
class Order:
    """What one process is to do."""

    folder: str
    life: int
    seed: int
    agents: int
    pace: list[object]
    owner: str = ""
    """Default: as the command line names itself."""
    claim_s: float = 30.0
    die_at: int = 0
    """Kill itself at that write or sync of the journal's files; 0: never."""


class Doomed(apsw.VFS):
    """The real disk, until the moment: then the process is killed before, or after, a write."""

    def __init__(self, order: Order) -> None:
        self.left = order.die_at
        self.after = Random(order.die_at).random() < 0.5
        super().__init__("doomed", "")

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        return _DoomedFile(self, name, flags)

    def count(self, *, after: bool) -> None:
        if after == self.after:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)


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
    vfs = Doomed(order).name if order.die_at else None  # type: ignore[attr-defined]
    journal = SQLiteJournal(folder / "journal.db", world=world, vfs=vfs)
    notes = MarkFile(folder / "marks")
    notes.append(Mark("born", order.life))
    turns, model_s, runs, slow = order.pace
    workers = Workers(
        journal=journal,
        world=world,
        notes=notes,
        life=order.life,
        owner=order.owner or own_name(),
        seed=order.seed,
        agents=order.agents,
        pace=Pace(tuple(turns), tuple(model_s), runs, slow),  # type: ignore[arg-type]
        claim_s=order.claim_s,
        enough=(folder / "enough").exists,
        take_over=not order.owner,
    )
    await workers.work()
    await journal.close()


def main() -> None:
    print("ready", flush=True)
    line = sys.stdin.readline()
    if line:
        asyncio.run(work(Order(**json.loads(line))))


if __name__ == "__main__":
    main()
