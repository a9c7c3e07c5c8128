"""What a forked process must not touch: SQLite files that its parent had open.

SQLite remembers in memory which locks its process holds on a file. A fork inherits that memory, but
not the locks (https://sqlite.org/howtocorrupt.html, section 2.6): the child would write without
holding a lock, even through a connection of its own, and lose data. So in the child such a file is
refused, and connections that were open are neither used nor closed.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Final, Protocol
from weakref import WeakSet

from lorimer.journal.sqlite.faults import Inherited


class Held(Protocol):
    """A connection opened by this process."""

    def leave(self) -> tuple[int, int]:
        """This process inherited it from its parent. Returns the device and inode of its file."""
        ...


# Global to the process, as its locks are, whatever journals it opens.
_held: Final[WeakSet[Held]] = WeakSet()
"""Those to a file that are not closed."""
_kept_alive: Final[list[Held]] = []
"""Keeps these from being closed by garbage collection."""
_inherited_files: Final[set[tuple[int, int]]] = set()


def require_same_process(path: str) -> None:
    """Raises Inherited for a file that the parent of this process had open when it was forked."""
    if _inherited_files:
        try:
            found = os.stat(path)
        except OSError:
            return
        if (found.st_dev, found.st_ino) in _inherited_files:
            raise Inherited(path)


def hold(connection: Held) -> None:
    """Register a connection that has a file open, until `let_go`."""
    _watch_forks()
    _held.add(connection)


def let_go(connection: Held) -> None:
    """Called before it is closed. May be called twice."""
    _held.discard(connection)


@cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_in_child)


def _in_child() -> None:
    for each in list(_held):
        _inherited_files.add(each.leave())
        _kept_alive.append(each)
    _held.clear()
