"""A disk that loses its power: what it leaves then.

Every write reaches the real file, and a model of the disk beside it: a file's durable bytes, and
the writes since its last fsync. A cut keeps any of those, in any order, some of them torn.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import uuid4

import apsw

T = TypeVar("T")

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


class Picture(NamedTuple, Generic[T]):
    """The disk at one moment, and what was known then."""

    known: T
    files: dict[str, Platters]

    def develop(self, folder: Path, dice: Random) -> None:
        """The files as a cut at that moment leaves them."""
        folder.mkdir()
        for name, file in self.files.items():
            (folder / name).write_bytes(file.after_cut(dice))


class Power(apsw.VFS, Generic[T]):
    """Takes a picture of the disk before a share of its operations."""

    def __init__(self, dice: Random, share: float, known: Callable[[], T]) -> None:
        self.name = f"power-{uuid4()}"
        self.dice = dice
        self.files: dict[str, Platters] = {}
        self.pictures: list[Picture[T]] = []
        self._share = share
        self._known = known
        super().__init__(self.name, "")

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        return _File(self, self.files.setdefault(Path(path).name, Platters()), name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: N802 - apsw's name
        self.files.pop(Path(name).name, None)
        super().xDelete(name, syncdir)

    def picture(self) -> None:
        if self.dice.random() < self._share:
            files = {name: file.copy() for name, file in self.files.items()}
            self.pictures.append(Picture(self._known(), files))


class _File(apsw.VFSFile):
    def __init__(self, power: Power[Any], file: Platters, name: object, flags: list[int]) -> None:
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
