"""A disk that loses its power: pictures of it, and what a cut at that moment leaves of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Generic, NamedTuple, TypeVar
from uuid import uuid4

import apsw

from tests.journal.disk import Disk, Platters

T = TypeVar("T")


class Picture(NamedTuple, Generic[T]):
    """The disk at one moment, and what was known then."""

    known: T
    files: dict[str, Platters]

    def develop(self, folder: Path, dice: Random) -> None:
        """The files as a cut at that moment leaves them."""
        folder.mkdir()
        for name, file in self.files.items():
            (folder / name).write_bytes(file.after_cut(dice))


class Power(Disk, Generic[T]):
    """Takes a picture of the disk before a share of its operations."""

    def __init__(self, dice: Random, share: float, known: Callable[[], T]) -> None:
        super().__init__(self.picture)
        self.dice = dice
        self.pictures: list[Picture[T]] = []
        self._share = share
        self._known = known

    def picture(self, what: str = "") -> None:
        if self.dice.random() < self._share:
            files = {name: file.copy() for name, file in self.files.items()}
            self.pictures.append(Picture(self._known(), files))


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
