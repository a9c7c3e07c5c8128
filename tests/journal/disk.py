"""A disk to break: it tells of every write before it is made, and models what a loss of power
leaves of it.

Every write reaches the real file, and a model of the disk beside it: a file's durable bytes, and
the writes since its last fsync.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from uuid import uuid4

import apsw

SECTOR = 512


class Platters:
    """What is on the disk of one file, and what is only on its way."""

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = bytearray(durable)
        self.pending: list[tuple[int, bytes | None]] = []

    def after_cut(self, dice: Random) -> bytes:
        """The durable bytes and any of the others, in any order, some of them torn."""
        image = bytearray(self.durable)
        kept = [op for op in self.pending if dice.random() < 0.5]
        dice.shuffle(kept)
        for offset, data in kept:
            if data is not None and dice.random() < 0.3:
                data = data[: dice.randrange(0, len(data) + 1, SECTOR)]
            _put(image, offset, data)
        return bytes(image)

    def write(self, data: bytes, offset: int) -> None:
        self.pending.append((offset, bytes(data)))

    def truncate(self, size: int) -> None:
        self.pending.append((size, None))

    def sync(self) -> None:
        for offset, data in self.pending:
            _put(self.durable, offset, data)
        self.pending.clear()

    def copy(self) -> Platters:
        other = Platters(self.durable)
        other.pending = list(self.pending)
        return other


def _put(image: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del image[offset:]
        return
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


class Disk(apsw.VFS):
    """The files of one folder. `before(what)` is called before each write, truncation and fsync,
    and raises what that shall fail with."""

    def __init__(self, before: Callable[[str], None]) -> None:
        self.name = f"disk-{uuid4()}"
        self.before = before
        self.files: dict[str, Platters] = {}
        self.dead = False
        """Its process is: what it still writes goes nowhere."""
        super().__init__(self.name, "")

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else str(name))
        if path.name not in self.files:
            self.files[path.name] = Platters(path.read_bytes() if path.exists() else b"")
        return _File(self, self.files[path.name], path.name, name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: N802 - apsw's name
        if not self.dead:
            self.files.pop(Path(name).name, None)
            super().xDelete(name, syncdir)


class _File(apsw.VFSFile):
    def __init__(
        self, disk: Disk, file: Platters, path: str, name: object, flags: list[int]
    ) -> None:
        self._disk, self._file = disk, file
        self._kind = "log" if path.endswith("-wal") else "file"
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        if self._goes_on("write"):
            self._file.write(data, offset)
            super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802 - apsw's name
        if self._goes_on("truncate"):
            self._file.truncate(size)
            super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        if self._goes_on("sync"):
            self._file.sync()  # and no real fsync: the model has it

    def _goes_on(self, what: str) -> bool:
        if not self._disk.dead:
            self._disk.before(f"{what} {self._kind}")
        return not self._disk.dead
