"""The write-ahead log of a journal file, fsynced separately from SQLite.

SQLite can fsync it only as a part of a commit (synchronous=FULL), and holds the file's only write
lock meanwhile: every other commit would wait for the disk.
"""

from __future__ import annotations

import os
import sys
from typing import Final, Protocol, cast

import apsw

flush = os.fdatasync if sys.platform == "linux" else os.fsync  # as SQLite does


class _File(Protocol):
    """The part of an apsw.VFSFile that is used."""

    def xSync(self, flags: int) -> None: ...  # noqa: N802 - apsw's name
    def xClose(self) -> None: ...  # noqa: N802 - apsw's name


class WriteAheadLog:
    """The file at `path` ("": none, the database is in memory), opened at its first sync. It must
    exist by then, and nobody removes it as long as a connection has the database open.

    SQLite has no locks on it, so that another descriptor does no harm.
    """

    _FLAGS: Final = [apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE, 0]

    def __init__(self, path: str, vfs: str | None) -> None:
        self._path, self._vfs = path, vfs
        self._file: _File | None = None
        self._descriptor = -1

    def sync(self) -> None:
        """When this returns, everything that was in the log before survives a power failure.
        Blocks, without holding the GIL unless there is a VFS. Raises OSError or apsw.Error."""
        if not self._path:
            return
        if self._vfs is not None:
            if self._file is None:
                self._file = cast(_File, apsw.VFSFile(self._vfs, self._path, self._FLAGS))
            self._file.xSync(apsw.SQLITE_SYNC_NORMAL)
            return
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        flush(self._descriptor)

    def close(self) -> None:
        """May be called twice."""
        file, self._file = self._file, None
        if file is not None:
            file.xClose()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
