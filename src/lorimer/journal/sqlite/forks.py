"""What a forked process leaves alone: SQLite's files that its parent had open.

SQLite remembers in memory which locks its process holds on a file. A fork inherits what is
remembered, and not the locks (https://sqlite.org/howtocorrupt.html, section 2.6): the child would
write where it holds nothing, also through a connection of its own, and lose what it was told is
there. So in the child such a file is refused, and what was open is neither used nor closed.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Final, Protocol
from weakref import WeakSet

from lorimer.journal.sqlite.faults import Inherited


class Held(Protocol):
    """A connection that this process has made."""

    def leave(self) -> tuple[int, int]:
        """This process has it from its parent. Gives the device and the number of its file."""
        ...


# Of the process, as its locks are: there is one of each, whatever journals it opens.
_held: Final[WeakSet[Held]] = WeakSet()
"""Those to a file that are not closed."""
_kept_alive: Final[list[Held]] = []
"""None of these may be closed by being collected."""
_inherited_files: Final[set[tuple[int, int]]] = set()


def require_same_process(path: str) -> None:
    """Raises Inherited for a file that was open in the parent of this process when it was
    forked."""
    if _inherited_files:
        try:
            found = os.stat(path)
        except OSError:
            return
        if (found.st_dev, found.st_ino) in _inherited_files:
            raise Inherited(path)


def hold(connection: Held) -> None:
    """It has a file open from now on, until `let_go`."""
    _watch_forks()
    _held.add(connection)


def let_go(connection: Held) -> None:
    """It is about to be closed. Twice is fine."""
    _held.discard(connection)


@cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_in_child)


def _in_child() -> None:
    for each in list(_held):
        _inherited_files.add(each.leave())
        _kept_alive.append(each)
    _held.clear()
