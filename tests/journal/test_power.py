"""What a loss of power leaves: everything before the last synced append, and no damage.

Every write reaches the real file, and a model of the disk beside it: a file's durable bytes, and
the writes since its last fsync. A cut keeps any of those, in any order, some of them torn.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from uuid import uuid4

import apsw
import pytest

from lorimer.core.journal import LedgerEntry
from lorimer.journal import SQLiteJournal
from lorimer.journal import writer as writer_module
from tests.journal.support import Clock, facts_of, note, start

CAMPAIGN = bool(os.environ.get("LORIMER_CAMPAIGN"))
SEEDS = range(100) if CAMPAIGN else [1, 2, 3, Random().randrange(10**6)]
SECTOR = 512


class Platters:
    """What is on the disk of one file, and what is only on its way."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.pending: list[tuple[int, bytes | None]] = []

    def after_cut(self, dice: Random) -> bytes:
        image = bytearray(self.durable)
        kept = [op for op in self.pending if dice.random() < 0.5]
        dice.shuffle(kept)
        for offset, data in kept:
            if data is not None and dice.random() < 0.3:
                data = data[: dice.randrange(0, len(data) + 1, SECTOR)]
            put(image, offset, data)
        return bytes(image)

    def copy(self) -> Platters:
        other = Platters()
        other.durable, other.pending = bytearray(self.durable), list(self.pending)
        return other


def put(image: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del image[offset:]
        return
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


class Power(apsw.VFS):
    """Takes a picture of the disk now and then, before an operation."""

    def __init__(self, dice: Random) -> None:
        self.name = f"power-{uuid4()}"
        self.dice = dice
        self.files: dict[str, Platters] = {}
        self.pictures: list[tuple[int, int, dict[str, Platters]]] = []
        self.synced = self.begun = 0
        super().__init__(self.name, "")

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        return _File(self, self.files.setdefault(Path(path).name, Platters()), name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: N802 - apsw's name
        self.files.pop(Path(name).name, None)
        super().xDelete(name, syncdir)

    def picture(self) -> None:
        if self.dice.random() < 0.08:
            files = {name: file.copy() for name, file in self.files.items()}
            self.pictures.append((self.synced, self.begun, files))


class _File(apsw.VFSFile):
    def __init__(self, power: Power, file: Platters, name: object, flags: list[int]) -> None:
        self._power, self._file = power, file
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        self._power.picture()
        self._file.pending.append((offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802 - apsw's name
        self._file.pending.append((size, None))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        self._power.picture()
        for offset, data in self._file.pending:
            put(self._file.durable, offset, data)
        self._file.pending.clear()  # and no real fsync: the model has it


class Quick(apsw.VFS):
    """The real disk without fsyncs, to look at what a cut left."""

    def __init__(self) -> None:
        self.name = f"quick-{uuid4()}"
        super().__init__(self.name, "")

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        return _Unsynced("", name, flags)


class _Unsynced(apsw.VFSFile):
    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        pass


@pytest.fixture
def power(request: pytest.FixtureRequest) -> Iterator[Power]:
    power = Power(Random(request.param))
    yield power
    power.unregister()


@pytest.mark.parametrize("power", SEEDS, indirect=True, ids=str)
def test_what_was_synced_survives_any_cut(
    power: Power, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "CHECKPOINT_PAGES", 24)
    dice, clock = power.dice, Clock()
    path = tmp_path / "journal.db"

    async def live() -> None:
        journal = SQLiteJournal(path, world=clock, threads=False, vfs=power.name)
        epoch = await journal.claim("s", "me", 30)
        for number in range(1, 121):
            sync = dice.random() < 0.3
            row = [note(str(number))] if number > 1 else [start()]
            power.begun = number
            entry = LedgerEntry("a", 1) if dice.random() < 0.3 else None
            await journal.append("s", epoch, row, sync=sync, ledger=entry)
            if sync:
                power.synced = number
        await journal.close()

    asyncio.run(live())
    assert len(power.pictures) > 20
    quick = Quick()
    for index, (synced, begun, files) in enumerate(power.pictures):
        cut = tmp_path / str(index)
        cut.mkdir()
        for name, file in files.items():
            (cut / name).write_bytes(file.after_cut(dice))
        asyncio.run(check(cut / path.name, synced, begun, clock, quick.name))
    quick.unregister()


async def check(path: Path, synced: int, begun: int, clock: Clock, vfs: str) -> None:
    journal = SQLiteJournal(path, world=clock, threads=False, vfs=vfs)
    seqs = [fact.seq for fact in await facts_of(journal, "s")]
    assert seqs == list(range(1, len(seqs) + 1))
    assert synced <= len(seqs) <= begun
    await journal.close()
    db = apsw.Connection(str(path))
    assert db.execute("PRAGMA integrity_check").get == "ok"
    db.close()
