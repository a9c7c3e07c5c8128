"""Announcements of unsafe calls whose intent is not synced yet. One that outlives its process shows
that the process died while it waited for the fsync, so the call cannot have begun.

A file next to the journal's, `...-calls`, with a few places, each empty or an announcement:

    16 bytes   digest of the machine and its boot, and of the intent with its microsecond
    12 bytes   the process: its pid and start time

A process writes its announcement before the intent, and withdraws it before it makes the call. The
announcement survives the process, as the file's pages belong to the kernel. After a power failure
it is unknown which writes reached the disk: then the digest of the machine differs, and nothing
matches. Any other problem, such as two processes in one place or a lost file, only loses
announcements: then it is unknown whether the call has begun, as without this file.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from struct import Struct
from typing import Final

from lorimer.core.errors import JournalError
from lorimer.core.events import Event
from lorimer.journal.codec import micros
from lorimer.world import lives

PLACES: Final = 512
"""How many calls can wait for their fsync at a time; nothing is known about further ones."""

_PLACE: Final = Struct("<16sIQ")
_EMPTY: Final = bytes(_PLACE.size)


class CallAnnouncements:
    """The announcements beside one journal file. `path` "": there are none."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._machine: str | None = None if path else ""
        """Identifies the machine since its start; "": not known, so nothing is announced; None: not
        looked up yet."""
        self._file = -1
        self._free: list[int] = []
        self._start = 0
        self._closed = False

    def announce(self, intent: Event) -> int:
        """Announce the call of this intent, before that is appended. Returns its place, for
        `withdraw`; below 0: no place is free, and nothing is announced. About 2 us."""
        try:
            here = self._this_machine()
            if not here or self._closed:
                return -1
            if self._file < 0:
                self._open()
            place = self._free.pop()
        except (OSError, IndexError):
            return -1
        body = _PLACE.pack(_digest(here, intent), os.getpid(), self._start)
        try:
            os.pwrite(self._file, body, place * _PLACE.size)
        except OSError:  # a full disk
            self._free.append(place)
            return -1
        return place

    def withdraw(self, place: int) -> None:
        """Remove an announcement, before the call is made or when there will be none. Raises
        JournalError: then the call must not be made."""
        if place < 0:
            return
        try:
            os.pwrite(self._file, _EMPTY, place * _PLACE.size)
        except OSError as error:
            raise JournalError(
                f"{self._path} cannot be written: {error}", hint="Check the disk.", cause=error
            ) from error
        self._free.append(place)
        if self._closed:
            self.close()

    def never_began(self, intent: Event) -> bool:
        """Whether the process that recorded this intent is dead, and had not continued to the call.
        False: unknown."""
        here = self._this_machine()
        if not here:
            return False
        wanted = _digest(here, intent)
        for digest, pid, start in self._table():
            if digest == wanted and lives.fate(pid, str(start)) == "gone":
                # again: it may have continued between the first look and its death
                return (digest, pid, start) in self._table()
        return False

    def close(self) -> None:
        """Close the file as soon as no announcement is left. May be called twice."""
        self._closed = True
        if self._file >= 0 and len(self._free) == PLACES:
            os.close(self._file)
            self._file = -1

    def _this_machine(self) -> str:
        if self._machine is None:
            start = lives.started(os.getpid())
            self._machine = lives.place() if start.isdecimal() else ""
            self._start = int(start) if start.isdecimal() else 0
        return self._machine

    def _table(self) -> list[tuple[bytes, int, int]]:
        try:
            with open(self._path, "rb") as file:
                table = file.read(PLACES * _PLACE.size)
        except OSError:
            return []
        return list(_PLACE.iter_unpack(table[: len(table) - len(table) % _PLACE.size]))

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self._path, flags, 0o600)
        taken = {at for at, (_, pid, _) in enumerate(self._table()) if pid}
        # free ones first, each process starting at another one; then abandoned ones
        first = os.getpid() * 61
        order = [(first + at) % PLACES for at in range(PLACES)]
        self._free = sorted(order, key=lambda at: at not in taken)


def _digest(here: str, intent: Event) -> bytes:
    what = (here, intent.run_id, intent.iteration, intent.data.get("key"))
    text = f"{what} {micros(intent.time)}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
